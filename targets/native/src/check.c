/* What a network does not use is checked too: a damaged file is refused wherever it is damaged. */
#include <stdlib.h>

#include "weights.h"

static bool read_weight(hn_weight *w, hn_error *e) {
    uint64_t rows = w->kind == HN_FASTFOOD ? w->rows : 1;
    if (!w->rows || !w->columns) {
        if (w->kind == HN_INT8) /* rows without values still have biases */
            for (w->at = 0; w->at < w->rows; w->at++)
                if (!hn_int8_row(w, NULL, e)) return false;
        return hn_weight_end(w, e);
    }
    float *row = malloc((size_t)(rows * w->columns) * 4);
    bool good = row || hn_no_memory(e);
    for (uint64_t at = 0; good && at < w->rows; at += rows) good = hn_weight_read(w, row, rows, e);
    free(row);
    return good && hn_weight_end(w, e);
}

static bool check_form(hn_file *file, const hn_form *form, hn_error *e) {
    hn_weight w;
    bool good = hn_weight_of_form(&w, file, form, e) && read_weight(&w, e);
    hn_weight_free(&w);
    return good;
}

/* The entries of the codebook beside indices; 0 where there is none. */
static uint64_t codebook_entries(const hn_file *file, const hn_tensor *t) {
    const hn_tensor *codebook = hn_find(file, t->name, t->name_size - 7, "codebook");
    return !codebook || !codebook->axes ? 0 : codebook->shape[codebook->axes > 1];
}

static bool check_values(hn_file *file, hn_tensor *t, hn_error *e) {
    enum { CHUNK = 1024 };
    int64_t values[CHUNK];
    float floats[CHUNK];
    bool indices = hn_ends(t, ".form.indices");
    uint64_t entries = indices ? codebook_entries(file, t) : 0;
    hn_source s;
    if (indices && t->type < HN_I64) return hn_refuse(e, "indices are no integers");
    if (!hn_source_open(&s, t, e)) return false;
    bool good = true;
    for (uint64_t at = 0; good && (t->coded || indices) && at < t->count;) {
        size_t some = t->count - at < CHUNK ? (size_t)(t->count - at) : CHUNK;
        good = t->type == HN_F32 ? hn_read_floats(&s, floats, some, e) : hn_read_integers(&s, values, some, e);
        for (size_t i = 0; good && indices && i < some; i++)
            if ((uint64_t)values[i] >= entries) good = hn_refuse(e, "indices point outside their codebook");
        at += some;
    }
    good = good && hn_source_end(&s, e);
    hn_source_free(&s);
    return good;
}

static bool check_tensor(hn_file *file, hn_tensor *t, hn_error *e) {
    if (hn_ends(t, ".form.order")) return hn_permutation(t, NULL, e);
    if (hn_ends(t, ".form.integers")) {
        hn_weight w = {.file = file};
        bool good = hn_int8_open(&w, t->name, t->name_size - 14, e) && read_weight(&w, e);
        hn_weight_free(&w);
        return good;
    }
    return check_values(file, t, e);
}

/* Whether all tensors of a form were read. */
static bool was_read(const hn_file *file, const hn_form *form) {
    const hn_tensor *t = hn_find_first(file, form->layer, form->layer_size, ".form."), *end = file->tensors + file->count;
    bool any = false;
    for (; t < end && t->name_size > form->layer_size + 6 && !memcmp(t->name, form->layer, form->layer_size) &&
           !memcmp(t->name + form->layer_size, ".form.", 6); t++) {
        if (!t->read) return false;
        any = true;
    }
    return any;
}

bool hn_check_rest(hn_file *file, hn_error *e) {
    for (size_t i = 0; i < file->form_count; i++)
        if (!was_read(file, file->forms + i) && !check_form(file, file->forms + i, e)) return false;
    for (size_t i = 0; i < file->count; i++)
        if (!file->tensors[i].read && !check_tensor(file, file->tensors + i, e)) return false;
    return true;
}
