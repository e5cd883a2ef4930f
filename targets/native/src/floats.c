/* The forms of a float stream. */
#include "floats.h"

#include <math.h>
#include <stdlib.h>

enum { RAW, HALF, SPARSE, PLANES, GRID, CHUNK = 1024 };

static uint32_t widened(uint32_t half) { /* the bits of a binary16 as those of a binary32 */
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, rest = half & 1023;
    if (exponent == 31) return sign | 0x7F800000 | rest << 13;
    if (exponent) return sign | (exponent + 112) << 23 | rest << 13;
    if (!rest) return sign;
    unsigned shift = 0;
    for (; !(rest & 1024); shift++) rest <<= 1;
    return sign | (113 - shift) << 23 | (rest & 1023) << 13;
}

static bool open_sparse(hn_floats *s, hn_bytes *b, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e) {
    uint64_t n, ones = 0;
    if (!hn_varint(b, &n) || n > hn_left(b)) return hn_refuse(e, "a sparse stream ends too early");
    if (!hn_integers_open(&s->integers, (hn_bytes){b->at, b->at + n}, axes, shape, count, e)) return false;
    s->mask = calloc(count / 8 + 1, 1);
    s->inner = calloc(1, sizeof *s->inner);
    if (!s->mask || !s->inner) return hn_no_memory(e);
    int64_t values[CHUNK];
    for (uint64_t at = 0; at < count;) {
        size_t some = count - at < CHUNK ? (size_t)(count - at) : CHUNK;
        hn_integers_read(&s->integers, values, some);
        for (size_t i = 0; i < some; i++, at++) {
            if (values[i] & ~(int64_t)1) return hn_refuse(e, "the mask of a sparse stream is damaged");
            s->mask[at / 8] |= (uint8_t)(values[i] << at % 8);
            ones += (uint64_t)values[i];
        }
    }
    if (!hn_integers_end(&s->integers, e)) return false;
    hn_integers_free(&s->integers);
    hn_bytes rest = {b->at + n, b->end};
    if (rest.at < rest.end && *rest.at == SPARSE) return hn_refuse(e, "a sparse stream within another");
    return hn_floats_open(s->inner, rest, 1, &ones, ones, e);
}

static bool open_form(hn_floats *s, hn_bytes *b, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e) {
    uint64_t n = 0;
    switch (s->form) {
    case RAW:
    case HALF:
        s->data = b->at;
        return hn_left(b) == hn_product(count, s->form == RAW ? 4 : 2) || hn_refuse(e, "a float stream has another length");
    case SPARSE: return open_sparse(s, b, axes, shape, count, e);
    case PLANES:
        if (!hn_varint(b, &n) || n > hn_left(b)) return hn_refuse(e, "a float stream ends too early");
        s->data = b->at + n;
        s->size = hn_left(b) - n;
        if (s->size != hn_sum(hn_product(count, 23), 7) / 8) return hn_refuse(e, "a float stream has another length");
        return hn_integers_open(&s->integers, (hn_bytes){b->at, b->at + n}, 1, &count, count, e);
    case GRID:
        if (b->at == b->end || *b->at > 40) return hn_refuse(e, "the grid of a float stream is impossible");
        s->scale = ldexpf(1.0f, *b->at++ - 24);
        return hn_integers_open(&s->integers, *b, 1, &count, count, e);
    default: return hn_refuse(e, "unknown form of a float stream");
    }
}

bool hn_floats_open(hn_floats *s, hn_bytes stream, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e) {
    *s = (hn_floats){0};
    if (stream.at == stream.end) return hn_refuse(e, "a float stream is empty");
    s->form = *stream.at++;
    if (open_form(s, &stream, axes, shape, count, e)) return true;
    hn_floats_free(s);
    return false;
}

static bool from_integers(hn_floats *s, float *out, size_t n, hn_error *e) {
    int64_t values[CHUNK];
    for (size_t done = 0; done < n;) {
        size_t some = n - done < CHUNK ? n - done : CHUNK;
        hn_integers_read(&s->integers, values, some);
        for (size_t i = 0; i < some; i++) {
            if (s->form == GRID) {
                if (values[i] < -2047 || values[i] > 2047) return hn_refuse(e, "a value is outside of its grid");
                out[done + i] = (float)values[i] * s->scale;
            } else {
                if (values[i] < 0 || values[i] > 511) return hn_refuse(e, "the exponents of a float stream are damaged");
                uint32_t bits = (uint32_t)values[i] << 23 | (uint32_t)hn_field(s->data, s->size, s->at + done + i, 23);
                memcpy(out + done + i, &bits, 4);
            }
        }
        done += some;
    }
    return true;
}

bool hn_floats_read(hn_floats *s, float *out, size_t n, hn_error *e) {
    bool good = true;
    if (s->form == RAW) {
        if (n) memcpy(out, s->data + 4 * s->at, 4 * n);
    } else if (s->form == HALF) {
        for (size_t i = 0; i < n; i++) {
            const uint8_t *p = s->data + 2 * (s->at + i);
            uint32_t bits = widened(p[0] | (uint32_t)p[1] << 8);
            memcpy(out + i, &bits, 4);
        }
    } else if (s->form == SPARSE) {
        size_t ones = 0;
        for (size_t i = 0; i < n; i++) ones += s->mask[(s->at + i) / 8] >> ((s->at + i) % 8) & 1;
        good = hn_floats_read(s->inner, out, ones, e);
        for (size_t i = n; good && i-- > 0;) {
            if (s->mask[(s->at + i) / 8] >> ((s->at + i) % 8) & 1) memmove(out + i, out + --ones, 4);
            else out[i] = 0;
        }
    } else good = from_integers(s, out, n, e);
    s->at += n;
    return good;
}

bool hn_floats_end(const hn_floats *s, hn_error *e) {
    if (s->form == SPARSE) return hn_floats_end(s->inner, e);
    return s->form < PLANES || hn_integers_end(&s->integers, e);
}

void hn_floats_free(hn_floats *s) {
    if (s->inner) hn_floats_free(s->inner);
    free(s->inner);
    free(s->mask);
    hn_integers_free(&s->integers);
    *s = (hn_floats){0};
}
