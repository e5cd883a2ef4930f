/* Opening a weight by its name, and reading its rows: plain, shared, or by the file of its encoding. */
#include "weights.h"

#include <stdlib.h>

enum { CHUNK = 1024 };

static bool shape_of(hn_weight *w, const hn_tensor *t, hn_error *e) {
    w->axes = t->axes;
    memcpy(w->shape, t->shape, sizeof w->shape);
    w->rows = t->axes ? t->shape[0] : 1;
    w->columns = w->rows ? t->count / w->rows : 0;
    return t->count <= SIZE_MAX / 8 || hn_no_memory(e);
}

static bool open_plain(hn_weight *w, const char *name, size_t size, hn_error *e) {
    hn_tensor *t = hn_find(w->file, name, size, "");
    int shown = size < 80 ? (int)size : 80;
    if (!t) return hn_refuse(e, "the file has no tensor %.*s", shown, name);
    if (t->type != HN_F32) return hn_refuse(e, "tensor %.*s is not of type F32", shown, name);
    w->kind = HN_PLAIN;
    return shape_of(w, t, e) && hn_source_open(&w->source, t, e);
}

static bool open_shared(hn_weight *w, const hn_form *form, hn_error *e) {
    const hn_json *json = &w->file->manifest;
    hn_tensor *codebook = hn_part(w, form, "codebook", HN_F32, 1, e);
    if (!codebook) return false;
    int64_t entries;
    w->entries = codebook->count;
    if (!hn_integer(json, hn_member(json, form->edit, "entries"), 1, 1 << 20, &entries) || (uint64_t)entries != w->entries)
        return hn_refuse(e, "a codebook has another size than its edit says");
    hn_tensor *indices = hn_part(w, form, "indices", hn_index_type(w->entries), 0, e), *scale = NULL;
    if (!indices || indices->axes < 2) return indices ? hn_refuse(e, "indices of a weight need two axes") : false;
    const hn_value *scaled = hn_member(json, form->edit, "scaled");
    if (scaled && scaled->kind == HN_TRUE) {
        scale = hn_part(w, form, "scale", HN_F32, 1, e);
        if (!scale) return false;
        if (scale->count != indices->shape[0]) return hn_refuse(e, "there must be one scale for each output");
        w->scale = hn_part_floats(scale, e);
        if (!w->scale) return false;
    }
    w->table = hn_part_floats(codebook, e);
    return w->table && hn_parts_are(w, form, scale ? 3 : 2, e) && shape_of(w, indices, e) && hn_source_open(&w->source, indices, e);
}

bool hn_weight_of_form(hn_weight *w, hn_file *file, const hn_form *form, hn_error *e) {
    *w = (hn_weight){.file = file, .kind = form->kind};
    bool good = form->kind == HN_SHARED     ? open_shared(w, form, e)
                : form->kind == HN_HASHED   ? hn_hashed_open(w, form, e)
                : form->kind == HN_FASTFOOD ? hn_fastfood_open(w, form, e)
                : form->kind == HN_PQ       ? hn_pq_open(w, form, e)
                                            : hn_parts_are(w, form, 1, e) && hn_int8_open(w, form->layer, form->layer_size, e);
    if (!good) hn_weight_free(w);
    return good;
}

bool hn_weight_open(hn_weight *w, hn_file *file, const char *name, size_t size, hn_error *e) {
    if (size > 7 && !memcmp(name + size - 7, ".weight", 7)) {
        const hn_form *form = hn_find_form(file, name, size - 7);
        if (form) return hn_weight_of_form(w, file, form, e);
    }
    *w = (hn_weight){.file = file};
    if (open_plain(w, name, size, e)) return true;
    hn_weight_free(w);
    return false;
}

static bool shared_row(hn_weight *w, float *out, hn_error *e) {
    int64_t values[CHUNK];
    for (uint64_t done = 0; done < w->columns;) {
        size_t some = w->columns - done < CHUNK ? (size_t)(w->columns - done) : CHUNK;
        uint64_t most = 0;
        if (!hn_read_integers(&w->source, values, some, e)) return false;
        for (size_t i = 0; i < some; i++) most = (uint64_t)values[i] > most ? (uint64_t)values[i] : most;
        if (most >= w->entries) return hn_refuse(e, "indices point outside their codebook");
        for (size_t i = 0; i < some; i++) out[done + i] = w->table[values[i]];
        done += some;
    }
    if (!w->scale) return true;
    bool finite = true;
    for (uint64_t c = 0; c < w->columns; c++) {
        out[c] *= w->scale[w->at];
        finite &= hn_finite(out[c]);
    }
    return finite || hn_refuse(e, "the decoding of a weight overflows");
}

static bool all_finite(const float *values, uint64_t count, hn_error *e) {
    bool finite = true;
    for (uint64_t i = 0; i < count; i++) finite &= hn_finite(values[i]);
    return finite || hn_refuse(e, "the decoding of a weight overflows");
}

bool hn_weight_read(hn_weight *w, float *out, uint64_t rows, hn_error *e) {
    if (w->kind == HN_PLAIN) {
        w->at += rows;
        return hn_read_floats(&w->source, out, (size_t)(rows * w->columns), e);
    }
    if (w->kind == HN_FASTFOOD) {
        if (rows == w->rows) return hn_fastfood_all(w, out, e);
        if (!w->more) {
            w->more = malloc((size_t)(w->rows * w->columns) * 4);
            if (!w->more) return hn_no_memory(e);
            if (!hn_fastfood_all(w, w->more, e)) return false;
            w->at = 0;
        }
        memcpy(out, w->more + w->at * w->columns, (size_t)(rows * w->columns) * 4);
        w->at += rows;
        return true;
    }
    for (uint64_t r = 0; r < rows; r++, w->at++, out += w->columns) {
        bool good = true;
        if (w->kind == HN_SHARED) good = shared_row(w, out, e);
        else if (w->kind == HN_INT8) good = hn_int8_row(w, out, e);
        else if (w->kind == HN_PQ) hn_pq_row(w, out);
        else {
            hn_hashed_row(w, out);
            good = all_finite(out, w->columns, e);
        }
        if (!good) return false;
    }
    return true;
}

bool hn_weight_end(hn_weight *w, hn_error *e) {
    return !w->source.tensor || hn_source_end(&w->source, e);
}

void hn_weight_free(hn_weight *w) {
    hn_source_free(&w->source);
    free(w->table);
    free(w->scale);
    free(w->more);
    free(w->indices);
    free(w->order);
    free(w->sizes);
    free(w->cosines[0]);
    free(w->cosines[1]);
    *w = (hn_weight){0};
}
