/* Integer streams (section 4), read a few values at a time: a tensor need not be held whole. */
#ifndef HN_INTEGERS_H
#define HN_INTEGERS_H

#include "coder.h"

typedef struct {
    unsigned mode, width;
    int64_t low;         /* of a constant stream: its value */
    const uint8_t *bits; /* packed values */
    size_t bit_bytes;
    uint64_t at, count;
    hn_coder coder;
    hn_alphabet *alphabet;
    uint8_t *flags; /* of an adaptive stream: one bit a value, that it is not zero */
} hn_integers;

bool hn_integers_open(hn_integers *s, hn_bytes stream, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e);
/* The next n values, of which there must be as many. */
void hn_integers_read(hn_integers *s, int64_t *out, size_t n);
/* Behind the last value: refuses a stream that is not used up. */
bool hn_integers_end(const hn_integers *s, hn_error *e);
void hn_integers_free(hn_integers *s);

/* Reads head, alphabet and all flags of an adaptive stream (section 4.7). */
bool hn_adaptive_open(hn_integers *s, hn_bytes *b, unsigned axes, const uint64_t *shape, hn_error *e);

/* Field `at` of `width` bits (section 4.3); the field must lie within the bytes. */
uint64_t hn_field(const uint8_t *bits, size_t bytes, uint64_t at, unsigned width);

#endif
