/* Float streams (section 5), and the values of any tensor, a few at a time. */
#ifndef HN_FLOATS_H
#define HN_FLOATS_H

#include "file.h"
#include "integers.h"

typedef struct hn_floats {
    unsigned form;
    uint64_t at;
    const uint8_t *data; /* raw and half values, or the lower bits of planes */
    size_t size;
    hn_integers integers;
    float scale;   /* of a grid */
    uint8_t *mask; /* of a sparse stream: one bit a value */
    struct hn_floats *inner;
} hn_floats;

bool hn_floats_open(hn_floats *s, hn_bytes stream, unsigned axes, const uint64_t *shape, uint64_t count, hn_error *e);
bool hn_floats_read(hn_floats *s, float *out, size_t n, hn_error *e);
bool hn_floats_end(const hn_floats *s, hn_error *e);
void hn_floats_free(hn_floats *s);

/* A tensor that is being read, coded or plain. */
typedef struct {
    hn_tensor *tensor;
    uint64_t at;
    hn_floats floats;
    hn_integers integers;
} hn_source;

bool hn_source_open(hn_source *s, hn_tensor *t, hn_error *e);
bool hn_read_floats(hn_source *s, float *out, size_t n, hn_error *e); /* of type F32 */
bool hn_read_integers(hn_source *s, int64_t *out, size_t n, hn_error *e);
bool hn_source_end(hn_source *s, hn_error *e);
void hn_source_free(hn_source *s);

/* A whole tensor of type F32, of malloc. */
float *hn_all_floats(hn_tensor *t, hn_error *e);

#endif
