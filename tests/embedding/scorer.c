/* A feature scorer in Python, called in the order of Sprint's offline recogniser: reset, all features, then the scores
 * frame by frame. The GIL is released between two calls. The next reset is the end of a segment: by then Python must
 * have dropped all references to its features. (RASR itself never frees them; the host does, to detect other holders.)
 *
 * The feature at time t of the segment i of the corpus is (i, t, 1). The file host.scores receives a line for each
 * frame: the segment's name, and the scores.
 */
#include "host.h"

enum { DIMENSION = 3 };

typedef struct {
    PyObject *object;
    int labels;
    int segments;
    int received; /* frames of the segment */
    FILE *file;
} feature_scorer;

static void add_feature(feature_scorer *self, int time) {
    float values[DIMENSION] = {(float)self->segments, (float)time, 1};
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *feature = vector_to_python(values, DIMENSION);
    watch_reference(feature);
    call_and_forget(self->object, "add_feature", "{s:N,s:i}", "feature", feature, "time", self->received++);
    PyGILState_Release(state);
}

static void write_scores(feature_scorer *self, const char *name, int time) {
    float *scores = calloc((size_t)self->labels, sizeof(float));
    PyGILState_STATE state = PyGILState_Ensure();
    if (time == 0)
        call_and_forget(self->object, "compute", "{s:i}", "num_frames", self->received);
    PyObject *answer = call(self->object, "get_scores", "{s:i}", "time", time);
    if (answer == NULL)
        fail("get_scores() failed");
    vector_from_python(answer, "get_scores", scores, self->labels);
    Py_DECREF(answer);
    PyGILState_Release(state);
    fprintf(self->file, "%s", name);
    for (int label = 0; label < self->labels; label++)
        fprintf(self->file, "\t%.9g", (double)scores[label]);
    fprintf(self->file, "\n");
    free(scores);
}

static void reset(feature_scorer *self) {
    PyGILState_STATE state = PyGILState_Ensure();
    call_and_forget(self->object, "reset", "{s:i}", "num_frames", self->received);
    if (self->received > 0)
        note_segment_done();
    PyGILState_Release(state);
    self->received = 0;
}

static void score_segment(const segment *one, void *context) {
    feature_scorer *self = context;
    reset(self);
    for (int time = 0; time < one->frames; time++)
        add_feature(self, time);
    for (int time = 0; time < one->frames; time++)
        write_scores(self, one->name, time);
    self->segments++;
}

void score_corpus(PyObject *scorer) {
    feature_scorer self = {.object = scorer, .labels = atoi(option("host.labels", "8"))};
    const char *path = option("host.scores", "/dev/null");
    self.file = fopen(path, "w");
    if (self.file == NULL)
        fail_assertion("the file of host.scores can be written");
    PyGILState_STATE state = PyGILState_Ensure();
    call_and_forget(scorer, "init", "{s:i,s:i}", "input_dim", DIMENSION, "output_dim", self.labels);
    PyObject *size = call(scorer, "get_feature_buffer_size", "{}");
    long number = size == NULL ? 0 : PyLong_AsLong(size);
    if (PyErr_Occurred() || number == 0)
        fail("get_feature_buffer_size() did not return an int other than 0");
    Py_XDECREF(size);
    PyGILState_Release(state);
    visit_corpus(score_segment, &self);
    reset(&self);
    fclose(self.file);
}
