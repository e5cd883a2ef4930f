/* What is compiled into a bundle's runtime beside the kernels: the table of steps, sizes and the input's normalisation. */
#ifndef HN_NETWORK_H
#define HN_NETWORK_H

#include "hashnet_abi.h"
#include "weights.h"

typedef struct {
    int role; /* the argument of pack */
    const char *name;
    uint32_t axes;
    uint64_t shape[HN_AXES];
} hn_parameter;

typedef struct {
    const char *name;
    uint32_t count;
    const hn_parameter *parameters;
} hn_step;

typedef struct {
    const char *encoder, *target;
    const char *const *needs; /* instruction sets as /proc/cpuinfo calls them; NULL behind the last */
    uint32_t bits, channels, height, width, steps;
    uint64_t activation_bytes, parameter_bytes;
    const float *scale, *shift; /* a pixel p of channel c is p * scale[c] + shift[c] */
    const hn_step *table;
} hn_network;

extern const hn_network hn_this_network; /* generated, one for each bundle */

/* Decodes the parameters of all steps and packs them, one step after another. */
bool hn_pack(float *parameters, hn_file *file, hn_error *e);
/* Memory that begins where the kernels want it. */
float *hn_buffer(uint64_t bytes);
hashnet_any hn_tensor_argument(hashnet_tensor *t, int64_t *length, void *data, uint64_t floats);
/* What a kernel said of arguments that it refused. */
const char *hn_kernel_error(void);

/* The golden images of a bundle and torch's outputs for them; free both. */
bool hn_golden(const char *path, uint8_t **pixels, float **outputs, uint64_t *images, hn_error *e);

/* The machine: everything that C11 does not have. */
bool hn_map_file(const char *path, const uint8_t **content, size_t *size, hn_error *e);
void hn_unmap_file(const uint8_t *content, size_t size);
bool hn_check_machine(const char *const *needs, hn_error *e);
double hn_seconds(void);
uint64_t hn_peak_bytes(void); /* of resident memory; 0 where unknown */

#endif
