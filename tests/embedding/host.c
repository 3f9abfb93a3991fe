/* The command line, and the order of the calls in each way (docs/ways.md).
 *
 * Sprint has these options too: action, python-control-loop-type, python-control-enabled, pymod-...,
 * python-segment-order..., python-home. The corpus (corpus.file) has a line for each segment: full name, frames,
 * speaker or nothing, orthography, separated by tabs. Only the host has these:
 *
 *   host.labels=N                 the model's number of labels
 *   host.python-layer=below|top   below a layer of identity, or the top layer
 *   host.notifications=segmentwise  as SegmentwiseNnTrainer: the layer comes before init, both before the
 *                                 segment order; init_segment late, notify_segment_loss with the name
 *   host.control=twice            a second part of Sprint calls init; its exit comes after the first segment
 *   host.thread=other|each        calls from a thread that Python did not create; from a new one for each segment
 *   host.answer=..., host.answer-for=SEGMENT   an invalid answer of the criterion (callback.c)
 *   host.error-signal=float64|c-order|transposed
 *   action=score, host.scores=FILE   a recogniser's feature scorer (scorer.c)
 *   host.notes=FILE, host.places=true, host.measure-every=N   (notes.c)
 */
#include "host.h"

#include <pthread.h>
#include <sys/resource.h>

enum { FEATURES = 2 }; /* of a frame, all 0: a Python layer does not read them */

segment *corpus;
int corpus_size;

static int argument_count;
static char **arguments;

const char *option(const char *name, const char *fallback) {
    size_t length = strlen(name);
    for (int i = argument_count - 1; i > 0; i--)
        if (strncmp(arguments[i], "--*.", 4) == 0 && strncmp(arguments[i] + 4, name, length) == 0 &&
            arguments[i][4 + length] == '=')
            return arguments[i] + 5 + length;
    return fallback;
}

bool is_set(const char *name) {
    return strcmp(option(name, "false"), "true") == 0;
}

static bool option_is(const char *name, const char *value) {
    return strcmp(option(name, ""), value) == 0;
}

static _Noreturn void refuse(const char *what, const char *value) {
    fprintf(stderr, "host: critical error: %s '%s'\n", what, value);
    exit(1);
}

/* --- The corpus. */

static void read_corpus(void) {
    const char *path = option("corpus.file", "");
    FILE *file = fopen(path, "r");
    if (file == NULL)
        refuse("cannot read the corpus", path);
    char *line = NULL;
    size_t room = 0;
    for (ssize_t length; (length = getline(&line, &room, file)) > 0;) {
        line[length - 1] = '\0'; /* the orthography keeps its trailing blank */
        char *rest = strdup(line), *name = strsep(&rest, "\t"), *frames = strsep(&rest, "\t");
        char *speaker = strsep(&rest, "\t");
        if (rest == NULL)
            refuse("a line of the corpus is not name, frames, speaker, orthography:", line);
        corpus = realloc(corpus, sizeof *corpus * (size_t)(corpus_size + 1));
        corpus[corpus_size++] =
            (segment){.name = name, .frames = atoi(frames), .speaker = *speaker ? speaker : NULL, .orthography = rest};
    }
    free(line);
    fclose(file);
}

const segment *find_segment(const char *name) {
    for (int i = 0; i < corpus_size; i++)
        if (strcmp(corpus[i].name, name) == 0)
            return &corpus[i];
    return NULL;
}

static PyObject *all_names(void) {
    PyObject *names = PyList_New(corpus_size);
    for (int i = 0; i < corpus_size; i++)
        PyList_SetItem(names, i, PyUnicode_FromString(corpus[i].name));
    return names;
}

static void visit_in_pythons_order(void (*visitor)(const segment *, void *), void *context) {
    start_python();
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *module =
        import_module(option("python-segment-order-pymod-path", ""), option("python-segment-order-pymod-name", ""));
    PyObject *order = call(module, "getSegmentList", "{s:s,s:N,s:O,s:s}", "corpusName", "corpus", "segmentList",
                           all_names(), "segmentsInfo", Py_None, "config", option("python-segment-order-config", ""));
    Py_DECREF(module);
    if (order == NULL)
        fail("getSegmentList() failed");
    PyObject *names = PyObject_GetIter(order);
    Py_DECREF(order);
    if (names == NULL)
        fail("getSegmentList() did not return an iterable object");
    for (PyObject *name; (name = PyIter_Next(names)) != NULL;) {
        if (!PyUnicode_CheckExact(name))
            fail("a segment name is not a string but a %s", Py_TYPE(name)->tp_name);
        const segment *found = find_segment(PyUnicode_AsUTF8(name));
        if (found == NULL)
            refuse("there is no segment", PyUnicode_AsUTF8(name));
        Py_DECREF(name);
        Py_BEGIN_ALLOW_THREADS
        visitor(found, context);
        Py_END_ALLOW_THREADS
    }
    if (PyErr_Occurred())
        fail("getSegmentList() failed to give the next name");
    Py_DECREF(names);
    PyGILState_Release(state);
}

void visit_corpus(void (*visitor)(const segment *, void *), void *context) {
    if (is_set("python-segment-order"))
        visit_in_pythons_order(visitor, context);
    else
        for (int i = 0; i < corpus_size; i++)
            visitor(&corpus[i], context);
}

/* --- PythonControl. */

typedef struct {
    PyObject *reference, *callback, *object;
} control;

static control new_control(const char *unit) {
    start_python();
    PyGILState_STATE state = PyGILState_Ensure();
    control made;
    PyObject *module = import_module(option("pymod-path", ""), option("pymod-name", ""));
    made.reference = PyCapsule_New(&corpus, "host.reference", NULL);
    made.callback = new_callback(made.reference);
    made.object = call(module, "init", "{s:s,s:s,s:O,s:O,s:l,s:s}", "name", "Sprint.PythonControl", "sprint_unit", unit,
                       "reference", made.reference, "callback", made.callback, "version_number", 5L, "config",
                       option("pymod-config", ""));
    Py_DECREF(module);
    if (made.object == NULL)
        fail("init() of %s failed", unit);
    if (made.object == Py_None)
        fail("init() of %s returned None", unit);
    PyGILState_Release(state);
    return made;
}

static void exit_control(control *one) {
    if (one->object == NULL)
        return;
    PyGILState_STATE state = PyGILState_Ensure();
    call_and_forget(one->object, "exit", "{}");
    Py_CLEAR(one->object);
    Py_CLEAR(one->callback);
    Py_CLEAR(one->reference);
    PyGILState_Release(state);
}

/* --- python-control: iterate the corpus, or run Python's control loop. */

typedef struct {
    control first, second;
    bool started;
} controls;

static void process_segment(const segment *one, void *context) {
    controls *both = context;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *orthography = PyBytes_FromString(one->orthography);
    watch_reference(orthography);
    if (!both->started)
        call_and_forget(both->first.object, "init_processing", "{s:l,s:l}", "input_dim", -1L, "output_dim", -1L);
    both->started = true;
    call_and_forget(both->first.object, "process_segment", "{s:s,s:N,s:s,s:O,s:O,s:O}", "name", one->name,
                    "orthography", orthography, "speaker_name", one->speaker, "features", Py_None, "alignment", Py_None,
                    "soft_alignment", Py_None);
    note_segment_done();
    PyGILState_Release(state);
    exit_control(&both->second);
}

/* --- A trainer: announces segments and losses to PythonControl, and has a layer in Python. */

typedef struct {
    control control;
    PyObject *layer;
    int labels;
} trainer;

static void start_trainer(trainer *self) {
    bool segmentwise = option_is("host.notifications", "segmentwise");
    if (!segmentwise && is_set("python-control-enabled"))
        self->control = new_control("FeedForwardTrainer");
    start_python();
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *module = import_module(option("pymod-path", ""), option("pymod-name", ""));
    self->labels = atoi(option("host.labels", "8"));
    self->layer = call(module, "SprintNnPythonLayer", "{s:s}", "config", option("pymod-config", ""));
    Py_DECREF(module);
    if (self->layer == NULL)
        fail("SprintNnPythonLayer() failed");
    call_and_forget(self->layer, "setOutputDimension", "{s:i}", "size", self->labels);
    call_and_forget(self->layer, "setInputDimension", "{s:i,s:i}", "stream", 0, "size", FEATURES);
    call_and_forget(self->layer, "initializeNetworkParameters", "{}");
    PyObject *count = call(self->layer, "getNumberOfFreeParameters", "{}");
    long number = count == NULL ? -1 : PyLong_AsLong(count);
    if (PyErr_Occurred())
        fail("getNumberOfFreeParameters() did not return an int");
    if (number < 0)
        fail("getNumberOfFreeParameters() returned a negative number");
    Py_XDECREF(count);
    PyGILState_Release(state);
    if (segmentwise && is_set("python-control-enabled"))
        self->control = new_control("SegmentwiseNnTrainer");
}

static bool is_trainable(trainer *self) {
    PyObject *answer = call(self->layer, "isTrainable", "{}");
    if (answer == NULL)
        fail("isTrainable() failed");
    if (!PyBool_Check(answer))
        fail("isTrainable() did not return a bool");
    Py_DECREF(answer);
    return answer == Py_True;
}

static void init_segment(trainer *self, const segment *one) {
    if (self->control.object != NULL)
        call_and_forget(self->control.object, "init_segment", "{s:s}", "segment_name", one->name);
}

static float *forward(trainer *self, const segment *one) {
    PyObject *features = to_python(NULL, FEATURES, one->frames), *inputs = PyList_New(1);
    watch_reference(features);
    PyList_SetItem(inputs, 0, features);
    PyObject *output = call(self->layer, "forward", "{s:N}", "input", inputs);
    if (output == NULL)
        fail("forward() failed");
    int labels, frames;
    float *posteriors = from_python(output, "forward", &labels, &frames);
    note_matrices(one->name, address_of(output), NULL);
    Py_DECREF(output);
    if (labels != self->labels || frames != one->frames)
        fail_assertion("the layer's output has the layer's size");
    return posteriors;
}

static void backpropagate(trainer *self, const segment *one, const float *error_signal) {
    if (!is_trainable(self))
        return;
    PyObject *given = to_python(error_signal, self->labels, one->frames);
    watch_reference(given);
    note_matrices(one->name, NULL, address_of(given));
    PyObject *result = call(self->layer, "backpropagate", "{s:N}", "errorSignalIn", given);
    if (result == NULL)
        fail("backpropagate() failed");
    if (!PyTuple_Check(result))
        fail("backpropagate() did not return a tuple");
    Py_DECREF(result);
}

static void train(const segment *one, void *context) {
    trainer *self = context;
    bool on_top = option_is("host.python-layer", "top");
    bool segmentwise = option_is("host.notifications", "segmentwise");
    if (self->layer == NULL)
        start_trainer(self);
    PyGILState_STATE state = PyGILState_Ensure();
    if (!segmentwise)
        init_segment(self, one);
    float *posteriors = forward(self, one);
    if (segmentwise)
        init_segment(self, one);
    float loss, *error_signal = calloc((size_t)(self->labels * one->frames), sizeof(float));
    if (criterion(posteriors, self->labels, one->frames, one->orthography, &loss, error_signal)) {
        if (on_top)
            backpropagate(self, one, error_signal);
        if (self->control.object != NULL)
            call_and_forget(self->control.object, "notify_segment_loss", "{s:s,s:f}", "segment_name",
                            segmentwise ? one->name : NULL, "loss", loss);
        if (!on_top)
            backpropagate(self, one, error_signal);
    }
    note_segment_done();
    PyGILState_Release(state);
    free(posteriors);
    free(error_signal);
}

/* --- Threads. */

typedef struct {
    void (*visitor)(const segment *, void *);
    const segment *one;
    void *context;
} visit;

static void *visit_now(void *context) {
    visit *todo = context;
    todo->visitor(todo->one, todo->context);
    return NULL;
}

static void in_a_thread(void *(*function)(void *), void *context) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, context) != 0 || pthread_join(thread, NULL) != 0)
        fail_assertion("a thread can be started");
}

static void visit_in_a_thread(const segment *one, void *context) {
    visit *todo = context;
    todo->one = one;
    in_a_thread(visit_now, todo);
}

static void visit_all(void (*visitor)(const segment *, void *), void *context) {
    visit todo = {.visitor = visitor, .context = context};
    if (option_is("host.thread", "each"))
        visit_corpus(visit_in_a_thread, &todo);
    else
        visit_corpus(visitor, context);
}

static void *act(void *nothing) {
    if (option_is("action", "supervised-segmentwise-training")) {
        trainer self = {.layer = NULL};
        if (option_is("host.notifications", "segmentwise"))
            start_trainer(&self);
        visit_all(train, &self);
        if (self.layer != NULL) {
            PyGILState_STATE state = PyGILState_Ensure();
            call_and_forget(self.layer, "finalize", "{}");
            Py_CLEAR(self.layer); /* Sprint's trainers do not call exit() */
            PyGILState_Release(state);
        }
    } else if (option_is("action", "score")) {
        control one = new_control("PythonFeatureScorer");
        score_corpus(one.object);
        exit_control(&one);
    } else if (option_is("action", "python-control")) {
        controls both = {.first = new_control("NnTrainer.pythonControl")};
        if (option_is("host.control", "twice"))
            both.second = new_control("PythonFeatureScorer");
        if (option_is("python-control-loop-type", "iterate-corpus")) {
            visit_all(process_segment, &both);
        } else {
            PyGILState_STATE state = PyGILState_Ensure();
            controlled_by_python = true;
            call_and_forget(both.first.object, "run_control_loop", "{s:O}", "callback", both.first.callback);
            PyGILState_Release(state);
        }
        exit_control(&both.second);
        exit_control(&both.first);
    } else {
        refuse("there is no action", option("action", ""));
    }
    return nothing;
}

int main(int count, char **given) {
    argument_count = count;
    arguments = given;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* no core file of an intended abort */
    read_corpus();
    if (option_is("host.thread", "other")) {
        start_python();
        in_a_thread(act, NULL);
    } else {
        act(NULL);
    }
    if (Py_IsInitialized())
        end_python();
    fprintf(stderr, "host: done\n");
    return 0;
}
