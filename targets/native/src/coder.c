/* Reading an alphabet, and popping its symbols as fast as the chain of states allows. */
#include "coder.h"

static bool frequencies(hn_bytes *b, unsigned count, uint32_t *w) {
    uint64_t bits = 0;
    unsigned held = 0, m = 0;
    for (unsigned i = 0; i <= 2 * count; i++) { /* m, then exponents and mantissas in turn */
        unsigned n = i == 0 ? 3 : i % 2 ? 4 : m;
        for (; held < n; held += 8) {
            if (b->at == b->end) return false;
            bits |= (uint64_t)*b->at++ << held;
        }
        unsigned field = (unsigned)(bits & ((1u << n) - 1));
        bits >>= n;
        held -= n;
        if (i == 0) m = field;
        else if (i % 2) w[(i - 1) / 2] = field;
        else w[i / 2 - 1] = ((1u << m) + field) << w[i / 2 - 1];
    }
    return true;
}

static void assign_slots(hn_alphabet *a, uint32_t *w) {
    uint64_t total = 0;
    uint32_t given = 0, most = 0, spare = HN_SLOTS - a->count;
    for (unsigned i = 0; i < a->count; i++) total += w[i];
    for (unsigned i = 0; i < a->count; i++) {
        w[i] = 1 + (uint32_t)((uint64_t)w[i] * spare / total);
        given += w[i];
        if (w[i] > w[most]) most = i;
    }
    w[most] += HN_SLOTS - given;
    for (unsigned i = 0, slot = 0; i < a->count; i++)
        for (uint32_t k = 0; k < w[i]; k++, slot++) {
            a->slots[slot] = w[i] << 14 | k;
            a->owner[slot] = (uint16_t)i;
        }
}

bool hn_alphabet_read(hn_alphabet *a, hn_bytes *b, hn_error *e) {
    const int64_t limit = (int64_t)1 << 62;
    uint64_t head, gap;
    uint32_t w[HN_SYMBOLS];
    if (!hn_varint(b, &head) || head / 2 < 1 || head / 2 > HN_SYMBOLS || !hn_signed(b, a->symbols))
        return hn_refuse(e, "a stream has an impossible alphabet");
    a->count = (unsigned)(head / 2);
    bool good = a->symbols[0] >= -limit && a->symbols[0] < limit;
    for (unsigned i = 1; good && i < a->count; i++) {
        gap = 0;
        good = !(head & 1) || (hn_varint(b, &gap) && gap < (uint64_t)limit * 2);
        /* both below 2^63, so that the sum stays below 2^64 */
        uint64_t sum = (uint64_t)a->symbols[i - 1] + (uint64_t)limit + gap + 1;
        good = good && sum < (uint64_t)limit * 2;
        a->symbols[i] = (int64_t)(sum - (uint64_t)limit);
    }
    if (!good) return hn_refuse(e, "a stream has impossible symbols");
    if (a->count == 1) return true;
    if (!frequencies(b, a->count, w)) return hn_refuse(e, "a stream ends in its alphabet");
    assign_slots(a, w);
    return true;
}

bool hn_coder_open(hn_coder *c, hn_bytes words, hn_error *e) {
    size_t size = hn_left(&words);
    if (size % 4 || (size && !hn_u32(words.end - 4))) return hn_refuse(e, "the words of a stream are damaged");
    *c = (hn_coder){0, words.at, words.end};
    hn_refill(c);
    hn_refill(c);
    return true;
}

void hn_pop(hn_coder *c, const hn_alphabet *a, int64_t *out, size_t n) {
    uint64_t state = c->state;
    const uint8_t *last = c->last;
    while (n) {
        /* a symbol takes at most one word: so many cannot run out of them */
        size_t sure = (size_t)(last - c->first) / 4, some = n < sure ? n : sure;
        for (const int64_t *end = out + some; out < end; out++) {
            uint32_t slot = (uint32_t)(state >> 10) & (HN_SLOTS - 1), entry = a->slots[slot];
            *out = a->symbols[a->owner[slot]];
            uint64_t count = (uint64_t)(entry >> 14) << 10, within = (entry & (HN_SLOTS - 1)) << 10 | (state & 1023);
            state = (state >> 24) * count + within;
            uint64_t refilled = state << 32 | hn_u32(last - 4);
            bool low = state < (uint64_t)1 << 32;
            state = low ? refilled : state;
            last -= low ? 4 : 0;
        }
        n -= some;
        if (!some) { /* no words are left */
            for (; n; n--, out++) {
                uint32_t slot = (uint32_t)(state >> 10) & (HN_SLOTS - 1), entry = a->slots[slot];
                *out = a->symbols[a->owner[slot]];
                uint64_t count = (uint64_t)(entry >> 14) << 10, within = (entry & (HN_SLOTS - 1)) << 10 | (state & 1023);
                state = (state >> 24) * count + within;
            }
        }
    }
    c->state = state;
    c->last = last;
}
