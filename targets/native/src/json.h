/* JSON of the manifest: parsed once into a flat array of values; strings are unescaped in place. */
#ifndef HN_JSON_H
#define HN_JSON_H

#include "base.h"

enum hn_kind { HN_NULL, HN_FALSE, HN_TRUE, HN_INTEGER, HN_REAL, HN_TEXT, HN_LIST, HN_OBJECT };

/* A value; a member of an object is the text of its key, followed by its value. Children follow their parent. */
typedef struct {
    uint32_t kind;
    uint32_t start, size; /* bytes of a text or number; number of items or members of a list or object */
    uint32_t end;         /* index of the first value behind this one and its children */
} hn_value;

typedef struct {
    char *text;
    hn_value *values; /* values[0] is the whole */
} hn_json;

/* Parses the object in `text` (which it takes, of malloc), whitespace allowed, ASCII only, nested 64 deep at most. */
bool hn_json_parse(hn_json *json, char *text, size_t size, hn_error *e);
void hn_json_free(hn_json *json);

/* The member of an object by its key; NULL where there is none. */
const hn_value *hn_member(const hn_json *json, const hn_value *object, const char *key);
bool hn_text_is(const hn_json *json, const hn_value *value, const char *text);
/* An integer from `low` to `high`. */
bool hn_integer(const hn_json *json, const hn_value *value, int64_t low, int64_t high, int64_t *found);

/* Visits the items of a list, or the keys and values of an object in turn. */
#define HN_ITEMS(json, parent, item) \
    for (const hn_value *item = (parent) + 1; item < (json)->values + (parent)->end; item = (json)->values + (item)->end)

#endif
