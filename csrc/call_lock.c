/* The lock of a pool: held by the call that works.
 *
 * threading.RLock would let a call nest in another of the same thread: a signal handler that uses the pool, for
 * instance. threading.Lock would deadlock there. Neither can be taken safely: with acquire() before `try`, a signal
 * handler that raises in between leaves the lock held, and `with` costs as much as a fifth of a claim. Here, acquire()
 * comes inside `try`, and release() does nothing if this thread does not hold the lock.
 *
 * Threads that must wait do so one at a time, behind a turnstile. A thread that releases the lock and takes it again
 * would otherwise overtake them each time: acquire_in_turn() goes through the turnstile behind them.
 *
 * All attributes are read and written with the GIL.
 */
#define PY_SSIZE_T_CLEAN
#include "call_lock.h"

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    PyThread_type_lock turnstile; /* held by the thread that takes the lock next */
    unsigned long waiting;        /* threads at the turnstile, or behind it */
    unsigned long owner;          /* the thread that holds the lock, or NO_THREAD */
    unsigned long nested;         /* nested calls of acquire and acquire_now, which failed, without their releases */
} CallLock;

static const unsigned long NO_THREAD = (unsigned long)-1;

static PyObject *new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)arguments;
    (void)keywords;
    CallLock *self = (CallLock *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->owner = NO_THREAD;
    self->lock = PyThread_allocate_lock();
    self->turnstile = PyThread_allocate_lock();
    if (self->lock == NULL || self->turnstile == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void dealloc(CallLock *self) {
    if (self->lock != NULL) {
        if (self->owner != NO_THREAD)
            PyThread_release_lock(self->lock);
        PyThread_free_lock(self->lock);
    }
    if (self->turnstile != NULL)
        PyThread_free_lock(self->turnstile);
    Py_TYPE(self)->tp_free(self);
}

static int take_now(CallLock *self) {
    if (!PyThread_acquire_lock(self->lock, NOWAIT_LOCK))
        return 0;
    self->owner = PyThread_get_thread_ident();
    return 1;
}

/* Return 0 with an exception set if a signal handler raises. */
static int wait_for(PyThread_type_lock lock) {
    for (;;) {
        PyLockStatus status;
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(lock, -1, 1);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED)
            return 1;
        if (PyErr_CheckSignals() < 0)
            return 0;
    }
}

/* Return 0 with an exception set if a signal handler raises, or this thread must not wait. */
static int take_in_turn(CallLock *self) {
    int is_taken = 0;
    self->waiting++; /* first: the holder may look at it as soon as _before_wait has woken it */
    PyObject *checked = PyObject_CallMethod((PyObject *)self, "_before_wait", NULL);
    if (checked != NULL) {
        Py_DECREF(checked);
        if (wait_for(self->turnstile)) {
            is_taken = wait_for(self->lock);
            if (is_taken)
                self->owner = PyThread_get_thread_ident();
            PyThread_release_lock(self->turnstile);
        }
    }
    self->waiting--;
    return is_taken;
}

static int take(CallLock *self) { return take_now(self) || take_in_turn(self); }

static int is_mine(const CallLock *self) { return self->owner == PyThread_get_thread_ident(); }

/* The subclass, in Python, has the message. */
static PyObject *raise_nested(CallLock *self) { return PyObject_CallMethod((PyObject *)self, "_raise_nested", NULL); }

static void give_back(CallLock *self) {
    self->owner = NO_THREAD;
    PyThread_release_lock(self->lock);
}

static PyObject *acquire_by(CallLock *self, int (*take_it)(CallLock *)) {
    if (is_mine(self)) {
        self->nested++;
        return raise_nested(self);
    }
    if (!take_it(self))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *acquire(CallLock *self, PyObject *unused) {
    (void)unused;
    return acquire_by(self, take);
}

static PyObject *release(CallLock *self, PyObject *unused) {
    (void)unused;
    if (is_mine(self)) {
        if (self->nested > 0)
            self->nested--;
        else
            give_back(self);
    }
    Py_RETURN_NONE;
}

static PyObject *acquire_now(CallLock *self, PyObject *unused) {
    (void)unused;
    if (is_mine(self)) {
        self->nested++;
        Py_RETURN_FALSE;
    }
    return PyBool_FromLong(take_now(self));
}

static PyObject *acquire_in_turn(CallLock *self, PyObject *unused) {
    return self->waiting == 0 ? acquire(self, unused) : acquire_by(self, take_in_turn);
}

static PyObject *get_is_wanted(CallLock *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->waiting > 0);
}

static PyObject *enter(CallLock *self, PyObject *unused) {
    (void)unused;
    if (is_mine(self))
        return raise_nested(self);
    if (!take(self))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *leave(CallLock *self, PyObject *const *arguments, Py_ssize_t n_arguments) {
    (void)arguments;
    (void)n_arguments;
    if (is_mine(self))
        give_back(self);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"acquire", (PyCFunction)acquire, METH_NOARGS, NULL},
    {"release", (PyCFunction)release, METH_NOARGS, NULL},
    {"acquire_in_turn", (PyCFunction)acquire_in_turn, METH_NOARGS, NULL},
    {"acquire_now", (PyCFunction)acquire_now, METH_NOARGS, NULL},
    {"__enter__", (PyCFunction)enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))leave, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"is_wanted", (getter)get_is_wanted, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject shmb_call_lock_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmbridge._ring.CallLock",
    .tp_basicsize = sizeof(CallLock),
    .tp_dealloc = (destructor)dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = methods,
    .tp_getset = properties,
    .tp_new = new,
};
