/* Runs files through a fuzz target, where there is no libFuzzer: replay FILE... */
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
        uint8_t *data = malloc(size + 1); /* a copy of exactly its size, so that ASan sees its end */
        uint8_t *exact = malloc(size);
        if (fread(data, 1, size, file) != size) {
            perror(argv[i]);
            return 1;
        }
        if (size > 0)
            memcpy(exact, data, size);
        fclose(file);
        free(data);
        fprintf(stderr, "%s\n", argv[i]); /* the last one named is the one at fault */
        alarm(60);                        /* ends a run that does not end */
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%d inputs passed\n", argc - 1);
    return 0;
}
