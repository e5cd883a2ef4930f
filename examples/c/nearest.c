/* Image to code to the nearest of a file of codes:
 *   cc nearest.c -I BUNDLE BUNDLE/libhashnet.a -lm -o nearest
 *   ./nearest BUNDLE/model.safetensors image.raw codes.bin
 * image.raw holds uint8 pixels channel by channel, codes.bin packed codes as `hashnet-run --encode` writes them. */
#include <stdio.h>
#include <stdlib.h>

#include "hashnet.h"

static unsigned distance(const uint8_t *a, const uint8_t *b, size_t bytes) {
    unsigned bits = 0;
    for (size_t i = 0; i < bytes; i++)
        for (unsigned x = a[i] ^ b[i]; x; x &= x - 1) bits++;
    return bits;
}

int main(int count, char **words) {
    hashnet *net;
    hashnet_info info;
    if (count != 4) return fprintf(stderr, "usage: nearest MODEL IMAGE CODES\n"), 2;
    if (hashnet_open(&net, words[1])) return fprintf(stderr, "%s\n", hashnet_error()), 1;
    hashnet_describe(net, &info);
    size_t pixels = (size_t)info.channels * info.height * info.width;
    uint8_t *image = malloc(pixels), *code = malloc(info.code_bytes), *other = malloc(info.code_bytes);
    FILE *in = fopen(words[2], "rb"), *codes = fopen(words[3], "rb");
    if (!image || !code || !other || !in || !codes) return fprintf(stderr, "cannot read %s or %s\n", words[2], words[3]), 1;
    if (fread(image, 1, pixels, in) != pixels) return fprintf(stderr, "%s has fewer than %zu pixels\n", words[2], pixels), 1;
    if (hashnet_encode_pixels(net, image, 1, code, NULL)) return fprintf(stderr, "%s\n", hashnet_error()), 1;
    long best = -1;
    unsigned least = info.bits + 1;
    for (long n = 0; fread(other, 1, info.code_bytes, codes) == info.code_bytes; n++) {
        unsigned d = distance(code, other, info.code_bytes);
        if (d < least) least = d, best = n;
    }
    printf("%ld %u\n", best, least);
    hashnet_close(net);
    return 0;
}
