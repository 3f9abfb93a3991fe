/* The callback that `init` and `run_control_loop` receive. */
#include "host.h"

#include <math.h>

bool controlled_by_python;
static bool by_name_is_ready;
static bool *is_known; /* for each segment of the corpus, whether it can be found by name */

/* Returns the labels of an orthography: one for each byte that is not a blank. The last two labels are silence, which
 * is not used, and the blank. */
static int *labels_of(const char *orthography, int labels, int *length) {
    int *sequence = malloc(sizeof(int) * (strlen(orthography) + 1));
    if (sequence == NULL)
        fail_assertion("there is memory for an orthography");
    *length = 0;
    for (const char *c = orthography; *c != '\0'; c++)
        if (*c != ' ')
            sequence[(*length)++] = (unsigned char)*c % (labels - 2);
    return sequence;
}

bool criterion(const float *posteriors, int labels, int frames, const char *orthography, float *loss,
               float *error_signal) {
    /* Sprint has the same assertions. */
    if (frames == 0 || labels < 3)
        fail_assertion("the posteriors have frames and labels");
    if (option("host.labels", NULL) != NULL && labels != atoi(option("host.labels", "")))
        fail_assertion("the posteriors have as many labels as the model");
    for (long i = 0; i < (long)labels * frames; i++)
        if (isnan(posteriors[i]))
            fail_assertion("the posteriors have no NaN");
    size_t end = strlen(orthography);
    if (end == 0 || orthography[end - 1] != ' ')
        fail_assertion("the orthography ends in a blank");
    int length;
    int *sequence = labels_of(orthography, labels, &length);
    double sum;
    bool possible = ctc(posteriors, labels, frames, sequence, length, labels - 1, &sum, error_signal);
    free(sequence);
    *loss = (float)sum;
    return possible;
}

/* Returns an invalid answer, to test the child. If *odd is false, the answer must be valid. */
static PyObject *answer_oddly(const char *segment_name, float loss, const float *error_signal, int labels, int frames,
                              bool *odd) {
    const char *answer = option("host.answer", NULL);
    const char *only = option("host.answer-for", NULL);
    *odd = answer != NULL && (only == NULL || (segment_name != NULL && strcmp(only, segment_name) == 0));
    if (!*odd)
        return NULL;
    if (strcmp(answer, "nothing") == 0)
        Py_RETURN_NONE;
    if (strcmp(answer, "the loss alone") == 0)
        return Py_BuildValue("(f)", loss);
    if (strcmp(answer, "a number") == 0)
        return Py_BuildValue("f", loss);
    if (strcmp(answer, "no error signal") == 0)
        return Py_BuildValue("(fO)", loss, Py_None);
    if (strcmp(answer, "a list") == 0)
        return Py_BuildValue("(f[f])", loss, 0.0);
    if (strcmp(answer, "a loss of str") == 0)
        return Py_BuildValue("(sN)", "much", to_python(error_signal, labels, frames));
    if (strcmp(answer, "another shape") == 0)
        return Py_BuildValue("(fN)", loss, to_python(NULL, labels + 1, frames));
    if (strcmp(answer, "an exception") == 0) {
        PyErr_SetString(PyExc_ArithmeticError, "on purpose");
        return NULL;
    }
    if (strcmp(answer, "an error without an exception") == 0)
        return NULL;
    if (strcmp(answer, "an exception and a result") == 0) {
        PyErr_SetString(PyExc_ArithmeticError, "on purpose");
        return Py_BuildValue("(fO)", loss, Py_None);
    }
    fail("host.answer: there is no '%s'", answer);
}

static bool is_error_type(const char *type) {
    return strcmp(type, "none") == 0 || strcmp(type, "error-signal") == 0 ||
           strcmp(type, "error-signal-before-softmax") == 0 || strcmp(type, "pseudo-targets") == 0;
}

/* Converts y - y_hat into another type of error signal, for scores in log space. */
static void convert(const char *type, const float *scores, int labels, int frames, float *error_signal) {
    bool before_softmax = strcmp(type, "error-signal-before-softmax") == 0;
    if (!before_softmax && strcmp(type, "pseudo-targets") != 0)
        return;
    for (int t = 0; t < frames; t++, scores += labels, error_signal += labels) {
        double sum = 0, inner = 0;
        for (int l = 0; l < labels; l++) {
            sum += exp(scores[l]);
            inner += (double)error_signal[l] * scores[l];
        }
        for (int l = 0; l < labels; l++)
            /* Sprint treats the logarithms as the output of a softmax, and applies its derivative. */
            error_signal[l] = (float)(before_softmax ? (error_signal[l] - inner) * scores[l]
                                                     : exp(scores[l]) / sum - error_signal[l]);
    }
}

static PyObject *calculate_criterion(PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"command", "posteriors", "orthography", "alignment", "output_error_type", "segment_name",
                            NULL};
    const char *command, *orthography = NULL, *error_type = NULL, *segment_name = NULL;
    PyObject *given, *alignment = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "sO|sOss:callback", names, &command, &given, &orthography,
                                     &alignment, &error_type, &segment_name))
        return NULL;
    if (error_type != NULL && !is_error_type(error_type))
        return PyErr_Format(PyExc_ValueError, "calculate_criterion: unknown output_error_type '%s'", error_type);
    if (alignment != NULL && orthography != NULL)
        return PyErr_Format(PyExc_ValueError, "calculate_criterion: either an alignment or an orthography");
    int labels, frames;
    float *posteriors = from_python(given, "calculate_criterion", &labels, &frames);
    if (orthography == NULL)
        fail("calculate_criterion: this criterion needs an orthography");
    float *error_signal = calloc((size_t)labels * (size_t)frames + 1, sizeof(float));
    float loss;
    PyObject *result;
    bool odd;
    if (error_signal == NULL)
        fail_assertion("there is memory for an error signal");
    if (!criterion(posteriors, labels, frames, orthography, &loss, error_signal)) {
        result = Py_BuildValue("(OO)", Py_None, Py_None);
    } else if ((result = answer_oddly(segment_name, loss, error_signal, labels, frames, &odd)) == NULL && !odd) {
        if (error_type == NULL || strcmp(error_type, "none") == 0) {
            result = Py_BuildValue("(fO)", loss, Py_None);
        } else {
            convert(error_type, posteriors, labels, frames, error_signal);
            const char *kind = option("host.error-signal", NULL);
            PyObject *array = kind == NULL ? to_python(error_signal, labels, frames)
                                           : odd_matrix(kind, error_signal, labels, frames);
            watch_reference(array);
            note_matrices(segment_name, address_of(given), address_of(array));
            result = Py_BuildValue("(fN)", loss, array);
        }
    }
    free(posteriors);
    free(error_signal);
    return result;
}

static void know(const segment *one, void *context) {
    (void)context;
    is_known[one - corpus] = true;
}

/* Like Sprint, reads the corpus once, in the segment order, so the callback calls getSegmentList. */
static const segment *look_up(const char *name) {
    if (!by_name_is_ready) {
        is_known = calloc((size_t)corpus_size + 1, sizeof(bool));
        if (is_known == NULL)
            fail_assertion("there is memory for the names");
        Py_BEGIN_ALLOW_THREADS
        visit_corpus(know, NULL);
        Py_END_ALLOW_THREADS
        by_name_is_ready = true;
    }
    const segment *found = find_segment(name);
    if (found == NULL || !is_known[found - corpus]) {
        PyErr_Format(PyExc_KeyError, "unknown segment name '%s'", name);
        return NULL;
    }
    return found;
}

/* Returns a chain of states. Each label has an arc to the next state, and a loop. */
static PyObject *automaton(const char *orthography) {
    int length;
    int *sequence = labels_of(orthography, atoi(option("host.labels", "8")), &length);
    int arcs = 2 * length;
    PyObject *edges = PyByteArray_FromStringAndSize(NULL, 3 * arcs * (Py_ssize_t)sizeof(uint32_t));
    PyObject *weights = PyByteArray_FromStringAndSize(NULL, arcs * (Py_ssize_t)sizeof(float));
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (edges == NULL || weights == NULL || numpy == NULL)
        fail("an automaton cannot be made");
    uint32_t *edge = (uint32_t *)PyByteArray_AS_STRING(edges);
    float *weight = (float *)PyByteArray_AS_STRING(weights);
    for (int i = 0; i < length; i++)
        for (int stays = 0; stays < 2; stays++) {
            int arc = 2 * i + stays;
            edge[arc] = (uint32_t)(i + stays);
            edge[arcs + arc] = (uint32_t)(i + 1);
            edge[2 * arcs + arc] = (uint32_t)sequence[i];
            weight[arc] = (float)stays / 2;
        }
    free(sequence);
    PyObject *edge_array = call(numpy, "frombuffer", "{s:N,s:s}", "buffer", edges, "dtype", "uint32");
    PyObject *weight_array = call(numpy, "frombuffer", "{s:N,s:s}", "buffer", weights, "dtype", "float32");
    Py_DECREF(numpy);
    if (edge_array == NULL || weight_array == NULL)
        fail("an automaton cannot be made");
    return Py_BuildValue("(iiNN)", length + 1, arcs, edge_array, weight_array);
}

static PyObject *by_text(PyObject *arguments, PyObject *keywords, char *name, PyObject *(*answer)(const char *)) {
    char *names[] = {"command", name, NULL};
    const char *command, *text;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "ss:callback", names, &command, &text))
        return NULL;
    return answer(text);
}

static PyObject *automaton_by_name(const char *name) {
    const segment *found = look_up(name);
    return found == NULL ? NULL : automaton(found->orthography);
}

static PyObject *orthography_by_name(const char *name) {
    const segment *found = look_up(name);
    return found == NULL ? NULL : PyUnicode_FromString(found->orthography);
}

static PyObject *callback(PyObject *self, PyObject *arguments, PyObject *keywords) {
    (void)self;
    if (controlled_by_python)
        note_segment_done(); /* the segment before: Python makes no call at its end */
    PyObject *first = PyTuple_Size(arguments) > 0 ? PyTuple_GetItem(arguments, 0) : NULL;
    if (first == NULL || !PyUnicode_Check(first))
        return PyErr_Format(PyExc_TypeError, "callback(): the first argument must be a str");
    const char *command = PyUnicode_AsUTF8(first);
    if (command == NULL)
        return NULL;
    if (strcmp(command, "version") == 0)
        return PyUnicode_FromString("<version>host of shmbridge's tests</version>");
    if (strcmp(command, "version_number") == 0)
        return PyLong_FromLong(5);
    if (strcmp(command, "help") == 0)
        return PyUnicode_FromString("see tests/embedding/callback.c");
    if (strcmp(command, "init_criterion") == 0)
        Py_RETURN_NONE;
    if (strcmp(command, "calculate_criterion") == 0)
        return calculate_criterion(arguments, keywords);
    if (strcmp(command, "get_orthography_by_segment_name") == 0)
        return by_text(arguments, keywords, "segment_name", orthography_by_name);
    if (strcmp(command, "export_allophone_state_fsa_by_segment_name") == 0)
        return by_text(arguments, keywords, "segment_name", automaton_by_name);
    if (strcmp(command, "export_allophone_state_fsa_by_orthography") == 0)
        return by_text(arguments, keywords, "orthography", automaton);
    return PyErr_Format(PyExc_ValueError, "callback(): unknown command '%s'", command);
}

PyObject *new_callback(PyObject *reference) {
    static PyMethodDef definition = {"callback", (PyCFunction)(void (*)(void))callback, METH_VARARGS | METH_KEYWORDS,
                                     "Sprint's callback."};
    return PyCFunction_New(&definition, reference);
}
