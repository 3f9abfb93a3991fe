/* What Python holds of a ring: its end, claims and received records, and numpy arrays over and into them.
 *
 * These run several times for each segment, and a segment may take no longer than a few microseconds in all:
 * written against CPython and numpy, each is one call. All else that Python needs of C goes through cffi.
 * Both are in one shared library, whose second module is this, shmbridge._ring.
 *
 * An array's base is a Held, which holds the ring end: so a record's place is not used anew while an array views
 * it, and the memory stays mapped. What a record shows is copied when it is received.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#include "shmbridge.h"

/* --- End: one process' end of a ring, as the base class of shmbridge.ring.RingEnd */

typedef struct {
    PyObject_HEAD
    shmb_ring_end *ring;
} End;

/* --- Held: a place in the ring that is kept for arrays */

typedef struct {
    PyObject_HEAD
    shmb_ring_end *ring;
    uint64_t position;
    void (*let_go)(shmb_ring_end *end, uint64_t position, void *matrix);
} Held;

static void held_dealloc(Held *self) {
    self->let_go(self->ring, self->position, NULL);
    shmb_ring_free(self->ring);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject held_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.Held",
    .tp_doc = "A place in a ring that is not used anew while this is there: the base of arrays.",
    .tp_basicsize = sizeof(Held),
    .tp_dealloc = (destructor)held_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

static Held *hold(shmb_ring_end *ring, uint64_t position, void (*let_go)(shmb_ring_end *, uint64_t, void *)) {
    Held *held = PyObject_New(Held, &held_type);
    if (held == NULL)
        return NULL;
    shmb_ring_retain(ring);
    held->ring = ring;
    held->position = position;
    held->let_go = let_go;
    return held;
}

static int numpy_type(uint32_t dtype) {
    switch (dtype) {
    case SHMB_UINT32: return NPY_UINT32;
    case SHMB_UINT8: return NPY_UINT8;
    case SHMB_FLOAT64: return NPY_FLOAT64;
    default: return NPY_FLOAT32;
    }
}

/* A (rows, columns) array over the matrix; takes over the reference to its base. */
static PyObject *view(Held *held, const shmb_record *record) {
    npy_intp shape[2] = {(npy_intp)record->rows, (npy_intp)record->columns};
    PyObject *array = PyArray_New(&PyArray_Type, 2, shape, numpy_type(record->dtype), NULL, record->matrix, 0,
                                  NPY_ARRAY_CARRAY, NULL);
    if (array == NULL) {
        Py_DECREF(held);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, (PyObject *)held) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* The exception for a result that is not SHMB_OK: RingEnd, in Python, knows the words. */
static PyObject *fail(End *end, int result) {
    PyObject *none = PyObject_CallMethod((PyObject *)end, "_raise", "i", result);
    if (none != NULL) {
        Py_DECREF(none);
        PyErr_Format(PyExc_SystemError, "result %d of the ring raised nothing [ring-corrupt]", result);
    }
    return NULL;
}

/* The number, which may be one of numpy's; 0 and an exception where it is none, or not from `least` to `most`. */
static int take_number(PyObject *object, const char *what, unsigned long long least, unsigned long long most,
                       unsigned long long *number) {
    PyObject *index = PyNumber_Index(object);
    if (index == NULL)
        return 0;
    *number = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if (*number == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    if (*number < least || *number > most) {
        PyErr_Format(PyExc_ValueError, "%s is %llu; it can be from %llu to %llu [bad-call]", what, *number, least, most);
        return 0;
    }
    return 1;
}

/* --- Claim */

typedef struct {
    PyObject_HEAD
    End *end;
    shmb_record record;
    char open;
    char expecting; /* numpy's next array of this size, in this thread, is to be the matrix */
    Held *held; /* from when `matrix` is asked for until the claim is finished; arrays keep it longer */
} Claim;

static void stop_expecting(Claim *self) {
    if (self->expecting)
        shmb_landing_stop(self->end->ring, self->record.position);
    self->expecting = 0;
}

static void claim_dealloc(Claim *self) {
    stop_expecting(self);
    if (self->open)
        shmb_ring_abort(self->end->ring, self->record.position);
    Py_XDECREF(self->held);
    Py_DECREF(self->end);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *claim_matrix(Claim *self, void *closure) {
    (void)closure;
    if (!self->open)
        return fail(self->end, SHMB_BAD_SPAN);
    if (self->held == NULL) {
        int anchored = shmb_ring_anchor(self->end->ring, self->record.position);
        if (anchored != SHMB_OK)
            return fail(self->end, anchored);
        self->held = hold(self->end->ring, self->record.position, shmb_ring_unanchor);
        if (self->held == NULL) {
            shmb_ring_unanchor(self->end->ring, self->record.position, NULL);
            return NULL;
        }
    }
    Py_INCREF(self->held);
    return view(self->held, &self->record);
}

static PyObject *claim_shape(Claim *self, void *closure) {
    (void)closure;
    return Py_BuildValue("(II)", self->record.rows, self->record.columns);
}

static PyObject *finish(Claim *self, int result) {
    if (result != SHMB_OK)
        return fail(self->end, result);
    stop_expecting(self);
    self->open = 0;
    Py_CLEAR(self->held);
    Py_RETURN_NONE;
}

static PyObject *claim_commit(Claim *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    unsigned long long status = SHMB_ANSWERED, states = 0;
    double loss = 0;
    if (n_arguments > 3)
        return PyErr_Format(PyExc_TypeError, "commit takes status, loss, states, and got %zd arguments [bad-call]", n_arguments);
    if (n_arguments > 0 && !take_number(arguments[0], "status", SHMB_ANSWERED, SHMB_FAILED, &status))
        return NULL;
    if (n_arguments > 1) {
        loss = PyFloat_AsDouble(arguments[1]);
        if (loss == -1 && PyErr_Occurred())
            return NULL;
    }
    if (n_arguments > 2 && !take_number(arguments[2], "states", 0, UINT64_MAX, &states))
        return NULL;
    return finish(self, shmb_ring_commit(self->end->ring, self->record.position, (uint32_t)status, loss, states));
}

static PyObject *claim_abort(Claim *self, PyObject *unused) {
    (void)unused;
    return finish(self, shmb_ring_abort(self->end->ring, self->record.position));
}

/* Puts our allocation handler (landing.c) before numpy's in the current context (PEP 567), where it stays. A thread
 * may have many, and each its own handler: one that is not the one before ours is somebody's, and left alone. */
static int install_landing(void) {
    static PyObject *before, *ours; /* never freed: arrays that ours allocated may outlive all else */
    PyObject *current = PyDataMem_GetHandler();
    if (current == NULL)
        return 0;
    if (ours == NULL) {
        const void *inner = PyCapsule_GetPointer(current, "mem_handler");
        if (inner != NULL)
            ours = PyCapsule_New((void *)(uintptr_t)shmb_landing_handler(inner), "mem_handler", NULL);
        if (ours != NULL) {
            Py_INCREF(current);
            before = current;
        }
    }
    PyObject *replaced = NULL;
    int failed = ours == NULL;
    if (!failed && current == before) {
        replaced = PyDataMem_SetHandler(ours);
        failed = replaced == NULL;
    }
    Py_XDECREF(replaced);
    Py_DECREF(current);
    return !failed;
}

static PyObject *claim_expect_landing(Claim *self, PyObject *unused) {
    (void)unused;
    if (!self->open)
        return fail(self->end, SHMB_BAD_SPAN);
    if (self->record.dtype != SHMB_FLOAT32)
        return PyErr_Format(PyExc_ValueError, "only a float32 matrix can be numpy's next array; this has dtype %u [bad-call]",
                            (unsigned)self->record.dtype);
    if (!install_landing())
        return NULL;
    self->expecting = 1;
    uint64_t items = (uint64_t)self->record.rows * self->record.columns;
    shmb_landing_expect(self->end->ring, self->record.position, self->record.matrix, 4 * items);
    Py_RETURN_NONE;
}

static PyObject *claim_holds(Claim *self, PyObject *object) {
    stop_expecting(self);
    if (!PyArray_Check(object))
        Py_RETURN_FALSE;
    PyArrayObject *array = (PyArrayObject *)object;
    return PyBool_FromLong(PyArray_DATA(array) == self->record.matrix && PyArray_NDIM(array) == 2 &&
                           PyArray_DIM(array, 0) == (npy_intp)self->record.rows &&
                           PyArray_DIM(array, 1) == (npy_intp)self->record.columns &&
                           PyArray_TYPE(array) == numpy_type(self->record.dtype) &&
                           PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISNOTSWAPPED(array));
}

static PyMemberDef claim_members[] = {
    {"position", T_ULONGLONG, offsetof(Claim, record.position), READONLY, NULL},
    {"sequence", T_ULONGLONG, offsetof(Claim, record.sequence), READONLY, NULL},
    {"open", T_BOOL, offsetof(Claim, open), READONLY, NULL},
    {"rows", T_UINT, offsetof(Claim, record.rows), READONLY, NULL},
    {"columns", T_UINT, offsetof(Claim, record.columns), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef claim_properties[] = {
    {"matrix", (getter)claim_matrix, NULL, NULL, NULL},
    {"shape", (getter)claim_shape, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef claim_methods[] = {
    {"commit", (PyCFunction)(void (*)(void))claim_commit, METH_FASTCALL, NULL},
    {"abort", (PyCFunction)claim_abort, METH_NOARGS, NULL},
    {"expect_landing", (PyCFunction)claim_expect_landing, METH_NOARGS, NULL},
    {"holds", (PyCFunction)claim_holds, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject claim_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.Claim",
    .tp_basicsize = sizeof(Claim),
    .tp_dealloc = (destructor)claim_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = claim_members,
    .tp_getset = claim_properties,
    .tp_methods = claim_methods,
};

/* --- Record */

typedef struct {
    PyObject_HEAD
    shmb_record record;
    PyObject *name;
    Held *held; /* NULL: released */
} Record;

static void record_dealloc(Record *self) {
    Py_XDECREF(self->name);
    Py_XDECREF(self->held);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *record_matrix(Record *self, void *closure) {
    (void)closure;
    if (self->held == NULL)
        Py_RETURN_NONE;
    Py_INCREF(self->held);
    return view(self->held, &self->record);
}

static PyObject *record_shape(Record *self, void *closure) {
    (void)closure;
    return Py_BuildValue("(II)", self->record.rows, self->record.columns);
}

static PyObject *record_release(Record *self, PyObject *unused) {
    (void)unused;
    if (self->held != NULL && Py_REFCNT(self->held) > 1)
        return PyErr_Format(PyExc_BufferError, "the record cannot be released: an array still views it; delete "
                                               "that array, or copy it first [ring-full]");
    Py_CLEAR(self->held);
    Py_RETURN_NONE;
}

/* Arguments: sequence, kind, rows, columns. */
static PyObject *record_is_answer(Record *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    if (n_arguments != 4) {
        PyErr_SetString(PyExc_TypeError, "is_answer takes sequence, kind, rows, columns [bad-call]");
        return NULL;
    }
    static const char *const names[4] = {"sequence", "kind", "rows", "columns"};
    unsigned long long values[4];
    for (int i = 0; i < 4; i++)
        if (!take_number(arguments[i], names[i], 0, UINT64_MAX, &values[i]))
            return NULL;
    const shmb_record *record = &self->record;
    return PyBool_FromLong(record->sequence == values[0] && record->kind == values[1] &&
                           record->rows == values[2] && record->columns == values[3] &&
                           record->status == SHMB_ANSWERED && record->dtype == SHMB_FLOAT32);
}

static PyMemberDef record_members[] = {
    {"kind", T_UINT, offsetof(Record, record.kind), READONLY, NULL},
    {"status", T_UINT, offsetof(Record, record.status), READONLY, NULL},
    {"dtype", T_UINT, offsetof(Record, record.dtype), READONLY, NULL},
    {"rows", T_UINT, offsetof(Record, record.rows), READONLY, NULL},
    {"columns", T_UINT, offsetof(Record, record.columns), READONLY, NULL},
    {"sequence", T_ULONGLONG, offsetof(Record, record.sequence), READONLY, NULL},
    {"loss", T_DOUBLE, offsetof(Record, record.loss), READONLY, NULL},
    {"states", T_ULONGLONG, offsetof(Record, record.states), READONLY, NULL},
    {"name", T_OBJECT, offsetof(Record, name), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_properties[] = {
    {"matrix", (getter)record_matrix, NULL, NULL, NULL},
    {"shape", (getter)record_shape, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef record_methods[] = {
    {"is_answer", (PyCFunction)(void (*)(void))record_is_answer, METH_FASTCALL, NULL},
    {"release", (PyCFunction)record_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject record_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.Record",
    .tp_basicsize = sizeof(Record),
    .tp_dealloc = (destructor)record_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = record_members,
    .tp_getset = record_properties,
    .tp_methods = record_methods,
};

/* --- End's methods */

static void end_dealloc(End *self) {
    shmb_ring_free(self->ring);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *end_own(End *self, PyObject *address) {
    shmb_ring_end *ring = PyLong_AsVoidPtr(address);
    if (ring == NULL && PyErr_Occurred())
        return NULL;
    if (ring == NULL || self->ring != NULL) /* claims of the one that is there name positions in it */
        return PyErr_Format(PyExc_SystemError, "a ring end is opened once, with a ring [bad-call]");
    self->ring = ring;
    Py_RETURN_NONE;
}

/* Whether the end may do this: a producer that received, or a consumer that claimed, would spoil the ring. */
static int may(End *self, int role, const char *what) {
    if (self->ring == NULL)
        PyErr_SetString(PyExc_SystemError, "this ring end was not opened [ring-corrupt]");
    else if (shmb_ring_role(self->ring) != role)
        PyErr_Format(PyExc_TypeError, "%s is for the %s of a ring; this is the other end [bad-call]", what,
                     role == SHMB_PRODUCER ? "producer" : "consumer");
    else
        return 1;
    return 0;
}

static PyObject *no_claim(End *self, int result, PyObject *const *arguments) {
    return PyObject_CallMethod((PyObject *)self, "_no_claim", "iOOOO", result, arguments[1], arguments[2],
                               arguments[3], arguments[5]);
}

/* Arguments: kind, dtype, rows, columns, sequence, name. */
static PyObject *end_claim_record(End *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    if (!may(self, SHMB_PRODUCER, "claim_record"))
        return NULL;
    if (n_arguments != 6 || !PyBytes_Check(arguments[5])) {
        PyErr_SetString(PyExc_TypeError, "claim_record takes kind, dtype, rows, columns, sequence, name (bytes) [bad-call]");
        return NULL;
    }
    static const char *const names[5] = {"kind", "dtype", "rows", "columns", "sequence"};
    static const unsigned long long least[5] = {SHMB_POSTERIORS, SHMB_FLOAT32};
    static const unsigned long long most[5] = {SHMB_SCORES, SHMB_UINT8, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    unsigned long long values[5];
    for (int i = 0; i < 5; i++)
        if (!take_number(arguments[i], names[i], least[i], most[i], &values[i]))
            return NULL;
    size_t name_length = (size_t)PyBytes_GET_SIZE(arguments[5]);
    if (values[2] > UINT32_MAX || values[3] > UINT32_MAX || name_length > SHMB_NAME_MAX)
        return no_claim(self, SHMB_TOO_LARGE, arguments);
    shmb_record record = {
        .kind = (uint32_t)values[0],
        .dtype = (uint32_t)values[1],
        .rows = (uint32_t)values[2],
        .columns = (uint32_t)values[3],
        .sequence = values[4],
        .name_length = (uint32_t)name_length,
    };
    Claim *claim = PyObject_New(Claim, &claim_type);
    if (claim == NULL)
        return NULL;
    Py_INCREF(self);
    claim->end = self;
    claim->held = NULL;
    claim->expecting = 0;
    int result = shmb_ring_claim(self->ring, &record, PyBytes_AS_STRING(arguments[5]));
    claim->record = record;
    claim->open = result == SHMB_OK;
    if (result == SHMB_OK)
        return (PyObject *)claim;
    Py_DECREF(claim);
    return no_claim(self, result, arguments);
}

static PyObject *end_receive(End *self, PyObject *unused) {
    (void)unused;
    if (!may(self, SHMB_CONSUMER, "receive"))
        return NULL;
    shmb_record record;
    int result = shmb_ring_receive(self->ring, &record);
    if (result == SHMB_EMPTY)
        Py_RETURN_NONE;
    if (result != SHMB_OK)
        return fail(self, result);
    Held *held = hold(self->ring, record.position, shmb_ring_release);
    if (held == NULL) {
        shmb_ring_release(self->ring, record.position, NULL);
        return NULL;
    }
    Record *object = PyObject_New(Record, &record_type);
    if (object == NULL) {
        Py_DECREF(held);
        return NULL;
    }
    object->record = record;
    object->held = held;
    object->name = PyBytes_FromStringAndSize(record.name, (Py_ssize_t)record.name_length);
    if (object->name == NULL)
        Py_CLEAR(object);
    return (PyObject *)object;
}

static PyObject *end_oldest_open(End *self, PyObject *unused) {
    (void)unused;
    shmb_record record;
    if (!may(self, SHMB_PRODUCER, "oldest_open"))
        return NULL;
    if (!shmb_ring_oldest_open(self->ring, &record))
        Py_RETURN_NONE;
    return Py_BuildValue("(Ky#)", (unsigned long long)record.sequence, record.name, (Py_ssize_t)record.name_length);
}

static PyMethodDef end_methods[] = {
    {"_own", (PyCFunction)end_own, METH_O, NULL},
    {"claim_record", (PyCFunction)(void (*)(void))end_claim_record, METH_FASTCALL, NULL},
    {"receive", (PyCFunction)end_receive, METH_NOARGS, NULL},
    {"oldest_open", (PyCFunction)end_oldest_open, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject end_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.End",
    .tp_basicsize = sizeof(End),
    .tp_dealloc = (destructor)end_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = end_methods,
    .tp_new = PyType_GenericNew,
};

/* --- the module */

/* Of one element that shmb_copy reads, in bytes; 0: it reads no such dtype. */
static npy_intp float_size(uint32_t dtype) {
    switch (dtype) {
    case SHMB_FLOAT32: return 4;
    case SHMB_FLOAT64: return 8;
    case SHMB_FLOAT16:
    case SHMB_BFLOAT16: return 2;
    default: return 0;
    }
}

/* Arguments: target (rows, columns), float32, elements of a row contiguous; source, of the same shape; its dtype, an
 * shmb_dtype; look; two_threads. Returns the index of the first NaN, where it was to look for that, or None. */
static PyObject *copy(PyObject *module, PyObject *const *arguments, Py_ssize_t n_arguments) {
    (void)module;
    if (n_arguments != 5 || !PyArray_Check(arguments[0]) || !PyArray_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "copy takes target (array), source (array), dtype, look, two_threads [bad-call]");
        return NULL;
    }
    PyArrayObject *target = (PyArrayObject *)arguments[0], *source = (PyArrayObject *)arguments[1];
    unsigned long long dtype;
    if (!take_number(arguments[2], "dtype", SHMB_FLOAT32, SHMB_BFLOAT16, &dtype))
        return NULL;
    int look = PyObject_IsTrue(arguments[3]);
    int two_threads = look < 0 ? -1 : PyObject_IsTrue(arguments[4]);
    if (two_threads < 0)
        return NULL;
    if (PyArray_NDIM(target) != 2 || PyArray_NDIM(source) != 2 ||
        !PyArray_CompareLists(PyArray_DIMS(target), PyArray_DIMS(source), 2) ||
        PyArray_TYPE(target) != NPY_FLOAT32 || !PyArray_ISBEHAVED(target) ||
        PyArray_ITEMSIZE(source) != float_size((uint32_t)dtype) || !PyArray_ISNOTSWAPPED(source) ||
        (PyArray_STRIDE(target, 1) != sizeof(float) && PyArray_DIM(target, 1) > 1)) {
        PyErr_SetString(PyExc_ValueError, "copy: these two arrays do not fit together [bad-call]");
        return NULL;
    }
    npy_intp rows = PyArray_DIM(target, 0), columns = PyArray_DIM(target, 1);
    int64_t nan;
    Py_BEGIN_ALLOW_THREADS
    nan = shmb_copy(PyArray_DATA(target), PyArray_STRIDE(target, 0), PyArray_DATA(source), (uint32_t)dtype,
                    (uint64_t)rows, (uint64_t)columns, PyArray_STRIDE(source, 0), PyArray_STRIDE(source, 1), look,
                    two_threads);
    Py_END_ALLOW_THREADS
    if (nan < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(nan);
}

/* The index of the first NaN of a C-ordered float32 array, or None. */
static PyObject *find_nan(PyObject *module, PyObject *object) {
    (void)module;
    if (!PyArray_Check(object) || PyArray_TYPE((PyArrayObject *)object) != NPY_FLOAT32 ||
        !PyArray_ISCARRAY_RO((PyArrayObject *)object)) {
        PyErr_SetString(PyExc_TypeError, "find_nan takes a C-ordered float32 array [bad-call]");
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    int64_t nan;
    Py_BEGIN_ALLOW_THREADS
    nan = shmb_find_nan(PyArray_DATA(array), (uint64_t)PyArray_SIZE(array));
    Py_END_ALLOW_THREADS
    if (nan < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(nan);
}

static PyMethodDef functions[] = {
    {"copy", (PyCFunction)(void (*)(void))copy, METH_FASTCALL, NULL},
    {"find_nan", find_nan, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shmbridge._ring",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__ring(void) {
    import_array();
    PyTypeObject *types[] = {&end_type, &held_type, &claim_type, &record_type};
    PyObject *module = PyModule_Create(&definition);
    for (size_t i = 0; module != NULL && i < sizeof types / sizeof *types; i++) {
        if (PyModule_AddType(module, types[i]) < 0)
            Py_CLEAR(module);
    }
    return module;
}
