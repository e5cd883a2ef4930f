/* Which layers are compressed, and the tensors of their encodings. */
#include <stdlib.h>

#include "weights.h"

static int compare(const char *a, size_t m, const char *b, size_t n) {
    int order = memcmp(a, b, m < n ? m : n);
    return order ? order : (m > n) - (m < n);
}

static int by_layer(const void *a, const void *b) {
    const hn_form *x = a, *y = b;
    return compare(x->layer, x->layer_size, y->layer, y->layer_size);
}

static bool has_prefix(const hn_file *file, const hn_tensor *t, const hn_form *form) {
    return t < file->tensors + file->count && t->name_size >= form->layer_size + 6 &&
           !memcmp(t->name, form->layer, form->layer_size) && !memcmp(t->name + form->layer_size, ".form.", 6);
}

static hn_tensor *first_part(const hn_file *file, const hn_form *form) {
    return hn_find_first(file, form->layer, form->layer_size, ".form.");
}

bool hn_read_forms(hn_file *file, const hn_value *edits, hn_error *e) {
    static const char KINDS[][9] = {"shared", "hashed", "fastfood", "pq", "int8"};
    const hn_json *json = &file->manifest;
    file->forms = malloc((edits->size + 1) * sizeof *file->forms);
    if (!file->forms) return hn_no_memory(e);
    HN_ITEMS(json, edits, edit) {
        const hn_value *layer = hn_member(json, edit, "layer"), *kind = hn_member(json, edit, "kind");
        if (!layer || layer->kind != HN_TEXT) continue;
        hn_form form = {json->text + layer->start, layer->size, HN_FOREIGN, edit};
        for (unsigned k = 0; k < HN_FOREIGN; k++)
            if (hn_text_is(json, kind, KINDS[k])) form.kind = (uint8_t)k;
        if (form.kind == HN_FOREIGN) {
            bool code = memchr(json->text + kind->start, ':', kind->size) != NULL;
            if (code && has_prefix(file, first_part(file, &form), &form))
                return hn_refuse(e, "a layer has an encoding of code outside of hashpress, which this reader cannot run");
            continue;
        }
        file->forms[file->form_count++] = form;
    }
    qsort(file->forms, file->form_count, sizeof *file->forms, by_layer);
    for (size_t i = 1; i < file->form_count; i++)
        if (!by_layer(file->forms + i - 1, file->forms + i)) return hn_refuse(e, "a layer is compressed twice");
    return true;
}

const hn_form *hn_find_form(const hn_file *file, const char *layer, size_t size) {
    hn_form wanted = {.layer = layer, .layer_size = (uint32_t)size};
    if (!file->form_count) return NULL;
    return bsearch(&wanted, file->forms, file->form_count, sizeof wanted, by_layer);
}

hn_tensor *hn_part(hn_weight *w, const hn_form *form, const char *name, unsigned type, unsigned axes, hn_error *e) {
    char suffix[32] = ".form.";
    strncat(suffix, name, sizeof suffix - 7);
    hn_tensor *t = hn_find(w->file, form->layer, form->layer_size, suffix);
    int shown = form->layer_size < 80 ? (int)form->layer_size : 80;
    if (!t) hn_refuse(e, "layer %.*s has no tensor form.%s", shown, form->layer, name);
    else if (t->type != type || (axes && t->axes != axes)) {
        hn_refuse(e, "layer %.*s: form.%s has another type or shape", shown, form->layer, name);
        t = NULL;
    }
    return t;
}

bool hn_parts_are(hn_weight *w, const hn_form *form, unsigned count, hn_error *e) {
    unsigned found = 0;
    for (const hn_tensor *t = first_part(w->file, form); found <= count && has_prefix(w->file, t, form); t++) found++;
    return found == count || hn_refuse(e, "a compressed layer has a tensor too many");
}

float *hn_part_floats(hn_tensor *t, hn_error *e) {
    float *values = hn_all_floats(t, e);
    bool good = true;
    for (uint64_t i = 0; values && i < t->count; i++) good &= hn_finite(values[i]);
    if (good) return values;
    free(values);
    hn_refuse(e, "some values of a compressed layer are not finite");
    return NULL;
}

unsigned hn_index_type(uint64_t entries) { return entries <= 256 ? HN_U8 : entries <= 32768 ? HN_I16 : HN_I32; }

/* Reads a permutation of 0 to count - 1; `order` may be NULL. */
bool hn_permutation(hn_tensor *t, uint32_t *order, hn_error *e) {
    hn_source s;
    if (t->axes != 1 || t->type < HN_I64) return hn_refuse(e, "an order of channels has another type or shape");
    if (!hn_source_open(&s, t, e)) return false;
    uint8_t *taken = calloc((size_t)t->count + 1, 1);
    bool good = taken || hn_no_memory(e);
    for (uint64_t i = 0; good && i < t->count; i++) {
        int64_t value;
        good = hn_read_integers(&s, &value, 1, e);
        if (good && (value < 0 || (uint64_t)value >= t->count || taken[value]++)) good = hn_refuse(e, "an order of channels is no permutation");
        if (good && order) order[i] = (uint32_t)value;
    }
    good = good && hn_source_end(&s, e);
    free(taken);
    hn_source_free(&s);
    return good;
}
