/* How to call a compiled network. Generated from hashpress/targets/abi.py; do not edit. */
#ifndef HASHNET_ABI_H
#define HASHNET_ABI_H

#include <stdint.h>

/* DLPack's DLTensor; every tensor here is {data, {1, 0}, 1, {2, 32, 1}, &length, 0, 0}: flat float32 on the CPU. */
typedef struct {
    void *data;
    struct { int32_t type, id; } device;
    int32_t ndim;
    struct { uint8_t code, bits; uint16_t lanes; } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} hashnet_tensor;

/* One argument of a packed call (TVMFFIAny): a tag, and a number or a pointer. */
typedef struct {
    int32_t type;
    uint32_t zero;
    union { int64_t number; void *pointer; double real; } value;
} hashnet_any;

#define HASHNET_TYPE_INT 1
#define HASHNET_TYPE_TENSOR 7

/* Both functions return 0, or not 0 after they have called TVMFFIErrorSetRaisedFromCStrParts. */

#define HASHNET_ALIGNMENT 64 /* bytes, of every buffer of run */

enum hashnet_run_argument {
    HASHNET_RUN_IMAGE = 0, /* float32 tensor: one normalised image, C x H x W */
    HASHNET_RUN_OUTPUTS = 1, /* float32 tensor: the network's outputs; bit k of the code is outputs[k] >= 0 */
    HASHNET_RUN_WORKSPACE = 2, /* float32 tensor: activations; a range of steps reads what the ranges before it left */
    HASHNET_RUN_PARAMETERS = 3, /* float32 tensor: packed parameters, written by pack */
    HASHNET_RUN_FIRST = 4, /* int: the first step to compute */
    HASHNET_RUN_LAST = 5, /* int: the step to stop before */
    HASHNET_RUN_ARGUMENTS = 6
};

int32_t __tvm_ffi_run(void *self, const hashnet_any *arguments, int32_t count, hashnet_any *result);

enum hashnet_pack_argument {
    HASHNET_PACK_STEP = 0, /* int: the step whose parameters are given */
    HASHNET_PACK_WEIGHT = 1, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_BIAS = 2, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_GAMMA = 3, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_BETA = 4, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_MEAN = 5, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_VARIANCE = 6, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_MULTIPLIER = 7, /* float32 tensor: as the model file has it; anything where the step has none */
    HASHNET_PACK_PARAMETERS = 8, /* float32 tensor: packed parameters, written by pack */
    HASHNET_PACK_ARGUMENTS = 9
};

int32_t __tvm_ffi_pack(void *self, const hashnet_any *arguments, int32_t count, hashnet_any *result);

#endif
