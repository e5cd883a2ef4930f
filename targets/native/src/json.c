/* A strict JSON parser: no key twice, no NaN, bounded depth; what it accepts, Python's json accepts too. */
#include "json.h"

#include <stdlib.h>

enum { DEEPEST = 64 };

typedef struct {
    hn_json *json;
    size_t at, size, count, room;
    hn_error *e;
} parser;

static int peek(const parser *p) { return p->at < p->size ? (unsigned char)p->json->text[p->at] : -1; }

static bool bad(parser *p, const char *what) { return hn_refuse(p->e, "the manifest is not JSON: %s", what); }

static void skip(parser *p) {
    for (int c = peek(p); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(p)) p->at++;
}

static bool add(parser *p, uint32_t kind, size_t *place) {
    if (p->count == p->room) {
        size_t room = 2 * p->room + 64;
        hn_value *moved = realloc(p->json->values, room * sizeof *moved);
        if (!moved) return hn_no_memory(p->e);
        p->json->values = moved;
        p->room = room;
    }
    *place = p->count;
    p->json->values[p->count++] = (hn_value){kind, (uint32_t)p->at, 0, 0};
    return true;
}

static bool hex4(parser *p, unsigned *value) {
    *value = 0;
    for (unsigned i = 0; i < 4; i++) {
        int c = peek(p), digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return bad(p, "bad \\u escape");
        *value = *value << 4 | (unsigned)digit;
        p->at++;
    }
    return true;
}

static size_t put_utf8(char *out, unsigned c) { /* halves of surrogate pairs stay three bytes each */
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned LEAD[4] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(LEAD[more] | c >> (6 * more));
    for (unsigned i = 1; i <= more; i++) out[i] = (char)(0x80 | (c >> (6 * (more - i)) & 63));
    return more + 1;
}

static bool escape(parser *p, size_t *out) {
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    int c = peek(p);
    p->at++;
    const char *known = c > 0 ? strchr(FROM, c) : NULL;
    unsigned value, low;
    if (known) value = (unsigned char)TO[known - FROM];
    else if (c != 'u') return bad(p, "unknown escape");
    else if (!hex4(p, &value)) return false;
    size_t back = p->at;
    if (value >= 0xD800 && value < 0xDC00 && p->size - p->at >= 6 && !memcmp(p->json->text + p->at, "\\u", 2)) {
        p->at += 2;
        if (!hex4(p, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        else p->at = back;
    }
    *out += put_utf8(p->json->text + *out, value);
    return true;
}

static bool text(parser *p) {
    size_t place = 0;
    if (peek(p) != '"') return bad(p, "a string is missing");
    p->at++;
    if (!add(p, HN_TEXT, &place)) return false;
    size_t out = p->at, begin = p->at;
    for (int c = peek(p); c != '"'; c = peek(p)) {
        if (c < 0x20 || c > 0x7f) return bad(p, c < 0 ? "a string has no end" : "a character that is not ASCII");
        p->at++;
        if (c != '\\') p->json->text[out++] = (char)c;
        else if (!escape(p, &out)) return false;
    }
    p->at++;
    p->json->values[place].size = (uint32_t)(out - begin);
    p->json->values[place].end = (uint32_t)p->count;
    return true;
}

static size_t digits(parser *p) {
    size_t begin = p->at;
    while (peek(p) >= '0' && peek(p) <= '9') p->at++;
    return p->at - begin;
}

static bool number(parser *p) {
    size_t place = 0, begin = p->at;
    if (!add(p, HN_INTEGER, &place)) return false;
    if (peek(p) == '-') p->at++;
    if (peek(p) == '0') p->at++;
    else if (!digits(p)) return bad(p, "a value is missing");
    size_t whole = p->at - begin;
    bool real = false;
    if (peek(p) == '.') {
        real = true;
        p->at++;
        if (!digits(p)) return bad(p, "a number without digits");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        real = true;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-') p->at++;
        if (!digits(p)) return bad(p, "a number without digits");
    }
    if (!real && whole > 4300) return bad(p, "a number of more than 4300 digits");
    hn_value *value = p->json->values + place;
    *value = (hn_value){real ? HN_REAL : HN_INTEGER, (uint32_t)begin, (uint32_t)(p->at - begin), (uint32_t)p->count};
    return true;
}

typedef struct {
    const char *text;
    size_t size;
} key;

static int compare(const void *a, const void *b) {
    const key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static bool no_key_twice(parser *p, const hn_value *object) {
    if (object->size < 2) return true;
    key *keys = malloc(object->size * sizeof *keys);
    if (!keys) return hn_no_memory(p->e);
    size_t n = 0;
    bool is_key = true, twice = false;
    for (const hn_value *v = object + 1; v < p->json->values + object->end; v = p->json->values + v->end, is_key = !is_key)
        if (is_key) keys[n++] = (key){p->json->text + v->start, v->size};
    qsort(keys, n, sizeof *keys, compare);
    for (size_t i = 1; i < n; i++) twice |= !compare(keys + i - 1, keys + i);
    free(keys);
    return !twice || bad(p, "a key stands twice");
}

static bool value(parser *p, unsigned depth);

static bool collection(parser *p, unsigned depth, bool object) {
    size_t place = 0, n = 0;
    int close = object ? '}' : ']';
    if (depth > DEEPEST) return bad(p, "nested too deep");
    if (!add(p, object ? HN_OBJECT : HN_LIST, &place)) return false;
    p->at++;
    skip(p);
    for (bool first = true; peek(p) != close; first = false) {
        if (!first) {
            if (peek(p) != ',') return bad(p, "a comma is missing");
            p->at++;
            skip(p);
        }
        if (object) {
            if (!text(p)) return false;
            skip(p);
            if (peek(p) != ':') return bad(p, "a colon is missing");
            p->at++;
        }
        if (!value(p, depth)) return false;
        n++;
    }
    p->at++;
    p->json->values[place].size = (uint32_t)n;
    p->json->values[place].end = (uint32_t)p->count;
    return !object || no_key_twice(p, p->json->values + place);
}

static bool word(parser *p, const char *expected, uint32_t kind) {
    size_t place = 0, size = strlen(expected);
    if (p->size - p->at < size || memcmp(p->json->text + p->at, expected, size)) return bad(p, "a value is missing");
    if (!add(p, kind, &place)) return false;
    p->at += size;
    p->json->values[place].end = (uint32_t)p->count;
    return true;
}

/* Parses a value and the white space around it. */
static bool value(parser *p, unsigned depth) {
    skip(p);
    int c = peek(p);
    bool good = c == '{' || c == '[' ? collection(p, depth + 1, c == '{')
                : c == '"'           ? text(p)
                : c == 't'           ? word(p, "true", HN_TRUE)
                : c == 'f'           ? word(p, "false", HN_FALSE)
                : c == 'n'           ? word(p, "null", HN_NULL)
                                     : number(p);
    skip(p);
    return good;
}

bool hn_json_parse(hn_json *json, char *content, size_t size, hn_error *e) {
    *json = (hn_json){content, NULL};
    parser p = {.json = json, .size = size, .e = e};
    if (!value(&p, 0)) return false;
    if (p.at != size) return bad(&p, "something stands behind it");
    return json->values[0].kind == HN_OBJECT || bad(&p, "it is no object");
}

void hn_json_free(hn_json *json) {
    free(json->text);
    free(json->values);
    *json = (hn_json){NULL, NULL};
}

const hn_value *hn_member(const hn_json *json, const hn_value *object, const char *name) {
    if (!object || object->kind != HN_OBJECT) return NULL;
    HN_ITEMS(json, object, item) {
        const hn_value *content = json->values + item->end;
        if (hn_text_is(json, item, name)) return content;
        item = content;
    }
    return NULL;
}

bool hn_text_is(const hn_json *json, const hn_value *v, const char *expected) {
    return v && v->kind == HN_TEXT && v->size == strlen(expected) && !memcmp(json->text + v->start, expected, v->size);
}

bool hn_integer(const hn_json *json, const hn_value *v, int64_t low, int64_t high, int64_t *found) {
    if (!v || v->kind != HN_INTEGER) return false;
    const char *p = json->text + v->start, *end = p + v->size;
    bool negative = *p == '-';
    uint64_t total = 0;
    for (p += negative; p < end; p++) total = hn_sum(hn_product(total, 10), (uint64_t)(*p - '0'));
    if (total > INT64_MAX) return false;
    *found = negative ? -(int64_t)total : (int64_t)total;
    return low <= *found && *found <= high;
}
