/* The Python types of a ring: its ends, claims and received records, and numpy arrays that view them.
 *
 * Each segment uses these several times, within a few microseconds in all. Written against CPython and numpy, each use
 * is one call; everything else goes through cffi. Both modules, shmbridge._native and this one, shmbridge._ring, are in
 * one shared library.
 *
 * The base of an array is a RecordRef, which references the ring end. While an array views a record, the ring does not
 * reuse the record's space and the memory stays mapped. A Record copies its header when it is received.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#include "call_lock.h"
#include "shmbridge.h"

/* --- End: one process's end of a ring, the base class of shmbridge.ring.RingEnd */

typedef struct {
    PyObject_HEAD
    shmb_ring_end *ring;
    unsigned long long last_answer; /* of the records received */
} End;

/* --- RecordRef: keeps the space of a claim or record while arrays view it */

typedef struct {
    PyObject_HEAD
    shmb_ring_end *ring;
    uint64_t position;
    void (*on_release)(shmb_ring_end *end, uint64_t position);
} RecordRef;

static void record_ref_dealloc(RecordRef *self) {
    self->on_release(self->ring, self->position);
    shmb_ring_free(self->ring);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject record_ref_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.RecordRef",
    .tp_doc = "The base of arrays: while it exists, the ring does not reuse the record's space.",
    .tp_basicsize = sizeof(RecordRef),
    .tp_dealloc = (destructor)record_ref_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

static RecordRef *new_record_ref(shmb_ring_end *ring, uint64_t position,
                                 void (*on_release)(shmb_ring_end *, uint64_t)) {
    RecordRef *ref = PyObject_New(RecordRef, &record_ref_type);
    if (ref == NULL)
        return NULL;
    shmb_ring_retain(ring);
    ref->ring = ring;
    ref->position = position;
    ref->on_release = on_release;
    return ref;
}

static int numpy_type(uint32_t dtype) {
    switch (dtype) {
    case SHMB_UINT32: return NPY_UINT32;
    case SHMB_UINT8: return NPY_UINT8;
    case SHMB_FLOAT64: return NPY_FLOAT64;
    default: return NPY_FLOAT32;
    }
}

/* Return a (rows, columns) array over the matrix. Steals the reference to its base. */
static PyObject *view(RecordRef *ref, const shmb_record *record) {
    npy_intp shape[2] = {(npy_intp)record->rows, (npy_intp)record->columns};
    PyObject *array = PyArray_New(&PyArray_Type, 2, shape, numpy_type(record->dtype), NULL, record->matrix, 0,
                                  NPY_ARRAY_CARRAY, NULL);
    if (array == NULL) {
        Py_DECREF(ref);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, (PyObject *)ref) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* Raise the exception for a result that is not SHMB_OK. RingEnd, in Python, has the messages. */
static PyObject *raise_result(End *end, int result) {
    PyObject *none = PyObject_CallMethod((PyObject *)end, "_raise_result", "i", result);
    if (none != NULL) {
        Py_DECREF(none);
        PyErr_Format(PyExc_SystemError, "ring result %d raised no exception [ring-corrupt]", result);
    }
    return NULL;
}

/* Store an integer, possibly one of numpy's. Returns 0 with an exception set if it is not one from `minimum` to
 * `maximum`. */
static int parse_uint(PyObject *object, const char *what, unsigned long long minimum, unsigned long long maximum,
                      unsigned long long *number) {
    PyObject *index = PyNumber_Index(object);
    if (index == NULL)
        return 0;
    *number = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if (*number == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    if (*number < minimum || *number > maximum) {
        PyErr_Format(PyExc_ValueError, "%s is %llu; it must be from %llu to %llu [bad-call]", what, *number, minimum,
                     maximum);
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
    char commits_when_freed; /* still open until then */
    char expectation;        /* of numpy's next array of this size in this thread */
    RecordRef *ref; /* created by `matrix`, dropped when the claim is finished; arrays keep it longer */
} Claim;

enum { NO_ALLOCATION, EXPECTED, ALLOCATED };

/* End the expectation, and note whether numpy has allocated the array. */
static void end_expectation(Claim *self) {
    if (self->expectation != EXPECTED)
        return;
    int is_expected = shmb_allocation_is_expected(self->end->ring, self->record.position);
    self->expectation = is_expected ? NO_ALLOCATION : ALLOCATED;
    if (is_expected)
        shmb_allocation_cancel(self->end->ring, self->record.position);
}

static void claim_dealloc(Claim *self) {
    end_expectation(self);
    if (self->open && !self->commits_when_freed)
        shmb_ring_abort(self->end->ring, self->record.position);
    Py_XDECREF(self->ref);
    Py_DECREF(self->end);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *claim_matrix(Claim *self, void *closure) {
    (void)closure;
    if (!self->open)
        return raise_result(self->end, SHMB_BAD_SPAN);
    if (self->ref == NULL) {
        int anchored = shmb_ring_anchor(self->end->ring, self->record.position);
        if (anchored != SHMB_OK)
            return raise_result(self->end, anchored);
        self->ref = new_record_ref(self->end->ring, self->record.position, shmb_ring_unanchor);
        if (self->ref == NULL) {
            shmb_ring_unanchor(self->end->ring, self->record.position);
            return NULL;
        }
    }
    Py_INCREF(self->ref);
    return view(self->ref, &self->record);
}

static PyObject *claim_shape(Claim *self, void *closure) {
    (void)closure;
    return Py_BuildValue("(II)", self->record.rows, self->record.columns);
}

static PyObject *finish(Claim *self, int result) {
    if (result != SHMB_OK)
        return raise_result(self->end, result);
    end_expectation(self);
    self->open = 0;
    Py_CLEAR(self->ref);
    Py_RETURN_NONE;
}

static PyObject *claim_commit(Claim *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    unsigned long long status = SHMB_ANSWERED, states = 0;
    double loss = 0;
    if (n_arguments > 3)
        return PyErr_Format(PyExc_TypeError, "commit takes status, loss, states, but got %zd arguments [bad-call]",
                            n_arguments);
    if (n_arguments > 0 && !parse_uint(arguments[0], "status", SHMB_ANSWERED, SHMB_FAILED, &status))
        return NULL;
    if (n_arguments > 1) {
        loss = PyFloat_AsDouble(arguments[1]);
        if (loss == -1 && PyErr_Occurred())
            return NULL;
    }
    if (n_arguments > 2 && !parse_uint(arguments[2], "states", 0, UINT64_MAX, &states))
        return NULL;
    if (self->commits_when_freed)
        return raise_result(self->end, SHMB_BAD_SPAN);
    return finish(self, shmb_ring_commit(self->end->ring, self->record.position, (uint32_t)status, loss, states));
}

static PyObject *claim_commit_when_freed(Claim *self, PyObject *object) {
    double loss = PyFloat_AsDouble(object);
    if (loss == -1 && PyErr_Occurred())
        return NULL;
    if (!self->open || self->commits_when_freed)
        return raise_result(self->end, SHMB_BAD_SPAN);
    end_expectation(self);
    if (!shmb_allocation_commit_when_freed(self->end->ring, self->record.position, loss))
        return finish(self, shmb_ring_commit(self->end->ring, self->record.position, SHMB_ANSWERED, loss, 0));
    self->commits_when_freed = 1;
    Py_RETURN_NONE;
}

static PyObject *claim_take_back(Claim *self, PyObject *unused) {
    (void)unused;
    if (!self->commits_when_freed)
        Py_RETURN_FALSE;
    self->commits_when_freed = 0;
    if (shmb_allocation_take_back(self->end->ring, self->record.position))
        Py_RETURN_TRUE;
    self->open = 0;
    Py_CLEAR(self->ref);
    Py_RETURN_FALSE;
}

static PyObject *claim_abort(Claim *self, PyObject *unused) {
    (void)unused;
    if (self->commits_when_freed)
        return raise_result(self->end, SHMB_BAD_SPAN);
    return finish(self, shmb_ring_abort(self->end->ring, self->record.position));
}

/* Set the handler of allocation.c in the current context (PEP 567), for good. Each context of a thread has its own
 * handler. One that is neither `before` nor `ours` was set by other code, and stays. */
static int install_handler(void) {
    static PyObject *before, *ours; /* never freed: arrays that ours allocated may outlive everything else */
    PyObject *current = PyDataMem_GetHandler();
    if (current == NULL)
        return 0;
    if (ours == NULL) {
        const void *inner = PyCapsule_GetPointer(current, "mem_handler");
        if (inner != NULL)
            ours = PyCapsule_New((void *)(uintptr_t)shmb_allocation_handler(inner), "mem_handler", NULL);
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

static PyObject *claim_expect_allocation(Claim *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    int in_place = n_arguments > 0 ? PyObject_IsTrue(arguments[0]) : 1;
    if (in_place < 0)
        return NULL;
    if (!self->open)
        return raise_result(self->end, SHMB_BAD_SPAN);
    if (self->record.dtype != SHMB_FLOAT32)
        return PyErr_Format(PyExc_ValueError,
                            "the claim's dtype is %u; in-place allocation needs %d, float32 [bad-call]",
                            (unsigned)self->record.dtype, SHMB_FLOAT32);
    if (!install_handler())
        return NULL;
    self->expectation = EXPECTED;
    uint64_t items = (uint64_t)self->record.rows * self->record.columns;
    shmb_allocation_expect(self->end->ring, self->record.position, self->record.matrix, 4 * items, in_place);
    Py_RETURN_NONE;
}

static PyObject *claim_holds(Claim *self, PyObject *object) {
    end_expectation(self);
    if (!PyArray_Check(object))
        Py_RETURN_FALSE;
    PyArrayObject *array = (PyArrayObject *)object;
    return PyBool_FromLong(PyArray_DATA(array) == self->record.matrix && PyArray_NDIM(array) == 2 &&
                           PyArray_DIM(array, 0) == (npy_intp)self->record.rows &&
                           PyArray_DIM(array, 1) == (npy_intp)self->record.columns &&
                           PyArray_TYPE(array) == numpy_type(self->record.dtype) &&
                           PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISNOTSWAPPED(array));
}

static PyObject *claim_allocation_lives(Claim *self, PyObject *unused) {
    (void)unused;
    end_expectation(self);
    if (self->expectation == NO_ALLOCATION)
        Py_RETURN_NONE;
    return PyBool_FromLong(shmb_allocation_lives(self->end->ring, self->record.position));
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
    {"expect_allocation", (PyCFunction)(void (*)(void))claim_expect_allocation, METH_FASTCALL, NULL},
    {"holds", (PyCFunction)claim_holds, METH_O, NULL},
    {"commit_when_freed", (PyCFunction)claim_commit_when_freed, METH_O, NULL},
    {"take_back", (PyCFunction)claim_take_back, METH_NOARGS, NULL},
    {"allocation_lives", (PyCFunction)claim_allocation_lives, METH_NOARGS, NULL},
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
    RecordRef *ref; /* NULL once released */
} Record;

static void record_dealloc(Record *self) {
    Py_XDECREF(self->name);
    Py_XDECREF(self->ref);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *record_matrix(Record *self, void *closure) {
    (void)closure;
    if (self->ref == NULL)
        Py_RETURN_NONE;
    Py_INCREF(self->ref);
    return view(self->ref, &self->record);
}

static PyObject *record_shape(Record *self, void *closure) {
    (void)closure;
    return Py_BuildValue("(II)", self->record.rows, self->record.columns);
}

static PyObject *record_release(Record *self, PyObject *unused) {
    (void)unused;
    if (self->ref != NULL && Py_REFCNT(self->ref) > 1)
        return PyErr_Format(PyExc_BufferError, "the record cannot be released while an array still views it; delete "
                                               "that array, or copy it first [ring-full]");
    Py_CLEAR(self->ref);
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
        if (!parse_uint(arguments[i], names[i], 0, UINT64_MAX, &values[i]))
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
    if (ring == NULL || self->ring != NULL) /* existing claims have positions in the ring that is open */
        return PyErr_Format(PyExc_SystemError, "a ring end must be opened once, with a ring [bad-call]");
    self->ring = ring;
    Py_RETURN_NONE;
}

/* Return 0 with an exception set if this end does not have the role: a producer that receives, or a consumer that
 * claims, would corrupt the ring. */
static int require_role(End *self, int role, const char *what) {
    if (self->ring == NULL)
        PyErr_SetString(PyExc_SystemError, "this ring end was not opened [ring-corrupt]");
    else if (shmb_ring_role(self->ring) != role)
        PyErr_Format(PyExc_TypeError, "%s is for the %s of a ring; this is the other end [bad-call]", what,
                     role == SHMB_PRODUCER ? "producer" : "consumer");
    else
        return 1;
    return 0;
}

/* Raise the exception for a failed claim, or return None if there is only no room yet. */
static PyObject *raise_claim_error(End *self, int result, PyObject *const *arguments) {
    return PyObject_CallMethod((PyObject *)self, "_raise_claim_error", "iOOOO", result, arguments[1], arguments[2],
                               arguments[3], arguments[5]);
}

/* Arguments: kind, dtype, rows, columns, sequence, name. */
static PyObject *end_claim_record(End *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    if (!require_role(self, SHMB_PRODUCER, "claim_record"))
        return NULL;
    if (n_arguments != 6 || !PyBytes_Check(arguments[5])) {
        PyErr_SetString(PyExc_TypeError, "claim_record takes kind, dtype, rows, columns, sequence, "
                                         "name (bytes) [bad-call]");
        return NULL;
    }
    static const char *const names[5] = {"kind", "dtype", "rows", "columns", "sequence"};
    static const unsigned long long minimum[5] = {SHMB_POSTERIORS, SHMB_FLOAT32};
    static const unsigned long long maximum[5] = {SHMB_SCORES, SHMB_UINT8, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    unsigned long long values[5];
    for (int i = 0; i < 5; i++)
        if (!parse_uint(arguments[i], names[i], minimum[i], maximum[i], &values[i]))
            return NULL;
    size_t name_length = (size_t)PyBytes_GET_SIZE(arguments[5]);
    if (values[2] > UINT32_MAX || values[3] > UINT32_MAX || name_length > SHMB_NAME_MAX)
        return raise_claim_error(self, SHMB_TOO_LARGE, arguments);
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
    claim->ref = NULL;
    claim->expectation = NO_ALLOCATION;
    claim->commits_when_freed = 0;
    int result = shmb_ring_claim(self->ring, &record, PyBytes_AS_STRING(arguments[5]));
    claim->record = record;
    claim->open = result == SHMB_OK;
    if (result == SHMB_OK)
        return (PyObject *)claim;
    Py_DECREF(claim);
    return raise_claim_error(self, result, arguments);
}

static PyObject *end_receive(End *self, PyObject *unused) {
    (void)unused;
    if (!require_role(self, SHMB_CONSUMER, "receive"))
        return NULL;
    shmb_record record;
    int result = shmb_ring_receive(self->ring, &record);
    if (result == SHMB_EMPTY)
        Py_RETURN_NONE;
    if (result != SHMB_OK)
        return raise_result(self, result);
    RecordRef *ref = new_record_ref(self->ring, record.position, shmb_ring_release);
    if (ref == NULL) {
        shmb_ring_release(self->ring, record.position);
        return NULL;
    }
    Record *object = PyObject_New(Record, &record_type);
    if (object == NULL) {
        Py_DECREF(ref);
        return NULL;
    }
    object->record = record;
    object->ref = ref;
    object->name = PyBytes_FromStringAndSize(record.name, (Py_ssize_t)record.name_length);
    if (object->name == NULL)
        Py_CLEAR(object);
    if (record.kind != SHMB_FEATURES)
        self->last_answer = record.sequence;
    return (PyObject *)object;
}

static PyObject *end_oldest_open(End *self, PyObject *unused) {
    (void)unused;
    shmb_record record;
    if (!require_role(self, SHMB_PRODUCER, "oldest_open"))
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

static PyMemberDef end_members[] = {
    {"last_answer", T_ULONGLONG, offsetof(End, last_answer), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject end_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.End",
    .tp_basicsize = sizeof(End),
    .tp_dealloc = (destructor)end_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_members = end_members,
    .tp_methods = end_methods,
    .tp_new = PyType_GenericNew,
};

/* --- the module */

/* Return the size in bytes of an element that shmb_copy reads, or 0 if it does not support the dtype. */
static npy_intp float_size(uint32_t dtype) {
    switch (dtype) {
    case SHMB_FLOAT32: return 4;
    case SHMB_FLOAT64: return 8;
    case SHMB_FLOAT16:
    case SHMB_BFLOAT16: return 2;
    default: return 0;
    }
}

/* Arguments: target (rows, columns), float32, with contiguous rows; source, of the same shape; its dtype, an
 * shmb_dtype; check, a shmb_check; use_second_thread. Returns the index of the first invalid value, or None. */
static PyObject *copy(PyObject *module, PyObject *const *arguments, Py_ssize_t n_arguments) {
    (void)module;
    if (n_arguments != 5 || !PyArray_Check(arguments[0]) || !PyArray_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "copy takes target (array), source (array), dtype, check, "
                                         "use_second_thread [bad-call]");
        return NULL;
    }
    PyArrayObject *target = (PyArrayObject *)arguments[0], *source = (PyArrayObject *)arguments[1];
    unsigned long long dtype, check;
    if (!parse_uint(arguments[2], "dtype", SHMB_FLOAT32, SHMB_BFLOAT16, &dtype) ||
        !parse_uint(arguments[3], "check", SHMB_CHECK_NOTHING, SHMB_CHECK_NAN_INF, &check))
        return NULL;
    int use_second_thread = PyObject_IsTrue(arguments[4]);
    if (use_second_thread < 0)
        return NULL;
    if (PyArray_NDIM(target) != 2 || PyArray_NDIM(source) != 2 ||
        !PyArray_CompareLists(PyArray_DIMS(target), PyArray_DIMS(source), 2) ||
        PyArray_TYPE(target) != NPY_FLOAT32 || !PyArray_ISBEHAVED(target) ||
        PyArray_ITEMSIZE(source) != float_size((uint32_t)dtype) || !PyArray_ISNOTSWAPPED(source) ||
        (PyArray_STRIDE(target, 1) != sizeof(float) && PyArray_DIM(target, 1) > 1)) {
        PyErr_SetString(PyExc_ValueError, "copy: target and source do not match in shape, dtype or layout [bad-call]");
        return NULL;
    }
    npy_intp rows = PyArray_DIM(target, 0), columns = PyArray_DIM(target, 1);
    int64_t invalid;
    Py_BEGIN_ALLOW_THREADS
    invalid = shmb_copy(PyArray_DATA(target), PyArray_STRIDE(target, 0), PyArray_DATA(source), (uint32_t)dtype,
                        (uint64_t)rows, (uint64_t)columns, PyArray_STRIDE(source, 0), PyArray_STRIDE(source, 1),
                        (uint32_t)check, use_second_thread);
    Py_END_ALLOW_THREADS
    if (invalid < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(invalid);
}

static int require_float32(PyObject *object, const char *name) {
    if (PyArray_Check(object) && PyArray_TYPE((PyArrayObject *)object) == NPY_FLOAT32 &&
        PyArray_ISCARRAY_RO((PyArrayObject *)object))
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes a C-ordered float32 array [bad-call]", name);
    return 0;
}

/* Return the index of the first NaN or +inf of a C-ordered float32 array, or None. */
static PyObject *find_invalid(PyObject *module, PyObject *object) {
    (void)module;
    if (!require_float32(object, "find_invalid"))
        return NULL;
    PyArrayObject *array = (PyArrayObject *)object;
    int64_t invalid;
    Py_BEGIN_ALLOW_THREADS
    invalid = shmb_find_invalid(PyArray_DATA(array), (uint64_t)PyArray_SIZE(array), SHMB_CHECK_NAN_INF);
    Py_END_ALLOW_THREADS
    if (invalid < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(invalid);
}

/* Return the sum of the exponentials of the middle row of a C-ordered float32 array (rows, columns). */
static PyObject *sum_of_exponentials(PyObject *module, PyObject *object) {
    (void)module;
    if (!require_float32(object, "sum_of_exponentials"))
        return NULL;
    PyArrayObject *array = (PyArrayObject *)object;
    if (PyArray_NDIM(array) != 2 || PyArray_SIZE(array) == 0) {
        PyErr_SetString(PyExc_ValueError, "sum_of_exponentials takes a matrix with elements [bad-call]");
        return NULL;
    }
    const float *row = PyArray_GETPTR2(array, PyArray_DIM(array, 0) / 2, 0);
    return PyFloat_FromDouble(shmb_sum_of_exponentials(row, (uint64_t)PyArray_DIM(array, 1)));
}

static PyMethodDef functions[] = {
    {"copy", (PyCFunction)(void (*)(void))copy, METH_FASTCALL, NULL},
    {"find_invalid", find_invalid, METH_O, NULL},
    {"sum_of_exponentials", sum_of_exponentials, METH_O, NULL},
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
    PyTypeObject *types[] = {&end_type, &record_ref_type, &claim_type, &record_type, &shmb_call_lock_type};
    PyObject *module = PyModule_Create(&definition);
    for (size_t i = 0; module != NULL && i < sizeof types / sizeof *types; i++) {
        if (PyModule_AddType(module, types[i]) < 0)
            Py_CLEAR(module);
    }
    return module;
}
