/* Weights hashed from a few values (section 7.2), of kernels as cosine coefficients in frequency bands. */
#include <math.h>
#include <stdlib.h>

#include "weights.h"

enum { LARGEST_KERNEL = 256 }; /* side of a kernel whose cosine transform is taken */

static float *cosines(uint64_t n) {
    float *table = malloc((size_t)(n * n) * 4);
    for (uint64_t k = 0; table && k < n; k++)
        for (uint64_t p = 0; p < n; p++) {
            double angle = (3.14159265358979311600 * (double)(k * (2 * p + 1))) / (double)(2 * n);
            double value = cos(angle) * sqrt(2.0 / (double)n);
            table[k * n + p] = (float)(k ? value : value / sqrt(2.0));
        }
    return table;
}

static bool read_sizes(hn_weight *w, const hn_value *sizes, uint64_t values, hn_error *e) {
    const hn_json *json = &w->file->manifest;
    uint64_t total = 0, n = 0;
    int64_t size;
    w->width = sizes->size;
    w->sizes = malloc(2 * 4 * ((size_t)w->width + 1)); /* sizes, then where each band begins */
    if (!w->sizes) return hn_no_memory(e);
    HN_ITEMS(json, sizes, item) {
        if (!hn_integer(json, item, 1, INT32_MAX, &size) || total + (uint64_t)size > values)
            return hn_refuse(e, "the sizes of hashed bands are impossible");
        w->sizes[n] = (uint32_t)size;
        w->sizes[w->width + n++] = (uint32_t)total;
        total += (uint64_t)size;
    }
    return (total == values && n) || hn_refuse(e, "a hashed layer has another number of values than its bands");
}

bool hn_hashed_open(hn_weight *w, const hn_form *form, hn_error *e) {
    const hn_json *json = &w->file->manifest;
    const hn_value *shape = hn_member(json, form->edit, "shape"), *sizes = hn_member(json, form->edit, "sizes");
    hn_tensor *values = hn_part(w, form, "values", HN_F32, 1, e);
    int64_t seed, side;
    if (!values || !hn_parts_are(w, form, 1, e)) return false;
    if (!hn_integer(json, hn_member(json, form->edit, "seed"), 0, UINT32_MAX, &seed) || (shape->size != 2 && shape->size != 4))
        return hn_refuse(e, "seed or shape of a hashed layer is impossible");
    uint64_t count = 1;
    HN_ITEMS(json, shape, item) {
        if (!hn_integer(json, item, 1, INT64_MAX, &side)) return hn_refuse(e, "the shape of a hashed layer is impossible");
        w->shape[w->axes++] = (uint64_t)side;
        count = hn_product(count, (uint64_t)side);
    }
    if (count > w->file->trusted || count > SIZE_MAX / 8) return hn_refuse(e, "a hashed layer has more weights than the file can be trusted to hold");
    w->seed = (uint32_t)seed;
    w->rows = w->shape[0];
    w->columns = count / w->rows;
    if (w->rows > UINT32_MAX || w->columns > UINT32_MAX || values->count > UINT32_MAX) return hn_refuse(e, "a hashed layer is too large");
    if (sizes->size != 1 && (w->axes != 4 || sizes->size != w->shape[2] + w->shape[3] - 1))
        return hn_refuse(e, "a hashed layer has another number of bands than its kernel");
    if (sizes->size > 1 && (w->shape[2] > LARGEST_KERNEL || w->shape[3] > LARGEST_KERNEL))
        return hn_refuse(e, "the kernel of a hashed layer is larger than %d", LARGEST_KERNEL);
    if (!read_sizes(w, sizes, values->count, e)) return false;
    if (w->width > 1) {
        w->cosines[0] = cosines(w->shape[2]);
        w->cosines[1] = cosines(w->shape[3]);
        w->more = malloc((size_t)(w->shape[2] * w->shape[3]) * 4);
        if (!w->cosines[0] || !w->cosines[1] || !w->more) return hn_no_memory(e);
    }
    w->table = hn_part_floats(values, e);
    return w->table != NULL;
}

static float entry(const hn_weight *w, uint32_t column, uint64_t band) {
    uint32_t row = (uint32_t)w->at, place = hn_xxh32(row, column, w->seed) % w->sizes[band] + w->sizes[w->width + band];
    uint32_t sign = hn_xxh32(row, column, w->seed ^ 0x9E3779B9u) & 0x80000000u, bits;
    memcpy(&bits, w->table + place, 4);
    bits ^= sign;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The inverse transform of one kernel: along its rows into `more`, then along its columns. */
static void transform(hn_weight *w, float *kernel) {
    uint64_t high = w->shape[2], wide = w->shape[3];
    const float *down = w->cosines[0], *across = w->cosines[1];
    for (uint64_t y = 0; y < high; y++)
        for (uint64_t v = 0; v < wide; v++) {
            float total = down[y] * kernel[v];
            for (uint64_t u = 1; u < high; u++) {
                float product = down[u * high + y] * kernel[u * wide + v];
                total = total + product;
            }
            w->more[y * wide + v] = total;
        }
    for (uint64_t y = 0; y < high; y++)
        for (uint64_t x = 0; x < wide; x++) {
            float total = across[x] * w->more[y * wide];
            for (uint64_t v = 1; v < wide; v++) {
                float product = across[v * wide + x] * w->more[y * wide + v];
                total = total + product;
            }
            kernel[y * wide + x] = total;
        }
}

void hn_hashed_row(hn_weight *w, float *out) {
    if (w->width == 1) {
        for (uint64_t c = 0; c < w->columns; c++) out[c] = entry(w, (uint32_t)c, 0);
        return;
    }
    uint64_t high = w->shape[2], wide = w->shape[3];
    for (uint64_t c = 0; c < w->columns; c++) out[c] = entry(w, (uint32_t)c, c / wide % high + c % wide);
    for (uint64_t at = 0; at < w->columns; at += high * wide) transform(w, out + at);
}
