/* Product quantization (section 7.4): codewords of neighbouring input channels. */
#include <stdlib.h>

#include "weights.h"

static bool read_indices(hn_weight *w, hn_tensor *t, hn_error *e) {
    enum { CHUNK = 1024 };
    int64_t values[CHUNK];
    hn_source *s = &w->source;
    if (!hn_source_open(s, t, e)) return false;
    w->indices = malloc((size_t)t->count * 2 + 2);
    if (!w->indices) return hn_no_memory(e);
    for (uint64_t at = 0; at < t->count;) {
        size_t some = t->count - at < CHUNK ? (size_t)(t->count - at) : CHUNK;
        if (!hn_read_integers(s, values, some, e)) return false;
        for (size_t i = 0; i < some; i++, at++) {
            if (values[i] < 0 || (uint64_t)values[i] >= w->entries) return hn_refuse(e, "indices point outside their codebook");
            w->indices[at] = (uint16_t)values[i];
        }
    }
    return true; /* the source is closed behind the last row */
}

static bool read_order(hn_weight *w, const hn_form *form, uint64_t inputs, hn_error *e) {
    w->order = malloc((size_t)inputs * 4 + 4);
    if (!w->order) return hn_no_memory(e);
    const hn_value *permuted = hn_member(&w->file->manifest, form->edit, "permuted");
    bool has = permuted && permuted->kind == HN_TRUE;
    if (!hn_parts_are(w, form, has ? 3 : 2, e)) return false;
    for (uint64_t j = 0; j < inputs; j++) w->order[j] = (uint32_t)j;
    if (!has) return true;
    hn_tensor *order = hn_part(w, form, "order", HN_I32, 1, e);
    if (!order) return false;
    if (order->count != inputs) return hn_refuse(e, "an order of channels has another length than the inputs");
    return hn_permutation(order, w->order, e);
}

bool hn_pq_open(hn_weight *w, const hn_form *form, hn_error *e) {
    const hn_json *json = &w->file->manifest;
    int64_t inputs, width, entries;
    hn_tensor *codebook = hn_part(w, form, "codebook", HN_F32, 3, e);
    if (!codebook) return false;
    if (!hn_integer(json, hn_member(json, form->edit, "entries"), 1, 1 << 15, &entries) ||
        !hn_integer(json, hn_member(json, form->edit, "inputs"), 1, INT32_MAX, &inputs) ||
        !hn_integer(json, hn_member(json, form->edit, "width"), 1, inputs, &width))
        return hn_refuse(e, "the edit of a product-quantized layer is impossible");
    hn_tensor *indices = hn_part(w, form, "indices", hn_index_type((uint64_t)entries), 0, e);
    if (!indices) return false;
    uint64_t subspaces = ((uint64_t)inputs + (uint64_t)width - 1) / (uint64_t)width;
    bool fit = codebook->shape[0] == subspaces && codebook->shape[1] == (uint64_t)entries && codebook->shape[2] == (uint64_t)width;
    if (!fit || indices->shape[0] != subspaces || (indices->axes != 2 && indices->axes != 4))
        return hn_refuse(e, "the shapes of a product-quantized layer do not fit each other");
    uint64_t most = hn_product(indices->count, (uint64_t)width);
    if (most > w->file->trusted || most > SIZE_MAX / 8) return hn_refuse(e, "a product-quantized layer has more weights than the file can be trusted to hold");
    w->entries = (uint64_t)entries;
    w->width = (uint64_t)width;
    w->axes = indices->axes;
    memcpy(w->shape, indices->shape, sizeof w->shape);
    w->rows = w->shape[0] = indices->shape[1];
    w->shape[1] = (uint64_t)inputs;
    w->size = indices->axes == 4 ? hn_product(indices->shape[2], indices->shape[3]) : 1;
    if (!w->rows || !indices->count) w->rows = w->size = 0;
    w->columns = (uint64_t)inputs * w->size;
    w->table = hn_part_floats(codebook, e);
    return w->table && read_order(w, form, (uint64_t)inputs, e) && read_indices(w, indices, e);
}

void hn_pq_row(hn_weight *w, float *out) {
    uint64_t inputs = w->shape[1], area = w->size;
    for (uint64_t j = 0; j < inputs; j++) {
        const uint16_t *index = w->indices + (j / w->width * w->rows + w->at) * area;
        const float *words = w->table + j / w->width * w->entries * w->width + j % w->width;
        float *place = out + w->order[j] * area;
        for (uint64_t a = 0; a < area; a++) place[a] = words[index[a] * w->width];
    }
}
