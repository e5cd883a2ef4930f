/* The weights of section 7, row by row: a layer need not be held whole. */
#ifndef HN_WEIGHTS_H
#define HN_WEIGHTS_H

#include "floats.h"

enum hn_encoding { HN_SHARED, HN_HASHED, HN_FASTFOOD, HN_PQ, HN_INT8, HN_FOREIGN, HN_PLAIN };

typedef struct {
    hn_file *file;
    unsigned kind, axes;
    uint64_t shape[HN_AXES], rows, columns, at; /* rows are outputs; `at` is the next one */
    hn_source source;                           /* of values, indices or integers */
    float *table, *scale, *more;                /* codebook, values, signs; scales, norms, biases; gauss, row of coefficients */
    uint64_t entries, width, blocks, size;      /* K; C or number of bands; blocks and d of fastfood */
    uint16_t *indices;                          /* of product quantization, all */
    uint32_t *order;                            /* of channels or positions */
    uint32_t *sizes;                            /* of bands */
    float *cosines[2];
    uint32_t seed;
} hn_weight;

/* Opens the tensor of type F32 with this name; `NAME.weight` is decoded where its layer is compressed. */
bool hn_weight_open(hn_weight *w, hn_file *file, const char *name, size_t size, hn_error *e);
bool hn_weight_of_form(hn_weight *w, hn_file *file, const hn_form *form, hn_error *e);
/* The next rows. */
bool hn_weight_read(hn_weight *w, float *out, uint64_t rows, hn_error *e);
/* Behind the last row: refuses a damaged end. */
bool hn_weight_end(hn_weight *w, hn_error *e);
void hn_weight_free(hn_weight *w);

/* Reads everything that was not read yet, and checks it (sections 9.1 and 9.2). */
bool hn_check_rest(hn_file *file, hn_error *e);

/* The parts, one file each. */
bool hn_hashed_open(hn_weight *w, const hn_form *form, hn_error *e);
void hn_hashed_row(hn_weight *w, float *out);
bool hn_fastfood_open(hn_weight *w, const hn_form *form, hn_error *e);
bool hn_fastfood_all(hn_weight *w, float *out, hn_error *e);
bool hn_pq_open(hn_weight *w, const hn_form *form, hn_error *e);
void hn_pq_row(hn_weight *w, float *out);
bool hn_int8_open(hn_weight *w, const char *layer, size_t size, hn_error *e);
bool hn_int8_row(hn_weight *w, float *out, hn_error *e);

/* A tensor `layer.form.NAME` of a form; refuses where it is missing or has another type or number of axes. */
hn_tensor *hn_part(hn_weight *w, const hn_form *form, const char *name, unsigned type, unsigned axes, hn_error *e);
/* Refuses unless exactly these many tensors begin with `layer.form.`. */
bool hn_parts_are(hn_weight *w, const hn_form *form, unsigned count, hn_error *e);
/* All values of a part of type F32, which must be finite. */
float *hn_part_floats(hn_tensor *t, hn_error *e);
/* The type of indices into a codebook of K entries. */
unsigned hn_index_type(uint64_t entries);
bool hn_permutation(hn_tensor *t, uint32_t *order, hn_error *e);

static inline uint32_t hn_turned17(uint32_t v) { return v << 17 | v >> 15; }

/* XXH32 of two numbers (section 6). */
static inline uint32_t hn_xxh32(uint32_t i, uint32_t j, uint32_t seed) {
    uint32_t h = seed + 374761393u + 8;
    h = hn_turned17(h + i * 3266489917u) * 668265263u;
    h = hn_turned17(h + j * 3266489917u) * 668265263u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    h *= 3266489917u;
    return h ^ h >> 16;
}

#endif
