/* Sums over all paths of automata, for the full-sum loss: forward-backward on the CPU.
 *
 * A sum over the paths of 10,000 frames can be smaller than any double, and two states of a frame can differ by as much.
 * So each number has an exponent of its own. That is as safe as logarithms, and needs no exp or log for each arc. */
#include "shmbridge.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

/* fraction * 2^exponent; the fraction lies in [1,2), or the number is zero: fraction 0, exponent -inf. The exponent is
 * an integer, stored as a double for its range. */
typedef struct {
    double fraction;
    double exponent;
} number;

static const number ZERO = {0, -INFINITY};

typedef struct {
    const shmb_path_graph *graph;
    const shmb_path_scores *scores;
    double *log_sums;
    void *occupations; /* or NULL */
    atomic_int_fast64_t next;
    atomic_int result;
} job;

/* What one thread needs for a sequence. */
typedef struct {
    number *forward;     /* (time,node), or (2,node) without occupations */
    number *backward;    /* (2,node) */
    number *emissions;   /* (label), of one frame */
    number *in_weights;  /* (arc) */
    number *out_weights; /* (arc) */
    double *occupied;    /* (label), of one frame */
} workspace;

/* 2^exponent for an integer up to 1023; what is below -1022 becomes 2^-1022, which adds nothing to a fraction. */
static inline double power_of_two(double exponent) {
    double limited = exponent > -1022 ? exponent : -1022;
    double shifted = limited + (0x1.8p52 + 1023); /* the last bits of this double are the integer */
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 52;
    memcpy(&limited, &bits, sizeof bits);
    return limited;
}

static inline number normalized(double fraction, double exponent) {
    uint64_t bits;
    number result;
    if (fraction == 0)
        return ZERO;
    memcpy(&bits, &fraction, sizeof bits);
    result.exponent = exponent + ((double)(int64_t)(bits >> 52) - 1023);
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    memcpy(&result.fraction, &bits, sizeof bits);
    return result;
}

static number exponential(double logarithm) {
    double bits = logarithm * 1.44269504088896340736; /* log2(e) */
    number result = ZERO;
    if (bits >= -DBL_MAX) {
        double whole = floor(bits);
        result = normalized(exp2(bits - whole), whole);
    }
    return result;
}

static inline number product(number left, number right) {
    return normalized(left.fraction * right.fraction, left.exponent + right.exponent);
}

/* Return the sum of weight * number over the arcs [begin, end), whose nodes count from `first`. */
static inline number sum_of_arcs(const number *values, int64_t first, const int64_t *nodes, const number *weights,
                                 int64_t begin, int64_t end) {
    double largest = -INFINITY, sum = 0;
    for (int64_t arc = begin; arc < end; arc++) {
        double exponent = values[nodes[arc] - first].exponent + weights[arc - begin].exponent;
        largest = exponent > largest ? exponent : largest;
    }
    if (largest == -INFINITY)
        return ZERO;
    for (int64_t arc = begin; arc < end; arc++) {
        number value = values[nodes[arc] - first], weight = weights[arc - begin];
        sum += value.fraction * weight.fraction * power_of_two(value.exponent + weight.exponent - largest);
    }
    return normalized(sum, largest);
}

static inline double score_at(const shmb_path_scores *scores, int64_t offset) {
    return scores->is_double ? ((const double *)scores->values)[offset] : (double)((const float *)scores->values)[offset];
}

/* Fill the emissions of a frame. Returns 0 if one is NaN or plus infinity. */
static int fill_emissions(const job *job, number *emissions, int64_t sequence, int64_t frame) {
    const shmb_path_graph *graph = job->graph;
    const shmb_path_scores *scores = job->scores;
    int64_t first = graph->label_begin[sequence], count = graph->label_begin[sequence + 1] - first;
    int64_t offset = frame * scores->time_stride + sequence * scores->batch_stride;
    for (int64_t i = 0; i < count; i++) {
        double score = score_at(scores, offset + graph->labels[first + i] * scores->label_stride);
        if (!(score <= DBL_MAX))
            return 0;
        emissions[i] = exponential(score);
    }
    return 1;
}

static void add_occupations(const job *job, workspace *space, const number *forward, number total, int64_t sequence,
                            int64_t frame) {
    const shmb_path_graph *graph = job->graph;
    const shmb_path_scores *scores = job->scores;
    int64_t node = graph->node_begin[sequence], nodes = graph->node_begin[sequence + 1] - node;
    int64_t label = graph->label_begin[sequence], labels = graph->label_begin[sequence + 1] - label;
    int64_t offset = frame * scores->time_stride + sequence * scores->batch_stride;
    memset(space->occupied, 0, (size_t)labels * sizeof(double));
    for (int64_t i = 0; i < nodes; i++) {
        double exponent = forward[i].exponent + space->backward[i].exponent - total.exponent;
        space->occupied[graph->node_label[node + i]] +=
            forward[i].fraction * space->backward[i].fraction * power_of_two(exponent);
    }
    for (int64_t i = 0; i < labels; i++) {
        int64_t place = offset + graph->labels[label + i] * scores->label_stride;
        double occupation = space->occupied[i] / total.fraction;
        if (scores->is_double)
            ((double *)job->occupations)[place] = occupation;
        else
            ((float *)job->occupations)[place] = (float)occupation;
    }
}

/* Return ln of the sum: -inf without a path, NaN if a score is invalid. */
static double sum_sequence(const job *job, workspace *space, int64_t sequence) {
    const shmb_path_graph *graph = job->graph;
    int64_t first = graph->node_begin[sequence], nodes = graph->node_begin[sequence + 1] - first;
    int64_t frames = job->scores->lengths[sequence];
    const int64_t *in = graph->in_begin + first, *out = graph->out_begin + first;
    const int64_t *slots = graph->node_label + first;
    number total = ZERO;
    for (int64_t arc = in[0]; arc < in[nodes]; arc++)
        space->in_weights[arc - in[0]] = exponential(graph->in_weights[arc]);
    for (int64_t frame = 0; frame < frames; frame++) {
        int64_t row = job->occupations != NULL ? frame : frame % 2;
        int64_t row_before = job->occupations != NULL ? frame - 1 : 1 - row;
        number *now = space->forward + row * nodes;
        const number *before = frame > 0 ? space->forward + row_before * nodes : NULL;
        if (!fill_emissions(job, space->emissions, sequence, frame))
            return NAN;
        for (int64_t i = 0; i < nodes; i++) {
            number sum = before == NULL ? exponential(graph->initial[first + i])
                                        : sum_of_arcs(before, first, graph->in_nodes,
                                                      space->in_weights + (in[i] - in[0]), in[i], in[i + 1]);
            now[i] = product(sum, space->emissions[slots[i]]);
        }
    }
    number *last = space->forward + (job->occupations != NULL ? frames - 1 : (frames - 1) % 2) * nodes;
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < nodes; i++) {
        space->backward[i] = exponential(graph->final[first + i]);
        double exponent = last[i].exponent + space->backward[i].exponent;
        largest = exponent > largest ? exponent : largest;
    }
    if (largest == -INFINITY)
        return -INFINITY;
    for (int64_t i = 0; i < nodes; i++)
        sum += last[i].fraction * space->backward[i].fraction *
               power_of_two(last[i].exponent + space->backward[i].exponent - largest);
    total = normalized(sum, largest);
    if (job->occupations == NULL)
        return log(total.fraction) + total.exponent * 0.693147180559945309417;

    number *emitted = space->backward + nodes; /* with the emission of the frame */
    for (int64_t arc = out[0]; arc < out[nodes]; arc++)
        space->out_weights[arc - out[0]] = exponential(graph->out_weights[arc]);
    for (int64_t frame = frames - 1; frame >= 0; frame--) {
        add_occupations(job, space, space->forward + frame * nodes, total, sequence, frame);
        if (frame == 0)
            break;
        if (frame < frames - 1)
            fill_emissions(job, space->emissions, sequence, frame);
        for (int64_t i = 0; i < nodes; i++)
            emitted[i] = product(space->backward[i], space->emissions[slots[i]]);
        for (int64_t i = 0; i < nodes; i++)
            space->backward[i] = sum_of_arcs(emitted, first, graph->out_nodes,
                                             space->out_weights + (out[i] - out[0]), out[i], out[i + 1]);
    }
    return log(total.fraction) + total.exponent * 0.693147180559945309417;
}

/* Allocate for a sequence. Returns 0 if memory is short. */
static int allocate(const job *job, workspace *space, int64_t sequence) {
    const shmb_path_graph *graph = job->graph;
    size_t nodes = (size_t)(graph->node_begin[sequence + 1] - graph->node_begin[sequence]);
    size_t labels = (size_t)(graph->label_begin[sequence + 1] - graph->label_begin[sequence]);
    size_t arcs = (size_t)(graph->in_begin[graph->node_begin[sequence + 1]] -
                           graph->in_begin[graph->node_begin[sequence]]);
    size_t rows = job->occupations != NULL ? (size_t)job->scores->lengths[sequence] : 2;
    size_t count = rows * nodes + 2 * nodes + labels + 2 * arcs;
    number *numbers = NULL;
    if (nodes == 0 || rows <= SIZE_MAX / 2 / sizeof(number) / nodes)
        numbers = malloc((count + labels + 1) * sizeof(number));
    space->forward = numbers;
    if (numbers == NULL)
        return 0;
    space->backward = space->forward + rows * nodes;
    space->emissions = space->backward + 2 * nodes;
    space->in_weights = space->emissions + labels;
    space->out_weights = space->in_weights + arcs;
    space->occupied = (double *)(space->out_weights + arcs);
    return 1;
}

static void *run(void *argument) {
    job *job = argument;
    int64_t sequence;
    while ((sequence = atomic_fetch_add(&job->next, 1)) < job->scores->batch) {
        workspace space;
        if (!allocate(job, &space, sequence)) {
            atomic_store(&job->result, SHMB_NO_MEMORY);
            break;
        }
        job->log_sums[sequence] = sum_sequence(job, &space, sequence);
        free(space.forward);
    }
    return NULL;
}

int shmb_sum_paths(const shmb_path_graph *graph, const shmb_path_scores *scores, double *log_sums,
                   void *occupations, int threads) {
    job job = {.graph = graph, .scores = scores, .log_sums = log_sums, .occupations = occupations};
    pthread_t others[MAX_THREADS];
    int started = 0;
    atomic_init(&job.next, 0);
    atomic_init(&job.result, SHMB_OK);
    while (started < threads - 1 && started < scores->batch - 1 && started < MAX_THREADS &&
           pthread_create(&others[started], NULL, run, &job) == 0)
        started++;
    run(&job);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    return atomic_load(&job.result);
}
