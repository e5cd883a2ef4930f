/* The interface of hashnet.h: handles on packed weights, images to codes. */
#include "hashnet.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "network.h"

typedef struct {
    atomic_uint handles;
    float *parameters;
} packed;

struct hashnet {
    packed *weights;
    float *image, *outputs, *workspace;
    hashnet_tensor tensors[HASHNET_RUN_ARGUMENTS];
    int64_t lengths[HASHNET_RUN_ARGUMENTS];
    hashnet_any arguments[HASHNET_RUN_ARGUMENTS];
};

static _Thread_local hn_error last;

const char *hashnet_error(void) { return last.text; }

static int failed(const hn_error *e) {
    last = *e;
    return e->code;
}

static int refuse(const char *what) {
    hn_fail(&last, HASHNET_BAD_ARGUMENT, "%s", what);
    return HASHNET_BAD_ARGUMENT;
}

static uint64_t image_floats(void) {
    return (uint64_t)hn_this_network.channels * hn_this_network.height * hn_this_network.width;
}

void hashnet_close(hashnet *net) {
    if (!net) return;
    if (net->weights && atomic_fetch_sub(&net->weights->handles, 1) == 1) {
        free(net->weights->parameters);
        free(net->weights);
    }
    free(net->image);
    free(net->outputs);
    free(net->workspace);
    free(net);
}

static void set_buffer(hashnet *net, int argument, float *data, uint64_t bytes) {
    uint64_t floats = bytes / 4 ? bytes / 4 : 1;
    net->arguments[argument] = hn_tensor_argument(net->tensors + argument, net->lengths + argument, data, floats);
}

/* A handle on weights, which it counts as its own also where it fails. */
static hashnet *new_handle(packed *weights) {
    const hn_network *n = &hn_this_network;
    hashnet *net = calloc(1, sizeof *net);
    if (!net) return NULL;
    net->weights = weights;
    net->image = hn_buffer(image_floats() * 4);
    net->outputs = hn_buffer((uint64_t)n->bits * 4);
    net->workspace = hn_buffer(n->activation_bytes);
    if (!net->image || !net->outputs || !net->workspace) {
        hashnet_close(net);
        return NULL;
    }
    memset(net->image, 0, (size_t)image_floats() * 4);
    memset(net->workspace, 0, (size_t)n->activation_bytes);
    set_buffer(net, HASHNET_RUN_IMAGE, net->image, image_floats() * 4);
    set_buffer(net, HASHNET_RUN_OUTPUTS, net->outputs, (uint64_t)n->bits * 4);
    set_buffer(net, HASHNET_RUN_WORKSPACE, net->workspace, n->activation_bytes);
    set_buffer(net, HASHNET_RUN_PARAMETERS, weights->parameters, n->parameter_bytes);
    return net;
}

static bool open_packed(packed *weights, const uint8_t *content, size_t size, hn_error *e) {
    hn_file file;
    uint64_t bytes = hn_this_network.parameter_bytes;
    if (!hn_check_machine(hn_this_network.needs, e) || !hn_file_open(&file, content, size, e)) return false;
    weights->parameters = hn_buffer(bytes);
    bool good = (weights->parameters || hn_no_memory(e)) && hn_pack(weights->parameters, &file, e) && hn_check_rest(&file, e);
    hn_file_close(&file);
    return good;
}

int hashnet_open_memory(hashnet **net, const void *content, size_t size) {
    hn_error e = {0, ""};
    if (!net || !content) return refuse("hashnet_open_memory needs a place for the handle and a file");
    *net = NULL;
    packed *weights = calloc(1, sizeof *weights);
    if (!weights) {
        hn_no_memory(&e);
        return failed(&e);
    }
    atomic_init(&weights->handles, 1);
    if (!open_packed(weights, content, size, &e)) {
        free(weights->parameters);
        free(weights);
        return failed(&e);
    }
    *net = new_handle(weights);
    if (!*net) hn_no_memory(&e);
    return failed(&e);
}

int hashnet_open(hashnet **net, const char *path) {
    hn_error e = {0, ""};
    const uint8_t *content;
    size_t size;
    if (!net || !path) return refuse("hashnet_open needs a place for the handle and a path");
    *net = NULL;
    if (!hn_map_file(path, &content, &size, &e)) return failed(&e);
    int code = hashnet_open_memory(net, content, size);
    hn_unmap_file(content, size);
    return code;
}

int hashnet_share(hashnet **other, hashnet *net) {
    hn_error e = {0, ""};
    if (!other || !net) return refuse("hashnet_share needs a place for the handle and a handle");
    atomic_fetch_add(&net->weights->handles, 1);
    *other = new_handle(net->weights);
    if (!*other) hn_no_memory(&e);
    return failed(&e);
}

void hashnet_describe(const hashnet *net, hashnet_info *info) {
    const hn_network *n = &hn_this_network;
    (void)net;
    *info = (hashnet_info){n->encoder, n->target, n->bits, (n->bits + 7) / 8, n->channels, n->height, n->width,
                           n->steps, n->parameter_bytes, n->activation_bytes};
}

const char *hashnet_step_name(const hashnet *net, uint32_t step) {
    (void)net;
    return step < hn_this_network.steps ? hn_this_network.table[step].name : NULL;
}

int hashnet_run_steps(hashnet *net, uint32_t first, uint32_t end) {
    hashnet_any result = {0, 0, {0}};
    if (!net || first > end || end > hn_this_network.steps) return refuse("there are no such steps");
    net->arguments[HASHNET_RUN_FIRST] = (hashnet_any){HASHNET_TYPE_INT, 0, {.number = first}};
    net->arguments[HASHNET_RUN_LAST] = (hashnet_any){HASHNET_TYPE_INT, 0, {.number = end}};
    if (!__tvm_ffi_run(NULL, net->arguments, HASHNET_RUN_ARGUMENTS, &result)) return HASHNET_OK;
    hn_fail(&last, HASHNET_FAILED, "running the network: %s", hn_kernel_error());
    return HASHNET_FAILED;
}

static void write_code(const hashnet *net, uint8_t *code) {
    memset(code, 0, (hn_this_network.bits + 7) / 8);
    for (uint32_t k = 0; k < hn_this_network.bits; k++)
        if (net->outputs[k] >= 0) code[k / 8] |= (uint8_t)(1u << k % 8);
}

/* Runs the network on the image in its buffer. */
static int compute(hashnet *net, size_t number, uint8_t *codes, float *outputs) {
    int code = hashnet_run_steps(net, 0, hn_this_network.steps);
    if (code) return code;
    if (codes) write_code(net, codes + number * ((hn_this_network.bits + 7) / 8));
    if (outputs) memcpy(outputs + number * hn_this_network.bits, net->outputs, (size_t)hn_this_network.bits * 4);
    return HASHNET_OK;
}

int hashnet_encode_values(hashnet *net, const float *values, size_t images, uint8_t *codes, float *outputs) {
    size_t floats = (size_t)image_floats();
    if (!net || (images && !values)) return refuse("encoding needs a handle and images");
    for (size_t i = 0; i < images; i++) {
        memcpy(net->image, values + i * floats, floats * 4);
        int code = compute(net, i, codes, outputs);
        if (code) return code;
    }
    return HASHNET_OK;
}

int hashnet_encode_pixels(hashnet *net, const uint8_t *pixels, size_t images, uint8_t *codes, float *outputs) {
    const hn_network *n = &hn_this_network;
    size_t area = (size_t)n->height * n->width;
    if (!net || (images && !pixels)) return refuse("encoding needs a handle and images");
    for (size_t i = 0; i < images; i++) {
        float *place = net->image;
        for (uint32_t c = 0; c < n->channels; c++)
            for (size_t k = 0; k < area; k++) {
                float product = (float)*pixels++ * n->scale[c];
                *place++ = product + n->shift[c];
            }
        int code = compute(net, i, codes, outputs);
        if (code) return code;
    }
    return HASHNET_OK;
}

int hashnet_verify(hashnet *net, const char *golden, hashnet_verification *found) {
    const float margin = 1e-4f; /* as targets/runtime.py */
    hn_error e = {0, ""};
    uint8_t *pixels = NULL;
    float *wanted = NULL;
    uint64_t images = 0;
    if (!net || !golden || !found) return refuse("verifying needs a handle, a file and a place for the result");
    *found = (hashnet_verification){0};
    if (!hn_golden(golden, &pixels, &wanted, &images, &e)) return failed(&e);
    size_t count = (size_t)images * hn_this_network.bits;
    float *values = malloc(count * 4 + 4);
    int code = values ? hashnet_encode_pixels(net, pixels, (size_t)images, NULL, values) : refuse("not enough memory");
    for (size_t i = 0; !code && i < count; i++) {
        float difference = fabsf(values[i] - wanted[i]);
        bool differs = (values[i] >= 0) != (wanted[i] >= 0);
        found->differing += differs;
        found->wrong += (differs && fabsf(wanted[i]) >= margin) || isnan(values[i]);
        if (difference > found->worst) found->worst = difference;
    }
    found->images = (uint32_t)images;
    found->bits = (uint32_t)count;
    free(values);
    free(pixels);
    free(wanted);
    if (!code && found->wrong) {
        hn_fail(&e, HASHNET_WRONG_CODES, "%u of %u golden bits differ: the network computes something else here", found->wrong, found->bits);
        return failed(&e);
    }
    return code;
}
