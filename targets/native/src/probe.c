/* For tests: one tensor after another of a model file in memory, and whether the file is refused. */
#include <stdio.h>
#include <stdlib.h>

#include "weights.h"

/* Returns 0 where the file is sound, else the code of hashnet.h; `text` (256 bytes) gets the reason. */
HASHNET_API int hashnet_probe_check(const uint8_t *content, size_t size, char *text) {
    hn_file file;
    hn_error e = {0, ""};
    if (hn_file_open(&file, content, size, &e)) {
        hn_check_rest(&file, &e);
        hn_file_close(&file);
    }
    memcpy(text, e.text, sizeof e.text);
    return e.code;
}

/* Writes the tensor of type F32 with this name as the network would see it; returns the number of values, -1 on errors. */
HASHNET_API int64_t hashnet_probe_weight(const uint8_t *content, size_t size, const char *name, float *out, size_t room, char *text) {
    hn_file file;
    hn_error e = {0, ""};
    hn_weight w;
    int64_t count = -1;
    if (hn_file_open(&file, content, size, &e)) {
        if (hn_weight_open(&w, &file, name, strlen(name), &e)) {
            if (w.rows * w.columns <= room && hn_weight_read(&w, out, w.rows, &e) && hn_weight_end(&w, &e))
                count = (int64_t)(w.rows * w.columns);
            hn_weight_free(&w);
        }
        hn_file_close(&file);
    }
    memcpy(text, e.text, sizeof e.text);
    return count;
}

/* Decodes a stream: of integers (8 bytes a value) or floats (4 bytes); returns 0 or the code of an error. */
HASHNET_API int hashnet_probe_stream(const uint8_t *stream, size_t size, int floats, unsigned axes, const uint64_t *shape, void *out) {
    hn_error e = {0, ""};
    hn_bytes bytes = {stream, stream + size};
    uint64_t count = 1;
    for (unsigned i = 0; i < axes; i++) count *= shape[i];
    if (floats) {
        hn_floats s;
        if (!hn_floats_open(&s, bytes, axes, shape, count, &e)) return e.code;
        if (hn_floats_read(&s, out, (size_t)count, &e)) hn_floats_end(&s, &e);
        hn_floats_free(&s);
    } else {
        hn_integers s;
        if (!hn_integers_open(&s, bytes, axes, shape, count, &e)) return e.code;
        hn_integers_read(&s, out, (size_t)count);
        hn_integers_end(&s, &e);
        hn_integers_free(&s);
    }
    return e.code;
}
