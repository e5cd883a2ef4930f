/* The modes of an integer stream. */
#include "integers.h"

#include <stdlib.h>

enum { CONSTANT, PACKED, ORDER0, ADAPTIVE };

uint64_t hn_field(const uint8_t *bits, size_t bytes, uint64_t at, unsigned width) {
    uint64_t bit = at * width, value = 0, mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
    size_t byte = (size_t)(bit / 8);
    unsigned shift = bit % 8;
    if (byte + 8 <= bytes) value = hn_u64(bits + byte);
    else memcpy(&value, bits + byte, bytes - byte);
    value >>= shift;
    if (shift + width > 64) value |= (uint64_t)bits[byte + 8] << (64 - shift);
    return value & mask;
}

static bool open_mode(hn_integers *s, hn_bytes *b, unsigned axes, const uint64_t *shape, hn_error *e) {
    switch (s->mode) {
    case CONSTANT:
        return (hn_signed(b, &s->low) && b->at == b->end) || hn_refuse(e, "a constant stream is damaged");
    case PACKED: {
        if (!hn_signed(b, &s->low) || b->at == b->end) return hn_refuse(e, "a packed stream is damaged");
        s->width = *b->at++;
        s->bits = b->at;
        s->bit_bytes = hn_left(b);
        if (s->width < 1 || s->width > 64 || s->bit_bytes != hn_sum(hn_product(s->count, s->width), 7) / 8)
            return hn_refuse(e, "a packed stream has another length");
        return true;
    }
    case ORDER0:
    case ADAPTIVE:
        s->alphabet = malloc(sizeof *s->alphabet);
        if (!s->alphabet) return hn_no_memory(e);
        if (s->mode == ADAPTIVE) return hn_adaptive_open(s, b, axes, shape, e);
        return hn_alphabet_read(s->alphabet, b, e) && hn_coder_open(&s->coder, *b, e);
    default:
        return hn_refuse(e, "unknown mode of an integer stream");
    }
}

bool hn_integers_open(hn_integers *s, hn_bytes stream, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e) {
    *s = (hn_integers){.count = count};
    if (stream.at == stream.end) return hn_refuse(e, "an integer stream is empty");
    s->mode = *stream.at++;
    if (open_mode(s, &stream, axes, shape, e)) return true;
    hn_integers_free(s);
    return false;
}

static void pop(hn_integers *s, int64_t *out, size_t n) {
    if (s->alphabet->count > 1) hn_pop(&s->coder, s->alphabet, out, n);
    else
        for (size_t i = 0; i < n; i++) out[i] = s->alphabet->symbols[0];
}

/* Values of flags that are 1 are popped together and then spread, from the last. */
static void spread(hn_integers *s, int64_t *out, size_t n) {
    size_t ones = 0;
    for (size_t i = 0; i < n; i++) ones += s->flags[(s->at + i) / 8] >> ((s->at + i) % 8) & 1;
    pop(s, out, ones);
    for (size_t i = n; i-- > 0;) out[i] = s->flags[(s->at + i) / 8] >> ((s->at + i) % 8) & 1 ? out[--ones] : 0;
}

void hn_integers_read(hn_integers *s, int64_t *out, size_t n) {
    switch (s->mode) {
    case CONSTANT:
        for (size_t i = 0; i < n; i++) out[i] = s->low;
        break;
    case PACKED:
        for (size_t i = 0; i < n; i++)
            out[i] = (int64_t)((uint64_t)s->low + hn_field(s->bits, s->bit_bytes, s->at + i, s->width));
        break;
    case ORDER0: pop(s, out, n); break;
    default: spread(s, out, n);
    }
    s->at += n;
}

bool hn_integers_end(const hn_integers *s, hn_error *e) {
    return s->mode < ORDER0 || !s->coder.state || hn_refuse(e, "a stream is damaged: its coder does not end at zero");
}

void hn_integers_free(hn_integers *s) {
    free(s->alphabet);
    free(s->flags);
    *s = (hn_integers){0};
}
