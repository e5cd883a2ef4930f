/* Packs and runs a compiled network through hashnet_abi.h alone; the numbers come from files.
   call_network LIBRARY STEPS WORKSPACE PARAMETERS IMAGE IMAGE_FLOATS OUTPUTS (STEP ROLE FILE FLOATS)... */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include "hashnet_abi.h"

typedef int32_t function(void *, const hashnet_any *, int32_t, hashnet_any *);

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    fprintf(stderr, "%s: ", kind);
    for (int32_t i = 0; i < count; i++) fputs(parts[i], stderr);
    exit(3);
}

static float *buffer(int64_t floats) {
    size_t bytes = (size_t)floats * 4 / HASHNET_ALIGNMENT * HASHNET_ALIGNMENT + HASHNET_ALIGNMENT;
    return aligned_alloc(HASHNET_ALIGNMENT, bytes);
}

static float *read_floats(const char *path, int64_t floats) {
    float *data = buffer(floats);
    FILE *file = fopen(path, "rb");
    if (!file || fread(data, 4, (size_t)floats, file) != (size_t)floats) exit(4);
    fclose(file);
    return data;
}

static hashnet_any tensor(float *data, int64_t floats) {
    int64_t *shape = malloc(sizeof *shape);
    *shape = floats;
    hashnet_tensor *t = malloc(sizeof *t);
    *t = (hashnet_tensor){data, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
    return (hashnet_any){HASHNET_TYPE_TENSOR, 0, {.pointer = t}};
}

static hashnet_any integer(int64_t number) { return (hashnet_any){HASHNET_TYPE_INT, 0, {.number = number}}; }

int main(int count, char **words) {
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library) return 5;
    function *run = (function *)dlsym(library, "__tvm_ffi_run"), *pack = (function *)dlsym(library, "__tvm_ffi_pack");
    int64_t workspace = atoll(words[3]), packed = atoll(words[4]), pixels = atoll(words[6]), bits = atoll(words[7]);
    hashnet_any parameters = tensor(buffer(packed), packed), nothing = tensor(buffer(1), 1), result = {0};
    hashnet_any given[HASHNET_PACK_ARGUMENTS];
    for (int i = 8; i < count;) {
        int step = atoi(words[i]);
        for (int k = 0; k < HASHNET_PACK_ARGUMENTS; k++) given[k] = nothing;
        given[HASHNET_PACK_STEP] = integer(step);
        given[HASHNET_PACK_PARAMETERS] = parameters;
        for (; i < count && atoi(words[i]) == step; i += 4) {
            int64_t floats = atoll(words[i + 3]);
            given[atoi(words[i + 1])] = tensor(read_floats(words[i + 2], floats), floats);
        }
        if (pack(NULL, given, HASHNET_PACK_ARGUMENTS, &result)) return 6;
    }
    float *outputs = buffer(bits);
    hashnet_any arguments[HASHNET_RUN_ARGUMENTS];
    arguments[HASHNET_RUN_IMAGE] = tensor(read_floats(words[5], pixels), pixels);
    arguments[HASHNET_RUN_OUTPUTS] = tensor(outputs, bits);
    arguments[HASHNET_RUN_WORKSPACE] = tensor(buffer(workspace), workspace);
    arguments[HASHNET_RUN_PARAMETERS] = parameters;
    arguments[HASHNET_RUN_FIRST] = integer(0);
    arguments[HASHNET_RUN_LAST] = integer(atoi(words[2]));
    if (run(NULL, arguments, HASHNET_RUN_ARGUMENTS, &result)) return 7;
    return fwrite(outputs, 4, (size_t)bits, stdout) == (size_t)bits ? 0 : 8;
}
