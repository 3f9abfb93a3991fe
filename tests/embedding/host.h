/* A program that embeds Python and calls sprint_entry as Sprint does, for tests without RASR.
 *
 *   host.c       the command line, the four ways, the order of the calls
 *   embedding.c  start and end of Python, calls by keyword, Python's exceptions
 *   callback.c   the callback: the criterion, orthographies, automata
 *   matrices.c   conversion of matrices to and from NumPy arrays
 *   ctc.c        the criterion
 *   scorer.c     a recogniser's calls to its feature scorer
 *   notes.c      the addresses of matrices, references that remain, the use of memory
 *
 * Like Sprint, it uses one thread and releases the GIL between two calls.
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
    char *speaker; /* NULL if none */
    char *orthography;
} segment;

extern segment *corpus;
extern int corpus_size;

/* Returns the value of the last `--*.name=value` on the command line. */
const char *option(const char *name, const char *fallback);
bool is_set(const char *name);
const segment *find_segment(const char *name); /* NULL if there is none */

/* Calls visitor for each segment, in the order of the options, without the GIL. */
void visit_corpus(void (*visitor)(const segment *, void *), void *context);

/* --- embedding.c: all but start_python need the GIL (PyGILState_Ensure). */

void start_python(void); /* call once; releases the GIL */
void end_python(void);
PyObject *import_module(const char *path, const char *name);

/* Returns owner.method(**arguments), or NULL if Python raised. Py_BuildValue makes the dict of arguments. */
PyObject *call(PyObject *owner, const char *method, const char *arguments, ...);
/* Likewise, but ignores the result, and ends the process if Python raised. */
void call_and_forget(PyObject *owner, const char *method, const char *arguments, ...);

/* Prints Python's exception, if any, and ends the process with exit code 1, or with that of SystemExit. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the process with SIGABRT, as a failed assertion does. */
_Noreturn void fail_assertion(const char *what);

/* --- callback.c */

extern bool controlled_by_python; /* whether run_control_loop runs */
PyObject *new_callback(PyObject *reference);
/* Computes loss and (label,time) error signal; returns false if the segment is discarded. */
bool criterion(const float *posteriors, int labels, int frames, const char *orthography, float *loss,
               float *error_signal);

/* --- matrices.c: matrices are (rows,columns), column by column. */

void start_numpy(void);
/* Returns a new array that NumPy allocates, filled with one memcpy; zeros if values is NULL. */
PyObject *to_python(const float *values, int rows, int columns);
/* Returns a copy of Python's array, for the caller to free; ends the process if it is not a matrix. */
float *from_python(PyObject *array, const char *what, int *rows, int *columns);
/* Returns a copy with a dtype or layout that Sprint never uses: "float64", "c-order", "transposed". */
PyObject *odd_matrix(const char *kind, const float *values, int rows, int columns);
const void *address_of(PyObject *array);
/* The same for vectors of a given size. */
PyObject *vector_to_python(const float *values, int size);
void vector_from_python(PyObject *array, const char *what, float *values, int size);

/* --- ctc.c */

/* Computes CTC over a sequence of labels; returns false if there is no path of this length. */
bool ctc(const float *log_posteriors, int labels, int frames, const int *sequence, int length, int blank,
         double *loss, float *error_signal);

/* --- scorer.c */

/* Scores the corpus, as a recogniser does, with the object that init() returned. */
void score_corpus(PyObject *scorer);

/* --- notes.c: lines of JSON in the file host.notes, if that option is set. */

void note_matrices(const char *name, const void *posteriors, const void *error_signal);
void watch_reference(PyObject *object); /* the host keeps a reference until the segment is done */
void note_segment_done(void);           /* notes the references that remain, and the use of memory */

#endif
