/* What every part of the runtime uses: errors, and bounded reading of little-endian bytes. */
#ifndef HN_BASE_H
#define HN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hashnet.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines"
#endif

#define HN_BEFORE_MEMORY (1u << 20) /* values that any file may decode to, */
#define HN_PER_BYTE 1000u           /* and how many more a byte of its length */

/* The first error of a call: a code of hashnet.h and one line. */
typedef struct {
    int code;
    char text[256];
} hn_error;

/* Writes an error and returns false, so that a check reads: return hn_refuse(e, "..."). */
bool hn_fail(hn_error *e, int code, const char *format, ...);
#define hn_refuse(e, ...) hn_fail(e, HASHNET_BAD_FILE, __VA_ARGS__)
bool hn_no_memory(hn_error *e);

/* Bytes that are still to be read. */
typedef struct {
    const uint8_t *at, *end;
} hn_bytes;

static inline size_t hn_left(const hn_bytes *b) { return (size_t)(b->end - b->at); }

static inline uint32_t hn_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline uint64_t hn_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* Numbers in the head of a stream (section 4.1); false where the bytes end or the number does not fit. */
bool hn_varint(hn_bytes *b, uint64_t *value);
bool hn_signed(hn_bytes *b, int64_t *value);

/* Products and sums that stay at UINT64_MAX once they leave 64 bits. */
static inline uint64_t hn_product(uint64_t a, uint64_t b) { return a && b > UINT64_MAX / a ? UINT64_MAX : a * b; }
static inline uint64_t hn_sum(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

/* Whether a binary32 is neither an infinity nor NaN. */
static inline bool hn_finite(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits >> 23 & 255) != 255;
}

void hn_sha256(const uint8_t *data, size_t size, uint8_t digest[32]);

/* Unpacks deflate (RFC 1951), at most `limit` bytes, into memory of malloc; `used` is where the stream ended. */
bool hn_inflate(hn_bytes *source, size_t limit, uint8_t **out, size_t *size, hn_error *e);
/* Unpacks a zlib stream (RFC 1950) that fills `source` exactly. */
bool hn_unzlib(hn_bytes source, size_t limit, uint8_t **out, size_t *size, hn_error *e);

#endif
