/* The values of a tensor, wherever they are: plain in the file, or in a stream. */
#include <stdlib.h>

#include "floats.h"

bool hn_source_open(hn_source *s, hn_tensor *t, hn_error *e) {
    *s = (hn_source){.tensor = t};
    hn_bytes stream = {t->data, t->data + t->size};
    if (!t->coded) return true;
    if (t->type == HN_F32) return hn_floats_open(&s->floats, stream, t->axes, t->shape, t->count, e);
    if (t->type == HN_F16 || t->type == HN_F64) return hn_refuse(e, "tensors of this type cannot be entropy-coded");
    return hn_integers_open(&s->integers, stream, t->axes, t->shape, t->count, e);
}

bool hn_read_floats(hn_source *s, float *out, size_t n, hn_error *e) {
    if (s->tensor->coded) return hn_floats_read(&s->floats, out, n, e);
    if (n) memcpy(out, s->tensor->data + 4 * s->at, 4 * n);
    s->at += n;
    return true;
}

static int64_t plain(const hn_tensor *t, uint64_t at) {
    const uint8_t *p = t->data + at * hn_type_bytes(t->type);
    switch (t->type) {
    case HN_I64: return (int64_t)hn_u64(p);
    case HN_I32: return (int32_t)hn_u32(p);
    case HN_I16: return (int16_t)(p[0] | p[1] << 8);
    case HN_I8: return (int8_t)*p;
    default: return *p;
    }
}

bool hn_read_integers(hn_source *s, int64_t *out, size_t n, hn_error *e) {
    static const int64_t LOW[HN_TYPES] = {0, 0, 0, INT64_MIN, INT32_MIN, INT16_MIN, INT8_MIN, 0, 0};
    static const int64_t HIGH[HN_TYPES] = {0, 0, 0, INT64_MAX, INT32_MAX, INT16_MAX, INT8_MAX, UINT8_MAX, 1};
    const hn_tensor *t = s->tensor;
    if (!t->coded) {
        for (size_t i = 0; i < n; i++) out[i] = plain(t, s->at + i);
        s->at += n;
        return true;
    }
    hn_integers_read(&s->integers, out, n);
    int64_t low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = out[i] < low ? out[i] : low;
        high = out[i] > high ? out[i] : high;
    }
    return (low >= LOW[t->type] && high <= HIGH[t->type]) || hn_refuse(e, "values are out of range of their type");
}

bool hn_source_end(hn_source *s, hn_error *e) {
    bool floats = s->tensor->type == HN_F32;
    if (s->tensor->coded && !(floats ? hn_floats_end(&s->floats, e) : hn_integers_end(&s->integers, e))) return false;
    s->tensor->read = true;
    return true;
}

void hn_source_free(hn_source *s) {
    hn_floats_free(&s->floats);
    hn_integers_free(&s->integers);
}

float *hn_all_floats(hn_tensor *t, hn_error *e) {
    hn_source s;
    float *values = NULL;
    if (!hn_source_open(&s, t, e)) return NULL;
    if (t->count <= SIZE_MAX / 4 - 1) values = malloc(4 * (size_t)t->count + 4);
    if (!values) hn_no_memory(e);
    else if (!hn_read_floats(&s, values, (size_t)t->count, e) || !hn_source_end(&s, e)) {
        free(values);
        values = NULL;
    }
    hn_source_free(&s);
    return values;
}
