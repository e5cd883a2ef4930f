/* Opens a compressed hashing network and gives the codes of images.
 *
 *     hashnet *net;
 *     if (hashnet_open(&net, "model.safetensors")) { puts(hashnet_error()); return 1; }
 *     hashnet_encode_pixels(net, pixels, 1, code, NULL);
 *     hashnet_close(net);
 *
 * A handle is used by one thread at a time; different handles by as many threads as there are. */
#ifndef HASHNET_H
#define HASHNET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define HASHNET_API
#else
#define HASHNET_API __attribute__((visibility("default")))
#endif

#define HASHNET_VERSION 1

/* What every function returns; hashnet_error() has the reason in one line. */
enum {
    HASHNET_OK = 0,
    HASHNET_NO_MEMORY = 1,
    HASHNET_NO_FILE = 2,      /* it cannot be read */
    HASHNET_BAD_FILE = 3,     /* damaged, or no model file */
    HASHNET_OTHER_MODEL = 4,  /* a model file of another network than this library was compiled for */
    HASHNET_BAD_ARGUMENT = 5,
    HASHNET_BAD_MACHINE = 6,  /* this processor lacks instructions that the library uses */
    HASHNET_WRONG_CODES = 7,  /* golden codes differ */
    HASHNET_FAILED = 8        /* a kernel refused its arguments */
};

typedef struct hashnet hashnet;

typedef struct {
    const char *encoder, *target;
    uint32_t bits, code_bytes;         /* of one code: ceil(bits / 8), bit k in byte k / 8 from the lowest on */
    uint32_t channels, height, width;  /* of one image, stored channel by channel */
    uint32_t steps;
    uint64_t parameter_bytes, activation_bytes;
} hashnet_info;

/* How golden codes came out; `worst` is the largest difference of an output from the one recorded. */
typedef struct {
    uint32_t images, bits, differing, wrong; /* wrong: differing beyond the margin within which machines may differ */
    float worst;
} hashnet_verification;

/* Decodes and packs the weights of a model file. */
HASHNET_API int hashnet_open(hashnet **net, const char *path);
/* The same of a file in memory, which is not needed afterwards. */
HASHNET_API int hashnet_open_memory(hashnet **net, const void *content, size_t size);
/* Another handle on the same weights, for another thread; closed like the first, in any order. */
HASHNET_API int hashnet_share(hashnet **other, hashnet *net);
HASHNET_API void hashnet_close(hashnet *net);

HASHNET_API void hashnet_describe(const hashnet *net, hashnet_info *info);
/* The name of a step of the network; NULL behind the last. */
HASHNET_API const char *hashnet_step_name(const hashnet *net, uint32_t step);

/* Codes of `images` images of uint8 pixels. Where `outputs` is not NULL it gets `bits` real outputs an image: a bit is set
 * where its output is >= 0, and the output's magnitude is its margin. */
HASHNET_API int hashnet_encode_pixels(hashnet *net, const uint8_t *pixels, size_t images, uint8_t *codes, float *outputs);
/* The same of normalised images; `codes` or `outputs` may be NULL. */
HASHNET_API int hashnet_encode_values(hashnet *net, const float *values, size_t images, uint8_t *codes, float *outputs);
/* The steps from `first` to the one before `last` once more, on what the last image left; to time layers. */
HASHNET_API int hashnet_run_steps(hashnet *net, uint32_t first, uint32_t last);

/* Compares with the golden codes in the file golden.npz of a bundle. */
HASHNET_API int hashnet_verify(hashnet *net, const char *golden, hashnet_verification *found);

/* The reason of the last failure in this thread, one line; empty where there was none. */
HASHNET_API const char *hashnet_error(void);

#ifdef __cplusplus
}
#endif
#endif
