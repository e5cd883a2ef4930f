/* Errors and the numbers in the head of a stream. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>

bool hn_fail(hn_error *e, int code, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(e->text, sizeof e->text, format, rest);
    va_end(rest);
    for (char *c = e->text; *c; c++) /* names come from the file: one line, and nothing that moves a cursor */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    e->code = code;
    return false;
}

bool hn_no_memory(hn_error *e) { return hn_fail(e, HASHNET_NO_MEMORY, "not enough memory"); }

bool hn_varint(hn_bytes *b, uint64_t *value) {
    uint64_t total = 0;
    for (unsigned group = 0; group < 10; group++) {
        if (b->at == b->end) return false;
        uint8_t byte = *b->at++;
        if (group == 9 && (byte & 0x7f) > 1) return false;
        total |= (uint64_t)(byte & 0x7f) << (7 * group);
        if (!(byte & 0x80)) {
            *value = total;
            return true;
        }
    }
    return false;
}

bool hn_signed(hn_bytes *b, int64_t *value) {
    uint64_t u;
    if (!hn_varint(b, &u)) return false;
    *value = u & 1 ? -(int64_t)(u >> 1) - 1 : (int64_t)(u >> 1);
    return true;
}
