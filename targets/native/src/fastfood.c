/* Fastfood layers (section 7.3): eight columns of the weight at a time, transformed in place. */
#include <math.h>
#include <stdlib.h>

#include "weights.h"

enum { LANES = 8 };

typedef struct {
    uint32_t key, position;
} place;

static int by_key(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

bool hn_fastfood_open(hn_weight *w, const hn_form *form, hn_error *e) {
    const hn_json *json = &w->file->manifest;
    hn_tensor *signs = hn_part(w, form, "signs", HN_F32, 2, e);
    hn_tensor *gauss = signs ? hn_part(w, form, "gauss", HN_F32, 2, e) : NULL;
    hn_tensor *norms = gauss ? hn_part(w, form, "norms", HN_F32, 1, e) : NULL;
    int64_t seed;
    if (!norms || !hn_parts_are(w, form, 3, e)) return false;
    if (!hn_integer(json, hn_member(json, form->edit, "seed"), 0, UINT32_MAX, &seed)) return hn_refuse(e, "the seed of a fastfood layer is impossible");
    uint64_t inputs = signs->shape[1], d = 1, outputs = norms->count;
    while (d < inputs) d *= 2;
    w->blocks = signs->shape[0];
    if (hn_product(outputs, inputs) > w->file->trusted) return hn_refuse(e, "a fastfood layer has more weights than the file can be trusted to hold");
    bool fit = inputs && outputs && gauss->shape[1] == d && gauss->shape[0] == w->blocks && w->blocks == (outputs + d - 1) / d;
    if (!fit || d > UINT32_MAX / 2 || outputs * inputs > SIZE_MAX / 8) return hn_refuse(e, "the shapes of a fastfood layer do not fit each other");
    w->axes = 2;
    w->size = d;
    w->seed = (uint32_t)seed;
    w->rows = w->shape[0] = outputs;
    w->columns = w->shape[1] = inputs;
    w->table = malloc((size_t)(signs->count + gauss->count) * 4); /* signs, then gauss */
    float *left = hn_part_floats(signs, e), *right = left ? hn_part_floats(gauss, e) : NULL;
    if (right && w->table) {
        memcpy(w->table, left, (size_t)signs->count * 4);
        memcpy(w->table + signs->count, right, (size_t)gauss->count * 4);
        w->scale = hn_part_floats(norms, e);
    }
    bool good = right && (w->table || hn_no_memory(e)) && w->scale;
    free(left);
    free(right);
    return good;
}

/* Two steps at once over positions h, 2h: fewer passes over memory, the same sums in the same order. */
static void two_steps(float *x, uint64_t d, uint64_t h) {
    for (uint64_t at = 0; at < d; at += 4 * h)
        for (uint64_t i = at; i < at + h; i++) {
            float *p = x + i * LANES, *q = p + h * LANES, *r = q + h * LANES, *s = r + h * LANES;
            for (unsigned l = 0; l < LANES; l++) {
                float a = p[l] + q[l], b = p[l] - q[l], c = r[l] + s[l], f = r[l] - s[l];
                p[l] = a + c;
                q[l] = b + f;
                r[l] = a - c;
                s[l] = b - f;
            }
        }
}

static void one_step(float *x, uint64_t d, uint64_t h) {
    for (uint64_t at = 0; at < d; at += 2 * h)
        for (uint64_t i = at * LANES; i < (at + h) * LANES; i++) {
            float a = x[i], b = x[i + h * LANES];
            x[i] = a + b;
            x[i + h * LANES] = a - b;
        }
}

static void transform(float *x, uint64_t d, float factor) {
    uint64_t h = 1;
    for (; 4 * h <= d; h *= 4) two_steps(x, d, h);
    if (h < d) one_step(x, d, h);
    for (uint64_t i = 0; i < d * LANES; i++) x[i] *= factor;
}

/* The rows of a block in the columns from j on; x and y are two times d vectors. */
static bool columns(hn_weight *w, uint64_t block, uint64_t j, const place *order, float factor, float *x, float *y, float *out) {
    uint64_t d = w->size, n = w->columns - j < LANES ? w->columns - j : LANES;
    uint64_t begin = block * d, rows = w->rows - begin < d ? w->rows - begin : d;
    const float *signs = w->table + block * w->columns, *gauss = w->table + w->blocks * w->columns + block * d;
    memset(x, 0, (size_t)d * LANES * 4);
    for (uint64_t l = 0; l < n; l++) x[(j + l) * LANES + l] = signs[j + l];
    transform(x, d, factor);
    for (uint64_t t = 0; t < d; t++)
        for (unsigned l = 0; l < LANES; l++) y[t * LANES + l] = x[(uint64_t)order[t].position * LANES + l] * gauss[t];
    transform(y, d, factor);
    bool finite = true;
    for (uint64_t i = 0; i < d * LANES; i++) finite &= hn_finite(y[i]);
    for (uint64_t t = 0; t < rows; t++) {
        float *row = out + (begin + t) * w->columns + j, norm = w->scale[begin + t];
        for (uint64_t l = 0; l < n; l++) {
            row[l] = y[t * LANES + l] * norm;
            finite &= hn_finite(row[l]);
        }
    }
    return finite;
}

bool hn_fastfood_all(hn_weight *w, float *out, hn_error *e) {
    uint64_t d = w->size;
    float factor = (float)(1.0 / sqrt((double)d)), *x = malloc((size_t)d * LANES * 4), *y = malloc((size_t)d * LANES * 4);
    place *order = malloc((size_t)d * sizeof *order);
    bool good = (x && y && order) || hn_no_memory(e);
    for (uint64_t block = 0; good && block < w->blocks; block++) {
        for (uint64_t p = 0; p < d; p++) order[p] = (place){hn_xxh32((uint32_t)block, (uint32_t)p, w->seed), (uint32_t)p};
        qsort(order, (size_t)d, sizeof *order, by_key);
        for (uint64_t j = 0; good && j < w->columns; j += LANES)
            good = columns(w, block, j, order, factor, x, y, out) || hn_refuse(e, "the decoding of a weight overflows");
    }
    free(x);
    free(y);
    free(order);
    w->at = w->rows;
    return good;
}
