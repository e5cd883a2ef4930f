/* The fields that each kind of edit has (section 3.3), as strict as a reader that knows the architecture. */
#include "file.h"

enum { TEXT, TEXTS, WHOLE, WHOLES, FLAG, REAL };

typedef struct {
    const char *name;
    uint8_t type, may_be_missing;
} field;

static const struct {
    const char *kind;
    field fields[7];
} KINDS[] = {
    {"folded", {{"layer", TEXT, 0}, {"into", TEXT, 0}}},
    {"pruned", {{"layers", TEXTS, 0}}},
    {"narrowed", {{"layer", TEXT, 0}, {"inputs", WHOLE, 0}, {"outputs", WHOLE, 0}}},
    {"repadded", {{"layer", TEXT, 0}, {"before", WHOLE, 0}, {"behind", WHOLE, 0}}},
    {"factored", {{"layer", TEXT, 0}, {"form", TEXT, 0}, {"ranks", WHOLES, 0}, {"bias", FLAG, 1}}},
    {"shared", {{"layer", TEXT, 0}, {"entries", WHOLE, 0}, {"scaled", FLAG, 1}, {"half", FLAG, 1}}},
    {"hashed", {{"layer", TEXT, 0}, {"shape", WHOLES, 0}, {"sizes", WHOLES, 0}, {"seed", WHOLE, 0}, {"half", FLAG, 1}}},
    {"fastfood", {{"layer", TEXT, 0}, {"seed", WHOLE, 0}, {"half", FLAG, 1}}},
    {"pq", {{"layer", TEXT, 0}, {"inputs", WHOLE, 0}, {"width", WHOLE, 0}, {"entries", WHOLE, 0}, {"permuted", FLAG, 1}, {"half", FLAG, 1}}},
    {"int8", {{"layer", TEXT, 0}, {"scale", REAL, 0}, {"zero", WHOLE, 0}, {"step", REAL, 0}, {"bits", WHOLE, 1}, {"activations", WHOLE, 1}}},
};

static bool fits(const hn_json *json, const hn_value *v, unsigned type) {
    if (type == TEXTS || type == WHOLES) {
        if (v->kind != HN_LIST) return false;
        HN_ITEMS(json, v, item) if (!fits(json, item, type - 1)) return false;
        return true;
    }
    if (type == FLAG) return v->kind == HN_TRUE || v->kind == HN_FALSE;
    return v->kind == (uint32_t)(type == TEXT ? HN_TEXT : type == WHOLE ? HN_INTEGER : HN_REAL);
}

static bool check(const hn_json *json, const hn_value *edit, hn_error *e) {
    const hn_value *kind = hn_member(json, edit, "kind");
    if (!kind || kind->kind != HN_TEXT) return hn_refuse(e, "an edit must be an object with a kind");
    if (memchr(json->text + kind->start, ':', kind->size)) return true; /* code of the user: see weights.c */
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        if (!hn_text_is(json, kind, KINDS[k].kind)) continue;
        uint32_t known = 1;
        for (const field *f = KINDS[k].fields; f < KINDS[k].fields + 7 && f->name; f++) {
            const hn_value *v = hn_member(json, edit, f->name);
            if (v ? !fits(json, v, f->type) : !f->may_be_missing)
                return hn_refuse(e, "edit %s: %s is missing or of another type", KINDS[k].kind, f->name);
            known += v != NULL;
        }
        return edit->size == known || hn_refuse(e, "edit %s has a field too many", KINDS[k].kind);
    }
    return hn_refuse(e, "unknown edit %.*s", kind->size < 40 ? (int)kind->size : 40, json->text + kind->start);
}

bool hn_check_edits(const hn_json *json, const hn_value *edits, hn_error *e) {
    HN_ITEMS(json, edits, edit) if (!check(json, edit, e)) return false;
    return true;
}
