/* hashnet-run: a network on a device that has nothing else; codes, golden check and times as JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static const char USAGE[] =
    "usage: hashnet-run MODEL [--verify [GOLDEN]] [--encode RAW -o CODES] [--outputs FILE] [--bench [IMAGES]] [--layers] [--json]\n"
    "  MODEL     model.safetensors of this bundle\n"
    "  --verify  compare with the golden codes (golden.npz beside MODEL)\n"
    "  --encode  uint8 images, channel by channel, one after another, to packed codes\n"
    "  --bench   milliseconds of one image, median of 30 or IMAGES runs\n";

typedef struct {
    const char *model, *golden, *raw, *codes, *outputs;
    bool verify, bench, layers, json;
    unsigned runs;
} options;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool value(int count, char **words, int *i, const char **out) {
    if (*i + 1 >= count) return false;
    *out = words[++*i];
    return true;
}

static bool parse(options *o, int count, char **words) {
    const char *text;
    for (int i = 1; i < count; i++) {
        const char *w = words[i];
        bool more = i + 1 < count && words[i + 1][0] != '-';
        if (!strcmp(w, "--verify")) {
            o->verify = true;
            if (more && o->model) value(count, words, &i, &o->golden);
        } else if (!strcmp(w, "--encode")) {
            if (!value(count, words, &i, &o->raw)) return false;
        } else if (!strcmp(w, "-o")) {
            if (!value(count, words, &i, &o->codes)) return false;
        } else if (!strcmp(w, "--outputs")) {
            if (!value(count, words, &i, &o->outputs)) return false;
        } else if (!strcmp(w, "--bench")) {
            o->bench = true;
            if (more && value(count, words, &i, &text) && (o->runs = (unsigned)strtoul(text, NULL, 10)) == 0) return false;
        } else if (!strcmp(w, "--layers")) o->layers = true;
        else if (!strcmp(w, "--json")) o->json = true;
        else if (w[0] != '-' && !o->model) o->model = w;
        else return false;
    }
    return o->model && (!o->raw == !(o->codes || o->outputs));
}

static int fail(int code) {
    fprintf(stderr, "hashnet-run: %s\n", hashnet_error());
    return code;
}

static FILE *opened(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (!file) fprintf(stderr, "hashnet-run: cannot open %s\n", path);
    return file;
}

static int encode(hashnet *net, const options *o, unsigned long *images) {
    hashnet_info info;
    hashnet_describe(net, &info);
    size_t bytes = (size_t)info.channels * info.height * info.width, got = 0;
    uint8_t *image = malloc(bytes), *code = malloc(info.code_bytes);
    float *values = malloc((size_t)info.bits * 4);
    FILE *in = opened(o->raw, "rb"), *out = o->codes ? opened(o->codes, "wb") : NULL, *more = o->outputs ? opened(o->outputs, "wb") : NULL;
    int result = !in || (o->codes && !out) || (o->outputs && !more) || !image || !code || !values ? HASHNET_NO_FILE : 0;
    for (; !result && (got = fread(image, 1, bytes, in)) == bytes; ++*images) {
        result = hashnet_encode_pixels(net, image, 1, code, values);
        if (result) fail(result);
        else if ((out && fwrite(code, 1, info.code_bytes, out) != info.code_bytes) || (more && fwrite(values, 4, info.bits, more) != info.bits)) {
            fprintf(stderr, "hashnet-run: the codes cannot be written\n");
            result = HASHNET_NO_FILE;
        }
    }
    if (!result && got) {
        fprintf(stderr, "hashnet-run: %s is no whole number of images of %zu bytes\n", o->raw, bytes);
        result = HASHNET_BAD_ARGUMENT;
    }
    if (in) fclose(in);
    if (more && fclose(more)) result = HASHNET_NO_FILE;
    if (out && fclose(out)) result = HASHNET_NO_FILE;
    free(image);
    free(code);
    free(values);
    return result;
}

/* Milliseconds of steps first to end, sorted. */
static int times(hashnet *net, uint32_t first, uint32_t end, unsigned runs, double *ms) {
    for (unsigned i = 0; i < runs; i++) {
        double start = hn_seconds();
        int code = hashnet_run_steps(net, first, end);
        if (code) return fail(code);
        ms[i] = (hn_seconds() - start) * 1e3;
    }
    qsort(ms, runs, sizeof *ms, by_value);
    return 0;
}

static int bench(hashnet *net, const options *o, bool json) {
    unsigned runs = o->runs ? o->runs : 30;
    double *ms = malloc(runs * sizeof *ms);
    int code = ms ? times(net, 0, hn_this_network.steps, 3 < runs ? 3 : runs, ms) : HASHNET_NO_MEMORY; /* first runs are dropped */
    if (!code) code = times(net, 0, hn_this_network.steps, runs, ms);
    if (!code) {
        printf(json ? ", \"runs\": %u, \"median_ms\": %.6f, \"min_ms\": %.6f, \"max_ms\": %.6f" : "%u runs: median %.4f ms, min %.4f, max %.4f\n",
               runs, ms[runs / 2], ms[0], ms[runs - 1]);
        if (o->layers && json) printf(", \"layers\": [");
    }
    for (uint32_t s = 0; !code && o->layers && s < hn_this_network.steps; s++) {
        code = times(net, s, s + 1, runs, ms);
        if (!code) printf(json ? "%s[\"%s\", %.6f]" : "%s%-40s %.4f ms\n", json && s ? ", " : "", hashnet_step_name(net, s), ms[runs / 2]);
    }
    if (!code && o->layers && json) printf("]");
    free(ms);
    return code;
}

static const char *beside(const char *model, char *path, size_t room) {
    const char *slash = strrchr(model, '/');
    snprintf(path, room, "%.*sgolden.npz", slash ? (int)(slash - model + 1) : 0, model);
    return path;
}

int main(int count, char **words) {
    options o = {0};
    hashnet *net = NULL;
    hashnet_verification v;
    hashnet_info info;
    char path[4096];
    unsigned long images = 0;
    if (!parse(&o, count, words)) {
        fputs(USAGE, stderr);
        return HASHNET_BAD_ARGUMENT;
    }
    double start = hn_seconds();
    int code = hashnet_open(&net, o.model);
    if (code) return fail(code);
    double open_ms = (hn_seconds() - start) * 1e3;
    hashnet_describe(net, &info);
    printf(o.json ? "{\"encoder\": \"%s\", \"target\": \"%s\", \"bits\": %u, \"open_ms\": %.3f, \"open_peak_bytes\": %llu"
                  : "%s for %s, %u bits, opened in %.1f ms, peak %llu bytes\n",
           info.encoder, info.target, info.bits, open_ms, (unsigned long long)hn_peak_bytes());
    if (o.verify) {
        code = hashnet_verify(net, o.golden ? o.golden : beside(o.model, path, sizeof path), &v);
        if (code) fail(code);
        else printf(o.json ? ", \"golden_bits\": %u, \"differing\": %u, \"worst\": %.9g" : "golden: %u bits, %u differ, worst output difference %.3g\n", v.bits, v.differing, (double)v.worst);
    }
    if (!code && o.raw) {
        code = encode(net, &o, &images);
        if (!code) printf(o.json ? ", \"images\": %lu" : "%lu images encoded\n", images);
    }
    if (!code && o.bench) code = bench(net, &o, o.json);
    if (o.json) printf(", \"peak_bytes\": %llu, \"code\": %d}\n", (unsigned long long)hn_peak_bytes(), code);
    hashnet_close(net);
    return code;
}
