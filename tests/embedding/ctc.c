/* Connectionist temporal classification (Graves et al., 2006): the forward-backward algorithm in log space. */
#include "host.h"

#include <math.h>

static double add(double a, double b) {
    if (a < b)
        return add(b, a);
    return b == -INFINITY ? a : a + log1p(exp(b - a));
}

bool ctc(const float *x, int labels, int frames, const int *sequence, int length, int blank, double *loss,
         float *error_signal) {
    /* The states: blank, label, blank, label, ..., blank. */
    int states = 2 * length + 1;
    double *forward = malloc(sizeof(double) * (size_t)states * (size_t)(frames + 1) * 2);
    if (forward == NULL)
        fail_assertion("there is memory for the criterion");
    double *backward = forward + (size_t)states * (size_t)(frames + 1);
#define LABEL(s) ((s) % 2 ? sequence[(s) / 2] : blank)
#define SCORE(t, s) x[(size_t)(t) * (size_t)labels + (size_t)LABEL(s)]
#define MAY_SKIP(s) ((s) >= 2 && LABEL(s) != blank && LABEL(s) != LABEL((s)-2))
    for (int t = 0; t < frames; t++)
        for (int s = 0; s < states; s++) {
            double before = -INFINITY;
            if (t == 0) {
                before = s < 2 ? 0 : -INFINITY;
            } else {
                const double *last = forward + (t - 1) * states;
                before = last[s];
                if (s >= 1)
                    before = add(before, last[s - 1]);
                if (MAY_SKIP(s))
                    before = add(before, last[s - 2]);
            }
            forward[t * states + s] = before + SCORE(t, s);
        }
    for (int t = frames - 1; t >= 0; t--)
        for (int s = 0; s < states; s++) {
            double after = -INFINITY;
            if (t == frames - 1) {
                after = s >= states - 2 ? 0 : -INFINITY;
            } else {
                const double *next = backward + (t + 1) * states;
                after = next[s] + SCORE(t + 1, s);
                if (s + 1 < states)
                    after = add(after, next[s + 1] + SCORE(t + 1, s + 1));
                if (s + 2 < states && MAY_SKIP(s + 2))
                    after = add(after, next[s + 2] + SCORE(t + 1, s + 2));
            }
            backward[t * states + s] = after;
        }
    double total = -INFINITY;
    for (int s = 0; s < states; s++)
        total = add(total, forward[s] + backward[s]);
    *loss = -total;
    /* y - y_hat: the softmax of the scores minus the posterior probability of each label. */
    for (int t = 0; t < frames && total != -INFINITY; t++) {
        const float *scores = x + (size_t)t * (size_t)labels;
        float *error = error_signal + (size_t)t * (size_t)labels;
        double sum = 0;
        for (int l = 0; l < labels; l++)
            sum += exp(scores[l]);
        for (int l = 0; l < labels; l++)
            error[l] = (float)(exp(scores[l]) / sum);
        for (int s = 0; s < states; s++)
            error[LABEL(s)] -= (float)exp(forward[t * states + s] + backward[t * states + s] - total);
    }
    free(forward);
    return total != -INFINITY;
}
