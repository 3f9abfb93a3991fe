/* The Python type of a pool's lock. See call_lock.c. */
#ifndef SHMB_CALL_LOCK_H
#define SHMB_CALL_LOCK_H

#include <Python.h>

extern PyTypeObject shmb_call_lock_type;

#endif
