/* The embedded Python: its start, its end, and calls to it. */
#include "host.h"

#include <stdarg.h>

static void at_exit(void) {
    if (!Py_IsInitialized())
        return;
    PyGILState_Ensure();
    Py_Finalize();
}

void start_python(void) {
    if (Py_IsInitialized())
        return;
    if (option("python-home", NULL) != NULL)
        setenv("PYTHONHOME", option("python-home", NULL), 1);
    Py_InitializeEx(0); /* without Python's signal handlers */
    atexit(at_exit);
    start_numpy();
    PyEval_SaveThread();
}

void end_python(void) {
    at_exit();
}

PyObject *import_module(const char *path, const char *name) {
    if (*path != '\0') {
        PyObject *sys_path = PySys_GetObject("path"); /* borrowed */
        PyObject *item = PyUnicode_DecodeFSDefault(path);
        if (sys_path == NULL || item == NULL || PyList_Insert(sys_path, 0, item) != 0)
            fail("%s cannot be put on sys.path", path);
        Py_DECREF(item);
    }
    PyObject *module = PyImport_ImportModule(name);
    if (module == NULL)
        fail("cannot import module '%s'", name);
    return module;
}

static PyObject *call_with(PyObject *owner, const char *method, const char *arguments, va_list values) {
    PyObject *function = PyObject_GetAttrString(owner, method);
    PyObject *nothing = PyTuple_New(0);
    PyObject *keywords = Py_VaBuildValue(arguments, values);
    PyObject *result = NULL;
    if (function != NULL && nothing != NULL && keywords != NULL)
        result = PyObject_Call(function, nothing, keywords);
    Py_XDECREF(function);
    Py_XDECREF(nothing);
    Py_XDECREF(keywords);
    return result;
}

PyObject *call(PyObject *owner, const char *method, const char *arguments, ...) {
    va_list values;
    va_start(values, arguments);
    PyObject *result = call_with(owner, method, arguments, values);
    va_end(values);
    return result;
}

void call_and_forget(PyObject *owner, const char *method, const char *arguments, ...) {
    va_list values;
    va_start(values, arguments);
    PyObject *result = call_with(owner, method, arguments, values);
    va_end(values);
    if (result == NULL)
        fail("%s() failed", method);
    Py_DECREF(result);
}

void fail(const char *format, ...) {
    if (Py_IsInitialized() && PyErr_Occurred())
        PyErr_Print(); /* does not return after a SystemExit */
    va_list values;
    va_start(values, format);
    fprintf(stderr, "host: PYTHON ERROR: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, "\nhost: exiting...\n");
    va_end(values);
    exit(1);
}

void fail_assertion(const char *what) {
    fprintf(stderr, "host: assertion failed: %s\n", what);
    fflush(NULL);
    abort();
}
