/* Runs a fuzz target on files, without libFuzzer: replay FILE... */
#include "input.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
            perror(argv[i]);
            return 1;
        }
        size_t size = (size_t)ftell(file);
        rewind(file);
        uint8_t *data = malloc(size); /* of exactly the size, so that ASan detects reads beyond the end */
        if (fread(data, 1, size, file) != size) {
            perror(argv[i]);
            return 1;
        }
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]); /* the last printed name is that of a failing input */
        alarm(60);                        /* ends an endless run */
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%d inputs passed\n", argc - 1);
    return 0;
}
