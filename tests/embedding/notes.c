/* Observations that only the host can make, as lines of JSON in the file host.notes. */
#include "host.h"

#include <unistd.h>

static PyObject **watched;
static int n_watched, room;
static long segments, held_elsewhere;

static FILE *notes(void) {
    static FILE *file;
    if (file == NULL && option("host.notes", NULL) != NULL) {
        file = fopen(option("host.notes", NULL), "w");
        if (file == NULL)
            fail_assertion("the file of host.notes can be written");
        setlinebuf(file);
    }
    return file;
}

/* Returns the offset of an address in its mapping of shared memory; -1 if it is in none. */
static long place_of(const void *pointer) {
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end, offset, address = (unsigned long)pointer;
    long place = -1;
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && start <= address && address < end &&
            strstr(line, "/memfd:shmbridge") != NULL)
            place = (long)(address - start + offset);
    if (maps != NULL)
        fclose(maps);
    return place;
}

void note_matrices(const char *name, const void *posteriors, const void *error_signal) {
    if (notes() != NULL && is_set("host.places"))
        fprintf(notes(), "{\"name\": \"%s\", \"posteriors\": %ld, \"error_signal\": %ld}\n", name ? name : "",
                place_of(posteriors), place_of(error_signal));
}

void watch_reference(PyObject *object) {
    if (option("host.measure-every", NULL) == NULL)
        return; /* the child copies an error signal that Sprint keeps */
    if (n_watched == room) {
        room = 2 * room + 16; /* a scored segment has an object for each frame */
        watched = realloc(watched, sizeof *watched * (size_t)room);
        if (watched == NULL)
            fail_assertion("there is memory for what is watched");
    }
    Py_INCREF(object);
    watched[n_watched++] = object;
}

static long of_python(const char *module_name, const char *function) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *result = module == NULL ? NULL : call(module, function, "{}");
    if (result == NULL)
        fail("%s.%s()", module_name, function);
    long number = PyList_Check(result) ? (long)PyList_Size(result) : PyLong_AsLong(result);
    Py_DECREF(module);
    Py_DECREF(result);
    return number;
}

static long resident_kb(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1)
        fail_assertion("/proc/self/statm can be read");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

void note_segment_done(void) {
    while (n_watched > 0) {
        PyObject *object = watched[--n_watched];
        held_elsewhere += Py_REFCNT(object) - 1;
        Py_DECREF(object);
    }
    segments++;
    long every = atol(option("host.measure-every", "0"));
    if (notes() == NULL || every == 0 || segments % every != 0)
        return;
    /* CPython caches attribute lookups by the address of the name. A name made for one call, as PyObject_CallMethod
     * makes it, stays there until another takes its place: some thousand strings. This is not a leak. */
    PyType_ClearCache();
    of_python("gc", "collect");
    fprintf(notes(), "{\"segments\": %ld, \"held_elsewhere\": %ld, \"objects\": %ld, \"blocks\": %ld, \"kb\": %ld}\n",
            segments, held_elsewhere, of_python("gc", "get_objects"), of_python("sys", "getallocatedblocks"),
            resident_kb());
}
