/* Deflate and zlib (RFC 1951 and 1950): the manifest of a model file, and the golden codes of a bundle. */
#include <stdlib.h>

#include "base.h"

enum { LONGEST = 15, LITERALS = 288, DISTANCES = 30 };

typedef struct {
    hn_bytes *source;
    uint32_t bits;
    unsigned held;
    uint8_t *out;
    size_t size, room, limit;
    bool ended, no_memory;
} stream;

typedef struct {
    uint16_t count[LONGEST + 1], symbol[LITERALS];
} code;

static unsigned take(stream *s, unsigned n) {
    while (s->held < n) {
        if (s->source->at == s->source->end) {
            s->ended = true;
            return 0;
        }
        s->bits |= (uint32_t)*s->source->at++ << s->held;
        s->held += 8;
    }
    unsigned value = s->bits & ((1u << n) - 1);
    s->bits >>= n;
    s->held -= n;
    return value;
}

/* Builds a canonical code; returns how many codes are unused (negative: too many are used). */
static int build(code *c, const uint8_t *lengths, unsigned n) {
    uint16_t begin[LONGEST + 1] = {0};
    memset(c->count, 0, sizeof c->count);
    for (unsigned i = 0; i < n; i++) c->count[lengths[i]]++;
    int left = 1;
    for (unsigned i = 1; i <= LONGEST; i++) {
        left = 2 * left - c->count[i];
        if (left < 0) return left;
    }
    for (unsigned i = 1; i < LONGEST; i++) begin[i + 1] = (uint16_t)(begin[i] + c->count[i]);
    for (unsigned i = 0; i < n; i++)
        if (lengths[i]) c->symbol[begin[lengths[i]]++] = (uint16_t)i;
    return c->count[0] == n ? 0 : left; /* no code at all is complete: nothing can be read with it */
}

static int next(stream *s, const code *c) {
    int value = 0, first = 0, index = 0;
    for (unsigned length = 1; length <= LONGEST; length++) {
        value |= (int)take(s, 1);
        if (s->ended) return -1;
        int count = c->count[length];
        if (value - count < first) return c->symbol[index + (value - first)];
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    return -1;
}

static bool grow(stream *s, size_t more) {
    if (more > s->limit - s->size) return false;
    if (s->size + more > s->room) {
        size_t room = 2 * s->room + more + 256;
        uint8_t *moved = realloc(s->out, room);
        s->no_memory = !moved;
        if (!moved) return false;
        s->out = moved;
        s->room = room;
    }
    return true;
}

static bool stored(stream *s) {
    s->bits = s->held = 0;
    if (hn_left(s->source) < 4) return false;
    const uint8_t *p = s->source->at;
    unsigned length = p[0] | (unsigned)p[1] << 8, inverse = p[2] | (unsigned)p[3] << 8;
    s->source->at += 4;
    if (length != (inverse ^ 0xffff) || hn_left(s->source) < length || !grow(s, length)) return false;
    if (length) memcpy(s->out + s->size, s->source->at, length);
    s->source->at += length;
    s->size += length;
    return true;
}

static bool codes(stream *s, const code *literal, const code *distance) {
    static const uint16_t LENGTH[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                        31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t LENGTH_BITS[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t BACK[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                      193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static const uint8_t BACK_BITS[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                          6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    for (;;) {
        int symbol = next(s, literal);
        if (symbol < 0) return false;
        if (symbol == 256) return true;
        if (symbol < 256) {
            if (!grow(s, 1)) return false;
            s->out[s->size++] = (uint8_t)symbol;
            continue;
        }
        if (symbol > 285) return false;
        size_t length = LENGTH[symbol - 257] + take(s, LENGTH_BITS[symbol - 257]);
        int far = next(s, distance);
        if (far < 0 || far >= DISTANCES) return false;
        size_t back = BACK[far] + take(s, BACK_BITS[far]);
        if (s->ended || back > s->size || !grow(s, length)) return false;
        for (size_t i = 0; i < length; i++, s->size++) s->out[s->size] = s->out[s->size - back];
    }
}

static bool fixed(stream *s) {
    uint8_t lengths[LITERALS];
    code literal, distance;
    for (unsigned i = 0; i < LITERALS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    build(&literal, lengths, LITERALS);
    memset(lengths, 5, DISTANCES);
    build(&distance, lengths, DISTANCES);
    return codes(s, &literal, &distance);
}

static bool dynamic(stream *s) {
    static const uint8_t ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + 32] = {0};
    code literal, distance;
    unsigned literals = take(s, 5) + 257, distances = take(s, 5) + 1, n = take(s, 4) + 4, at = 0;
    if (s->ended || literals > 286 || distances > DISTANCES) return false;
    for (unsigned i = 0; i < n; i++) lengths[ORDER[i]] = (uint8_t)take(s, 3);
    if (s->ended || build(&literal, lengths, 19)) return false;
    memset(lengths, 0, 19);
    while (at < literals + distances) {
        int symbol = next(s, &literal);
        if (symbol < 0) return false;
        if (symbol < 16) {
            lengths[at++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && !at) return false;
        uint8_t value = symbol == 16 ? lengths[at - 1] : 0;
        unsigned times = symbol == 16 ? 3 + take(s, 2) : symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
        if (s->ended || at + times > literals + distances) return false;
        while (times--) lengths[at++] = value;
    }
    if (!lengths[256]) return false;
    /* as zlib: an incomplete code is allowed only where it has one code of one bit */
    int left = build(&literal, lengths, literals);
    if (left && (left < 0 || literals - literal.count[0] != 1)) return false;
    left = build(&distance, lengths + literals, distances);
    if (left && (left < 0 || distances - distance.count[0] != 1)) return false;
    return codes(s, &literal, &distance);
}

bool hn_inflate(hn_bytes *source, size_t limit, uint8_t **out, size_t *size, hn_error *e) {
    stream s = {.source = source, .limit = limit};
    bool last = false, good = true;
    while (good && !last) {
        last = take(&s, 1);
        unsigned kind = take(&s, 2);
        good = !s.ended && (kind == 0 ? stored(&s) : kind == 1 ? fixed(&s) : kind == 2 && dynamic(&s));
    }
    if (!good) {
        free(s.out);
        if (s.no_memory) return hn_no_memory(e);
        return hn_refuse(e, "packed data are damaged or unpack to more than %zu bytes", limit);
    }
    source->at -= s.held / 8; /* whole bytes that were read ahead */
    *out = s.out;
    *size = s.size;
    return true;
}

bool hn_unzlib(hn_bytes source, size_t limit, uint8_t **out, size_t *size, hn_error *e) {
    const uint8_t *p = source.at;
    if (hn_left(&source) < 6 || (p[0] & 15) != 8 || p[0] >> 4 > 7 || (p[0] << 8 | p[1]) % 31 || p[1] & 32)
        return hn_refuse(e, "the manifest is no zlib stream");
    source.at += 2;
    if (!hn_inflate(&source, limit, out, size, e)) return false;
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < *size; i++) {
        a = (a + (*out)[i]) % 65521;
        b = (b + a) % 65521;
    }
    p = source.at;
    if (hn_left(&source) == 4 && (b << 16 | a) == ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]))
        return true;
    free(*out);
    *out = NULL;
    return hn_refuse(e, "the manifest is truncated, has trailing bytes or another checksum");
}
