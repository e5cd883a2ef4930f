/* Decoded weights into the order in which the kernels stream them, by the network's own compiled pack. */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static _Thread_local char kernel_error[200];

const char *hn_kernel_error(void) { return kernel_error; }

/* Compiled functions report wrong arguments by this call. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    size_t used = (size_t)snprintf(kernel_error, sizeof kernel_error, "%s: ", kind);
    for (int32_t i = 0; i < count && used < sizeof kernel_error; i++)
        used += (size_t)snprintf(kernel_error + used, sizeof kernel_error - used, "%s", parts[i]);
}

float *hn_buffer(uint64_t bytes) {
    uint64_t whole = (bytes / HASHNET_ALIGNMENT + 1) * HASHNET_ALIGNMENT;
    return bytes < SIZE_MAX / 2 ? aligned_alloc(HASHNET_ALIGNMENT, (size_t)whole) : NULL;
}

hashnet_any hn_tensor_argument(hashnet_tensor *t, int64_t *length, void *data, uint64_t floats) {
    *length = (int64_t)floats;
    *t = (hashnet_tensor){data, {1, 0}, 1, {2, 32, 1}, length, NULL, 0};
    return (hashnet_any){HASHNET_TYPE_TENSOR, 0, {.pointer = t}};
}

/* The whole tensor of a step, of malloc, after a look at its shape. */
static float *parameter(const hn_parameter *p, hn_file *file, uint64_t *count, hn_error *e) {
    hn_weight w;
    if (!hn_weight_open(&w, file, p->name, strlen(p->name), e)) return NULL;
    bool same = w.axes == p->axes && !memcmp(w.shape, p->shape, p->axes * sizeof *p->shape);
    *count = w.rows * w.columns;
    float *values = same ? hn_buffer(*count * 4) : NULL;
    if (!same) hn_fail(e, HASHNET_OTHER_MODEL, "%s has another shape than the compiled network takes", p->name);
    else if (!values) hn_no_memory(e);
    else if (!hn_weight_read(&w, values, w.rows, e) || !hn_weight_end(&w, e)) {
        free(values);
        values = NULL;
    }
    hn_weight_free(&w);
    return values;
}

static bool pack_step(uint32_t number, hashnet_any parameters, hn_file *file, hn_error *e) {
    const hn_step *step = hn_this_network.table + number;
    hashnet_any given[HASHNET_PACK_ARGUMENTS], result = {0, 0, {0}};
    hashnet_tensor tensors[HASHNET_PACK_ARGUMENTS];
    int64_t lengths[HASHNET_PACK_ARGUMENTS];
    float *values[HASHNET_PACK_ARGUMENTS] = {NULL}, nothing = 0;
    for (int i = 0; i < HASHNET_PACK_ARGUMENTS; i++) given[i] = hn_tensor_argument(tensors + i, lengths + i, &nothing, 1);
    bool good = true;
    for (uint32_t i = 0; good && i < step->count; i++) {
        const hn_parameter *p = step->parameters + i;
        uint64_t count = 0;
        values[p->role] = parameter(p, file, &count, e);
        good = values[p->role] != NULL;
        given[p->role] = hn_tensor_argument(tensors + p->role, lengths + p->role, values[p->role], count);
    }
    given[HASHNET_PACK_STEP] = (hashnet_any){HASHNET_TYPE_INT, 0, {.number = number}};
    given[HASHNET_PACK_PARAMETERS] = parameters;
    if (good && __tvm_ffi_pack(NULL, given, HASHNET_PACK_ARGUMENTS, &result))
        good = hn_fail(e, HASHNET_FAILED, "packing %s: %s", step->name, kernel_error);
    for (int i = 0; i < HASHNET_PACK_ARGUMENTS; i++) free(values[i]);
    return good;
}

bool hn_pack(float *parameters, hn_file *file, hn_error *e) {
    hashnet_tensor tensor;
    int64_t length;
    uint64_t floats = hn_this_network.parameter_bytes / 4;
    hashnet_any packed = hn_tensor_argument(&tensor, &length, parameters, floats ? floats : 1);
    for (uint32_t n = 0; n < hn_this_network.steps; n++)
        if (hn_this_network.table[n].count && !pack_step(n, packed, file, e)) return false;
    return true;
}
