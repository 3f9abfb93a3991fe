/* Conversion of matrices to and from NumPy arrays. Only this file uses NumPy's C API. */
#include "host.h"

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

void start_numpy(void) {
    if (_import_array() < 0)
        fail("numpy cannot be imported");
}

PyObject *to_python(const float *values, int rows, int columns) {
    npy_intp shape[] = {rows, columns};
    npy_intp strides[] = {sizeof(float), (npy_intp)sizeof(float) * rows};
    PyObject *array = PyArray_New(&PyArray_Type, 2, shape, NPY_FLOAT, strides, NULL, 0, 0, NULL);
    if (array == NULL)
        fail("numpy cannot make an array of %d x %d", rows, columns);
    size_t size = sizeof(float) * (size_t)rows * (size_t)columns;
    if (values != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)array), values, size);
    else
        memset(PyArray_DATA((PyArrayObject *)array), 0, size);
    return array;
}

float *from_python(PyObject *object, const char *what, int *rows, int *columns) {
    if (!PyArray_Check(object))
        fail("%s: an array of numpy is expected, not a %s", what, Py_TYPE(object)->tp_name);
    PyArrayObject *array = (PyArrayObject *)object;
    if (PyArray_NDIM(array) != 2)
        fail("%s: 2 dimensions are expected, not %d", what, PyArray_NDIM(array));
    if (!PyArray_ISBEHAVED_RO(array))
        fail("%s: the array is not aligned, or in another byte order", what);
    if (PyArray_TYPE(array) != NPY_FLOAT && PyArray_TYPE(array) != NPY_DOUBLE)
        fail("%s: float32 or float64 is expected, not type %d", what, PyArray_TYPE(array));
    *rows = (int)PyArray_DIM(array, 0);
    *columns = (int)PyArray_DIM(array, 1);
    size_t size = sizeof(float) * (size_t)*rows * (size_t)*columns;
    bool as_here = PyArray_TYPE(array) == NPY_FLOAT && PyArray_STRIDE(array, 0) == (npy_intp)sizeof(float) &&
                   PyArray_STRIDE(array, 1) == (npy_intp)sizeof(float) * *rows;
    PyObject *converted = NULL;
    if (!as_here) {
        converted = PyArray_FROM_OTF(object, NPY_FLOAT, NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_FORCECAST);
        if (converted == NULL)
            fail("%s: the array cannot be converted", what);
        array = (PyArrayObject *)converted;
    }
    float *matrix = malloc(size ? size : 1);
    if (matrix == NULL)
        fail_assertion("there is memory for a matrix");
    memcpy(matrix, PyArray_DATA(array), size);
    Py_XDECREF(converted);
    return matrix;
}

PyObject *odd_matrix(const char *kind, const float *values, int rows, int columns) {
    PyObject *plain = to_python(values, rows, columns);
    PyObject *odd = NULL;
    if (strcmp(kind, "float64") == 0)
        odd = PyArray_FROM_OTF(plain, NPY_DOUBLE, NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_FORCECAST);
    else if (strcmp(kind, "c-order") == 0)
        odd = PyArray_FROM_OTF(plain, NPY_FLOAT, NPY_ARRAY_C_CONTIGUOUS);
    else if (strcmp(kind, "transposed") == 0)
        odd = PyArray_Transpose((PyArrayObject *)plain, NULL);
    else
        fail("host.error-signal: there is no %s", kind);
    Py_DECREF(plain);
    return odd;
}

const void *address_of(PyObject *array) {
    return PyArray_DATA((PyArrayObject *)array);
}

PyObject *vector_to_python(const float *values, int size) {
    npy_intp shape[] = {size};
    PyObject *array = PyArray_New(&PyArray_Type, 1, shape, NPY_FLOAT, NULL, NULL, 0, 0, NULL);
    if (array == NULL)
        fail("numpy cannot make an array of %d", size);
    memcpy(PyArray_DATA((PyArrayObject *)array), values, sizeof(float) * (size_t)size);
    return array;
}

void vector_from_python(PyObject *object, const char *what, float *values, int size) {
    if (!PyArray_Check(object))
        fail("%s: an array of numpy is expected, not a %s", what, Py_TYPE(object)->tp_name);
    PyArrayObject *array = (PyArrayObject *)object;
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != size)
        fail("%s: a vector of %d is expected", what, size);
    bool is_double = PyArray_TYPE(array) == NPY_DOUBLE;
    if (!PyArray_ISBEHAVED_RO(array) || (PyArray_TYPE(array) != NPY_FLOAT && !is_double))
        fail("%s: the array is not aligned, or neither of float32 nor of float64", what);
    for (int i = 0; i < size; i++) {
        const void *value = PyArray_GETPTR1(array, i);
        values[i] = is_double ? (float)*(const double *)value : *(const float *)value;
    }
}
