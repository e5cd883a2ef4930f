/* A model file: its tensors by name, where their bytes are, and the edits of its layers (sections 2 and 3). */
#ifndef HN_FILE_H
#define HN_FILE_H

#include "json.h"

enum hn_type { HN_F32, HN_F16, HN_F64, HN_I64, HN_I32, HN_I16, HN_I8, HN_U8, HN_BOOL, HN_TYPES };
enum { HN_AXES = 8 };

typedef struct {
    const char *name; /* bytes; not ended by a zero */
    uint32_t name_size;
    uint8_t type, axes;
    bool coded; /* the data are a stream of section 4 or 5 */
    bool read;  /* was read to its end, and is therefore sound */
    uint64_t shape[HN_AXES], count;
    const uint8_t *data;
    uint64_t size;
} hn_tensor;

/* A compressed layer: an edit that gives its weight another encoding. */
typedef struct {
    const char *layer;
    uint32_t layer_size;
    uint8_t kind;
    const hn_value *edit;
} hn_form;

typedef struct {
    hn_tensor *tensors; /* sorted by name */
    size_t count;
    hn_form *forms; /* sorted by layer */
    size_t form_count;
    char *names; /* of plain tensors */
    hn_json manifest;
    hn_bytes packed, streams; /* the manifest before it is unpacked; all coded tensors */
    uint64_t header;          /* bytes of the header with its length */
    uint64_t trusted;         /* weights that one form may decode to */
} hn_file;

/* Reads the container and the manifest and checks both; decodes nothing. `content` must outlive the file. */
bool hn_file_open(hn_file *file, const uint8_t *content, size_t size, hn_error *e);
void hn_file_close(hn_file *file);

/* The tensor whose name is prefix and then suffix; NULL where there is none. */
hn_tensor *hn_find(const hn_file *file, const char *prefix, size_t size, const char *suffix);
/* The first tensor whose name is not before prefix and then suffix; all that begin so follow one another. */
hn_tensor *hn_find_first(const hn_file *file, const char *prefix, size_t size, const char *suffix);
/* The encoding of a layer's weight; NULL where it has none. */
const hn_form *hn_find_form(const hn_file *file, const char *layer, size_t size);
/* Whether a name ends so. */
bool hn_ends(const hn_tensor *t, const char *suffix);

unsigned hn_type_bytes(unsigned type);
/* The number of a type's name; HN_TYPES where there is none. */
unsigned hn_type_of(const char *name, size_t size);

/* The parts of hn_file_open: */
bool hn_read_header(hn_file *file, const uint8_t *content, size_t size, hn_error *e);
bool hn_read_manifest(hn_file *file, hn_error *e);
bool hn_check_edits(const hn_json *json, const hn_value *edits, hn_error *e);
bool hn_read_forms(hn_file *file, const hn_value *edits, hn_error *e);

#endif
