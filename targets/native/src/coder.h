/* The entropy coder (section 4.5) and the alphabet of its symbols (section 4.4). */
#ifndef HN_CODER_H
#define HN_CODER_H

#include "base.h"

enum { HN_SLOTS = 1 << 14, HN_SYMBOLS = 4096 };

typedef struct {
    uint64_t state;
    const uint8_t *first, *last; /* words that are left, the last is taken first */
} hn_coder;

typedef struct {
    unsigned count;
    int64_t symbols[HN_SYMBOLS];
    uint32_t slots[HN_SLOTS]; /* frequency << 14 | distance from the symbol's first slot */
    uint16_t owner[HN_SLOTS]; /* the symbol of a slot */
} hn_alphabet;

bool hn_alphabet_read(hn_alphabet *a, hn_bytes *b, hn_error *e);

/* All bytes behind the alphabet are words. */
bool hn_coder_open(hn_coder *c, hn_bytes words, hn_error *e);

static inline uint64_t hn_words_left(const hn_coder *c) { return (uint64_t)(c->last - c->first) / 4; }

static inline void hn_refill(hn_coder *c) {
    if (c->state >> 32 || c->first == c->last) return;
    c->last -= 4;
    c->state = c->state << 32 | hn_u32(c->last);
}

/* Pops `n` symbols of an alphabet with more than one. */
void hn_pop(hn_coder *c, const hn_alphabet *a, int64_t *out, size_t n);

/* Pops a flag with the chance c of 2^14 of being 1. */
static inline unsigned hn_pop_flag(hn_coder *c, uint32_t chance) {
    uint64_t ones = (uint64_t)chance << 10, zeros = (1u << 24) - ones, slot = c->state & 0xFFFFFF;
    unsigned flag = slot >= zeros;
    c->state = (c->state >> 24) * (flag ? ones : zeros) + (flag ? slot - zeros : slot);
    hn_refill(c);
    return flag;
}

#endif
