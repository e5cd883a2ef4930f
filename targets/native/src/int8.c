/* Integer layers (section 7.5): the integers are the weight, and sums of their products must fit 32 bits. */
#include <math.h>
#include <stdlib.h>

#include "weights.h"

bool hn_int8_open(hn_weight *w, const char *layer, size_t size, hn_error *e) {
    hn_tensor *integers = hn_find(w->file, layer, size, ".form.integers"), *bias = hn_find(w->file, layer, size, ".bias");
    w->kind = HN_INT8;
    if (!integers || integers->type != HN_I8 || integers->axes < 2 || !bias || bias->type != HN_F32 || bias->axes != 1 ||
        bias->count != integers->shape[0])
        return hn_refuse(e, "an integer layer needs rows of 8-bit integers and one bias for each");
    w->scale = hn_all_floats(bias, e);
    if (!w->scale) return false;
    for (uint64_t o = 0; o < bias->count; o++)
        if (!hn_finite(w->scale[o]) || w->scale[o] != rintf(w->scale[o])) return hn_refuse(e, "the biases of an integer layer are not whole");
    w->axes = integers->axes;
    memcpy(w->shape, integers->shape, sizeof w->shape);
    w->rows = w->shape[0];
    w->columns = w->rows ? integers->count / w->rows : 0;
    return hn_source_open(&w->source, integers, e);
}

bool hn_int8_row(hn_weight *w, float *out, hn_error *e) {
    enum { CHUNK = 1024, LARGEST_INPUT = 255 };
    int64_t values[CHUNK], total = 0;
    for (uint64_t done = 0; done < w->columns;) {
        size_t some = w->columns - done < CHUNK ? (size_t)(w->columns - done) : CHUNK;
        if (!hn_read_integers(&w->source, values, some, e)) return false;
        for (size_t i = 0; i < some; i++) {
            out[done + i] = (float)values[i];
            total += values[i] < 0 ? -values[i] : values[i];
        }
        done += some;
    }
    double most = (double)total * LARGEST_INPUT + fabs((double)w->scale[w->at]);
    return most < 2147483648.0 || hn_refuse(e, "sums of an integer layer may overflow 32 bits");
}
