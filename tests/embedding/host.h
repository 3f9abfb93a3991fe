/* A program that embeds Python and calls sprint_entry, in the way of Sprint: for tests that RASR is not needed for.
 *
 *   host.c       the command line, the four ways, the order of the calls
 *   embedding.c  Python's beginning and end, calls by keyword, what happens when Python raises
 *   callback.c   what Python may ask: the criterion, orthographies, automata
 *   matrices.c   matrices across the border, as numpy arrays
 *   ctc.c        the criterion
 *   scorer.c     what a recogniser asks of its feature scorer
 *   notes.c      where matrices lie, who still holds a reference, how much memory there is
 *
 * Like Sprint it uses one thread, and holds no lock of Python's between two calls.
 */
#ifndef HOST_H
#define HOST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* --- host.c */

typedef struct {
    char *name;    /* full segment name */
    int frames;
    char *speaker; /* NULL: none */
    char *orthography;
} segment;

extern segment *corpus;
extern int corpus_size;

/* The last `--*.name=value` of the command line. */
const char *option(const char *name, const char *fallback);
bool is_set(const char *name);
const segment *find_segment(const char *name); /* NULL: there is none */

/* Calls visitor for each segment in the order that the options ask for, with no lock of Python's held. */
void visit_corpus(void (*visitor)(const segment *, void *), void *context);

/* --- embedding.c: all but start_python want Python's lock (PyGILState_Ensure). */

void start_python(void); /* once; the lock is free afterwards, and Python ends with the process */
void end_python(void);
PyObject *import_module(const char *path, const char *name);

/* owner.method(**arguments); the arguments as Py_BuildValue takes a dict. NULL: Python raised. */
PyObject *call(PyObject *owner, const char *method, const char *arguments, ...);
/* Likewise, and what it returns does not matter; ends the process where Python raises. */
void call_and_forget(PyObject *owner, const char *method, const char *arguments, ...);

/* Prints Python's exception, if there is one, and ends the process: exit code 1, or that of SystemExit. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* SIGABRT, as a failed assertion. */
_Noreturn void fail_assertion(const char *what);

/* --- callback.c */

extern bool controlled_by_python; /* in run_control_loop */
PyObject *new_callback(PyObject *reference);
/* Loss and (label,time) error signal; false: the segment is discarded. */
bool criterion(const float *posteriors, int labels, int frames, const char *orthography, float *loss, float *error_signal);

/* --- matrices.c: (rows,columns), column after column. */

void start_numpy(void);
/* A new array that numpy allocates, filled with one memcpy. Zeros where there are no values. */
PyObject *to_python(const float *values, int rows, int columns);
/* What Python gave, as a new matrix, to be freed; ends the process where it is no matrix. */
float *from_python(PyObject *array, const char *what, int *rows, int *columns);
/* A copy with another dtype or layout, as no Sprint hands out: "float64", "c-order", "transposed". */
PyObject *odd_matrix(const char *kind, const float *values, int rows, int columns);
const void *address_of(PyObject *array);
/* The same for vectors; of the one that Python gave, the size is known. */
PyObject *vector_to_python(const float *values, int size);
void vector_from_python(PyObject *array, const char *what, float *values, int size);

/* --- ctc.c */

/* CTC over the labels of a sequence. False: no path is long enough or possible. */
bool ctc(const float *log_posteriors, int labels, int frames, const int *sequence, int length, int blank,
         double *loss, float *error_signal);

/* --- scorer.c */

/* Scores the corpus, as a recogniser does, with the object that init() gave. */
void score_corpus(PyObject *scorer);

/* --- notes.c: lines of JSON in the file of host.notes, if that is set. */

void note_matrices(const char *name, const void *posteriors, const void *error_signal);
void watch_reference(PyObject *object); /* the host keeps a reference until the segment is done */
void note_segment_done(void);           /* whether anybody else holds one now, and what memory there is */

#endif
