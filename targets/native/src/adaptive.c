/* The adaptive mode (section 4.7): zeros are predicted from the rows before and from their own row. */
#include <stdlib.h>

#include "integers.h"

enum { MOST_ROWS = 4096, WHOLE = 65536, LOWEST = 16, HIGHEST = WHOLE - LOWEST };

static const uint16_t SQUASH[64] = {
    64,    76,    90,    107,   127,   151,   179,   212,   252,   299,   354,   420,   496,   587,   693,   818,
    964,   1134,  1331,  1558,  1820,  2120,  2461,  2846,  3277,  3755,  4280,  4850,  5461,  6109,  6786,  7484,
    8192,  8900,  9598,  10275, 10923, 11534, 12104, 12629, 13107, 13538, 13923, 14264, 14564, 14826, 15053, 15250,
    15420, 15566, 15691, 15797, 15888, 15964, 16030, 16085, 16132, 16172, 16205, 16233, 16257, 16277, 16294, 16308};

typedef struct {
    uint64_t rows, columns, kernel, width, density;
    int64_t bias, column_weight, beside_weight, row_weight;
    int16_t *odds;   /* of a share of 65536 */
    uint32_t *above; /* ones in each column of the finished rows, between two columns of zeros on each side */
    int32_t *column; /* what the columns add to the score of a row */
} model;

static int log16(uint32_t v) {
    static const uint8_t MANTISSA[16] = {1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16};
    int exponent = 0;
    while (v >> exponent > 1) exponent++;
    return 16 * exponent + MANTISSA[((v << 4) >> exponent) & 15];
}

static int odds(const model *m, uint64_t numerator, uint64_t denominator) {
    uint64_t s = numerator / denominator;
    return m->odds[s < LOWEST ? LOWEST : s > HIGHEST ? HIGHEST : s];
}

static int odds32(const model *m, uint32_t numerator, uint32_t denominator) {
    uint32_t s = numerator / denominator;
    return m->odds[s < LOWEST ? LOWEST : s > HIGHEST ? HIGHEST : s];
}

/* What the columns say about a row of which nothing is known. */
static void score_columns(model *m, uint64_t row) {
    const uint32_t *above = m->above + 2, density = (uint32_t)m->density, seen = (uint32_t)row + 4;
    int64_t bias = m->bias;
    if (m->kernel == 1) {
        for (uint64_t c = 0; c < m->columns; c++) {
            uint32_t near = above[c] + m->above[c] + m->above[c + 1] + above[c + 1] + above[c + 2];
            int a = odds32(m, above[c] * WHOLE + 4 * density, seen);
            int b = odds32(m, near * WHOLE + 20 * density, 5 * seen);
            m->column[c] = (int32_t)(bias + m->column_weight * a + m->beside_weight * b);
        }
        return;
    }
    for (uint64_t at = 0; at < m->columns; at += m->kernel) {
        uint64_t near = 0;
        for (uint64_t c = at; c < at + m->kernel; c++) near += above[c];
        int b = odds(m, near * WHOLE + 4 * m->kernel * m->density, m->kernel * seen);
        for (uint64_t c = at; c < at + m->kernel; c++) {
            int a = odds32(m, above[c] * WHOLE + 4 * density, seen);
            m->column[c] = (int32_t)(bias + m->column_weight * a + m->beside_weight * b);
        }
    }
}

static void pop_row(model *m, hn_coder *coder, uint8_t *flags, uint64_t row) {
    uint64_t ones = 0, place = row * m->columns;
    score_columns(m, row);
    hn_coder local = *coder;
    for (uint64_t at = 0; at < m->columns;) {
        uint64_t end = m->columns - at < m->width ? m->columns : at + m->width;
        int64_t part = m->row_weight * odds(m, ones * WHOLE + 16 * m->density, at + 16);
        for (; at < end; at++, place++) {
            int32_t index = (int32_t)((m->column[at] + (int32_t)part + 64) >> 7) + 32;
            unsigned flag = hn_pop_flag(&local, SQUASH[index < 0 ? 0 : index > 63 ? 63 : index]);
            flags[place / 8] |= (uint8_t)(flag << place % 8);
            m->column[at] = (int32_t)flag;
            ones += flag;
        }
    }
    for (uint64_t c = 0; c < m->columns; c++) m->above[c + 2] += (uint32_t)m->column[c];
    *coder = local;
}

static bool read_head(model *m, hn_bytes *b, hn_error *e) {
    uint64_t density, width, per_row;
    if (!hn_varint(b, &density) || !hn_signed(b, &m->bias) || !hn_signed(b, &m->column_weight) ||
        !hn_signed(b, &m->beside_weight) || !hn_signed(b, &m->row_weight) || !hn_varint(b, &width))
        return hn_refuse(e, "an adaptive stream ends in its head");
    per_row = MOST_ROWS / m->rows > m->columns / 64 ? m->columns / 64 : MOST_ROWS / m->rows;
    if (!per_row) per_row = 1;
    uint64_t channels = m->columns / m->kernel, part = channels / per_row + (channels % per_row > 0);
    const int64_t most = 1 << 10;
    bool good = density >= LOWEST && density <= HIGHEST && width == hn_product(part, m->kernel);
    good = good && m->column_weight >= -most && m->column_weight <= most && m->beside_weight >= -most;
    good = good && m->beside_weight <= most && m->row_weight >= -most && m->row_weight <= most;
    good = good && m->bias >= -(1 << 20) && m->bias <= 1 << 20;
    m->density = density;
    m->width = width;
    return good || hn_refuse(e, "an adaptive stream has impossible settings");
}

static bool pop_flags(hn_integers *s, model *m, hn_error *e) {
    m->odds = malloc(WHOLE * sizeof *m->odds);
    m->above = calloc(m->columns + 4, sizeof *m->above);
    m->column = malloc(m->columns * sizeof *m->column);
    s->flags = calloc(s->count / 8 + 1, 1);
    if (!m->odds || !m->above || !m->column || !s->flags) return hn_no_memory(e);
    for (uint32_t share = LOWEST; share <= HIGHEST; share++) m->odds[share] = (int16_t)(log16(share) - log16(WHOLE - share));
    for (uint64_t row = 0; row < m->rows; row++) pop_row(m, &s->coder, s->flags, row);
    return true;
}

bool hn_adaptive_open(hn_integers *s, hn_bytes *b, unsigned axes, const uint64_t *shape, hn_error *e) {
    if (axes < 2 || !s->count) return hn_refuse(e, "an adaptive stream needs two axes and no empty one");
    model m = {.rows = shape[0], .columns = s->count / shape[0]};
    m.kernel = m.columns / shape[1];
    if (m.rows > MOST_ROWS) return hn_refuse(e, "an adaptive stream has too many rows");
    if (!read_head(&m, b, e) || !hn_alphabet_read(s->alphabet, b, e) || !hn_coder_open(&s->coder, *b, e)) return false;
    bool good = pop_flags(s, &m, e);
    free(m.odds);
    free(m.above);
    free(m.column);
    return good;
}
