/* The manifest: coded tensors beside the plain ones, sorted by name; limits of section 9.1. */
#include <stdlib.h>

#include "file.h"

enum { LARGEST = 1 << 24 };

static const char TYPE_NAMES[HN_TYPES][5] = {"F32", "F16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL"};
static const uint8_t TYPE_BYTES[HN_TYPES] = {4, 2, 8, 8, 4, 2, 1, 1, 1};

unsigned hn_type_bytes(unsigned type) { return TYPE_BYTES[type]; }

unsigned hn_type_of(const char *name, size_t size) {
    unsigned type = 0;
    while (type < HN_TYPES && (strlen(TYPE_NAMES[type]) != size || memcmp(TYPE_NAMES[type], name, size))) type++;
    return type;
}

/* One entry of `coded`: ["NAME", "TYPE", [shape], size, tables]. */
static bool row(hn_file *file, const hn_value *v, hn_tensor *t, hn_error *e) {
    const hn_json *json = &file->manifest;
    if (v->kind != HN_LIST || v->size != 5) return hn_refuse(e, "a coded tensor must be a list of 5");
    const hn_value *part[5];
    unsigned n = 0;
    HN_ITEMS(json, v, item) part[n++] = item;
    int64_t size, tables, side;
    if (part[0]->kind != HN_TEXT || part[1]->kind != HN_TEXT || part[2]->kind != HN_LIST || part[2]->size > HN_AXES)
        return hn_refuse(e, "a coded tensor needs a name, a type and a shape");
    *t = (hn_tensor){.name = json->text + part[0]->start, .name_size = part[0]->size, .coded = true, .count = 1};
    t->type = (uint8_t)hn_type_of(json->text + part[1]->start, part[1]->size);
    if (t->type == HN_TYPES) return hn_refuse(e, "a coded tensor has an unknown type");
    const int64_t most = ((int64_t)1 << 40) - 1;
    if (!hn_integer(json, part[3], 0, most, &size) || !hn_integer(json, part[4], 0, size, &tables))
        return hn_refuse(e, "a coded tensor has an impossible size");
    bool empty = false;
    HN_ITEMS(json, part[2], item) {
        if (!hn_integer(json, item, 0, most, &side)) return hn_refuse(e, "a coded tensor has an impossible shape");
        t->shape[t->axes++] = (uint64_t)side;
        empty |= !side;
        t->count = hn_product(t->count, (uint64_t)side);
    }
    if (empty) t->count = 0;
    t->size = (uint64_t)size;
    return true;
}

static int by_name(const void *a, const void *b) {
    const hn_tensor *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->name_size < y->name_size ? x->name_size : y->name_size);
    return order ? order : (x->name_size > y->name_size) - (x->name_size < y->name_size);
}

static bool add_coded(hn_file *file, const hn_value *coded, hn_error *e) {
    uint64_t plain = 0, numbers = 0;
    for (size_t i = 0; i < file->count; i++) plain += file->tensors[i].size;
    hn_tensor *moved = realloc(file->tensors, (file->count + coded->size + 1) * sizeof *moved);
    if (!moved) return hn_no_memory(e);
    file->tensors = moved;
    const uint8_t *at = file->streams.at;
    HN_ITEMS(&file->manifest, coded, item) {
        hn_tensor *t = file->tensors + file->count;
        if (!row(file, item, t, e)) return false;
        if (t->size > (uint64_t)(file->streams.end - at)) return hn_refuse(e, "the sizes in the manifest exceed the streams");
        t->data = at;
        at += t->size;
        numbers = hn_sum(numbers, t->count);
        file->count++;
    }
    if (at != file->streams.end) return hn_refuse(e, "the sizes in the manifest do not add up to the streams");
    uint64_t length = hn_left(&file->packed) + hn_left(&file->streams);
    if (numbers > HN_BEFORE_MEMORY + HN_PER_BYTE * (file->header + length))
        return hn_refuse(e, "more numbers are declared than the file can be trusted to hold");
    file->trusted = HN_BEFORE_MEMORY + HN_PER_BYTE * (length + plain);
    qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
    for (size_t i = 1; i < file->count; i++)
        if (!by_name(file->tensors + i - 1, file->tensors + i)) return hn_refuse(e, "a tensor stands twice");
    return true;
}

bool hn_read_manifest(hn_file *file, hn_error *e) {
    uint8_t *text;
    size_t size;
    if (!hn_unzlib(file->packed, LARGEST, &text, &size, e)) return false;
    if (!hn_json_parse(&file->manifest, (char *)text, size, e)) return false;
    const hn_value *whole = file->manifest.values, *coded = hn_member(&file->manifest, whole, "coded");
    const hn_value *edits = hn_member(&file->manifest, whole, "edits"), *history = hn_member(&file->manifest, whole, "history");
    if (whole->size != 4 || !coded || !edits || !history || !hn_member(&file->manifest, whole, "arch"))
        return hn_refuse(e, "the manifest must have the keys arch, edits, coded, history");
    if (coded->kind != HN_LIST || edits->kind != HN_LIST || history->kind != HN_LIST)
        return hn_refuse(e, "edits, coded and history of the manifest must be lists");
    return add_coded(file, coded, e) && hn_check_edits(&file->manifest, edits, e) && hn_read_forms(file, edits, e);
}

bool hn_file_open(hn_file *file, const uint8_t *content, size_t size, hn_error *e) {
    *file = (hn_file){0};
    if (hn_read_header(file, content, size, e) && hn_read_manifest(file, e)) return true;
    hn_file_close(file);
    return false;
}

void hn_file_close(hn_file *file) {
    hn_json_free(&file->manifest);
    free(file->tensors);
    free(file->forms);
    free(file->names);
    *file = (hn_file){0};
}

static int against(const hn_tensor *t, const char *prefix, size_t size, const char *suffix) {
    size_t rest = strlen(suffix), first = size < t->name_size ? size : t->name_size;
    int order = memcmp(prefix, t->name, first);
    if (order) return order;
    if (first < size) return 1;
    size_t left = t->name_size - size, both = left < rest ? left : rest;
    order = memcmp(suffix, t->name + size, both);
    return order ? order : (rest > left) - (rest < left);
}

hn_tensor *hn_find_first(const hn_file *file, const char *prefix, size_t size, const char *suffix) {
    size_t low = 0, high = file->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (against(file->tensors + middle, prefix, size, suffix) <= 0) high = middle;
        else low = middle + 1;
    }
    return file->tensors + low;
}

hn_tensor *hn_find(const hn_file *file, const char *prefix, size_t size, const char *suffix) {
    hn_tensor *found = hn_find_first(file, prefix, size, suffix);
    return found < file->tensors + file->count && !against(found, prefix, size, suffix) ? found : NULL;
}

bool hn_ends(const hn_tensor *t, const char *suffix) {
    size_t size = strlen(suffix);
    return t->name_size >= size && !memcmp(t->name + t->name_size - size, suffix, size);
}
