/* The header of the container, read strictly by the grammar of section 2.1. */
#include <stdlib.h>

#include "file.h"

typedef struct {
    const uint8_t *at, *end;
    char *names;
    size_t name_bytes;
    hn_error *e;
} parser;

static bool literal(parser *p, const char *text) {
    size_t size = strlen(text);
    if ((size_t)(p->end - p->at) < size || memcmp(p->at, text, size)) return false;
    p->at += size;
    return true;
}

/* A decimal without sign and leading zeros, below `limit`. */
static bool decimal(parser *p, uint64_t limit, uint64_t *value) {
    const uint8_t *begin = p->at;
    *value = 0;
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        *value = *value * 10 + (uint64_t)(*p->at - '0');
        if (*value >= limit) return false;
    }
    return p->at - begin == 1 || (p->at > begin && *begin != '0');
}

static void put(parser *p, unsigned byte) { p->names[p->name_bytes++] = (char)byte; }

static bool unit(parser *p, unsigned *value) { /* of UTF-16, four lower-case digits */
    *value = 0;
    if (p->end - p->at < 4) return false;
    for (unsigned i = 0; i < 4; i++, p->at++) {
        int c = *p->at, digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        *value = *value << 4 | (unsigned)digit;
    }
    return true;
}

/* An escape, only where Python's json.dumps writes one. */
static bool escape(parser *p) {
    static const char FROM[] = "\"\\bfnrt", TO[] = "\"\\\b\f\n\r\t";
    unsigned c, low;
    if (p->at == p->end) return false;
    const char *known = *p->at ? strchr(FROM, *p->at) : NULL;
    if (known) {
        p->at++;
        put(p, (unsigned char)TO[known - FROM]);
        return true;
    }
    if (!literal(p, "u") || !unit(p, &c)) return false;
    if ((c >= 0x20 && c < 0x7f) || (c && c < 0x20 && strchr("\b\f\n\r\t", (int)c))) return false;
    if (c >= 0xD800 && c < 0xDC00 && literal(p, "\\u")) {
        const uint8_t *back = p->at - 2;
        if (!unit(p, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        else p->at = back;
    }
    if (c < 0x80) {
        put(p, c);
        return true;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned LEAD[4] = {0, 0xC0, 0xE0, 0xF0};
    put(p, LEAD[more] | c >> (6 * more));
    for (unsigned i = 1; i <= more; i++) put(p, 0x80 | (c >> (6 * (more - i)) & 63));
    return true;
}

static bool name(parser *p, hn_tensor *t) {
    size_t begin = p->name_bytes;
    if (!literal(p, "\"")) return false;
    for (;; ) {
        if (p->at == p->end || *p->at < 0x20 || *p->at > 0x7e) return false;
        int c = *p->at++;
        if (c == '"') break;
        if (c != '\\') put(p, (unsigned)c);
        else if (!escape(p)) return false;
    }
    t->name = p->names + begin;
    t->name_size = (uint32_t)(p->name_bytes - begin);
    return true;
}

static bool type(parser *p, hn_tensor *t) {
    const uint8_t *begin = p->at;
    while (p->at < p->end && *p->at != '"') p->at++;
    t->type = (uint8_t)hn_type_of((const char *)begin, (size_t)(p->at - begin));
    return t->type < HN_TYPES;
}

/* One entry; `offset` is where its data must begin, and becomes where they end. */
static bool entry(parser *p, hn_tensor *t, uint64_t *offset) {
    uint64_t begin, end;
    if (!name(p, t) || !literal(p, ":{\"dtype\":\"") || !type(p, t) || !literal(p, "\",\"shape\":[")) return false;
    t->count = 1;
    bool empty = false;
    while (!literal(p, "]")) {
        if (t->axes == HN_AXES || (t->axes && !literal(p, ",")) || !decimal(p, 1ull << 48, t->shape + t->axes)) return false;
        empty |= !t->shape[t->axes];
        t->count = hn_product(t->count, t->shape[t->axes++]);
    }
    if (empty) t->count = 0;
    if (!literal(p, ",\"data_offsets\":[") || !decimal(p, UINT64_MAX / 16, &begin) || !literal(p, ",")) return false;
    if (!decimal(p, UINT64_MAX / 16, &end) || !literal(p, "]}") || begin != *offset) return false;
    t->size = hn_product(t->count, hn_type_bytes(t->type));
    *offset = hn_sum(begin, t->size);
    return *offset == end;
}

static bool entries(hn_file *file, parser *p, const uint8_t *data, uint64_t available) {
    size_t room = 0;
    uint64_t offset = 0;
    while (literal(p, ",")) {
        if (file->count == room) {
            room = 2 * room + 32;
            hn_tensor *moved = realloc(file->tensors, room * sizeof *moved);
            if (!moved) return hn_no_memory(p->e);
            file->tensors = moved;
        }
        hn_tensor *t = file->tensors + file->count++;
        *t = (hn_tensor){.data = data + offset};
        if (!entry(p, t, &offset) || offset > available)
            return hn_refuse(p->e, "the header does not describe the file: offsets, sizes, order or spelling are wrong");
    }
    const uint8_t *text_end = p->at;
    bool good = literal(p, "}") && p->end - text_end <= 8 && offset == available;
    while (p->at < p->end) good &= *p->at++ == ' ';
    return good || hn_refuse(p->e, "the header does not describe the file: it ends elsewhere");
}

static bool is(const hn_tensor *t, const char *expected) {
    return t->name_size == strlen(expected) && !memcmp(t->name, expected, t->name_size) && t->type == HN_U8 && t->axes == 1;
}

bool hn_read_header(hn_file *file, const uint8_t *content, size_t size, hn_error *e) {
    uint64_t length = size < 8 ? 0 : hn_u64(content);
    if (size < 8 || length > size - 8) return hn_refuse(e, "not a safetensors file: it has %zu bytes", size);
    parser p = {.at = content + 8, .end = content + 8 + length, .e = e};
    if (!literal(&p, "{\"__metadata__\":{\"hashpress\":\"1\"}"))
        return hn_refuse(e, "not a model file of hashpress, or of another format than 1");
    uint8_t digest[32];
    if (size < 16 + length) return hn_refuse(e, "damaged: the checksum is missing");
    hn_sha256(content, size - 8, digest);
    if (memcmp(digest, content + size - 8, 8))
        return hn_refuse(e, "damaged: the checksum does not match (incomplete download or changed bytes)");
    file->header = 8 + length;
    p.names = file->names = malloc(length + 1); /* a name is never longer than as it is written */
    if (!file->names) return hn_no_memory(e);
    if (length % 8) return hn_refuse(e, "the header is not padded");
    if (!entries(file, &p, content + 8 + length, size - 8 - length)) return false;
    const hn_tensor *last = file->tensors + file->count;
    if (file->count < 3 || !is(last - 3, "manifest") || !is(last - 2, "streams") || !is(last - 1, "check") || last[-1].size != 8)
        return hn_refuse(e, "the last tensors of a model file must be manifest, streams and check");
    file->packed = (hn_bytes){last[-3].data, last[-3].data + last[-3].size};
    file->streams = (hn_bytes){last[-2].data, last[-2].data + last[-2].size};
    file->count -= 3;
    return true;
}
