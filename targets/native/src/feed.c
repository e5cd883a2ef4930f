/* For tests: reads files from standard input, each behind its length (4 bytes), and prints the code of each. */
#include <stdio.h>
#include <stdlib.h>

#include "weights.h"

int main(void) {
    uint8_t head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        size_t size = hn_u32(head);
        uint8_t *content = malloc(size ? size : 1); /* of exactly this size: a byte too far is found */
        if (!content || fread(content, 1, size, stdin) != size) return 1;
        hn_file file;
        hn_error e = {0, ""};
        if (hn_file_open(&file, content, size, &e)) {
            hn_check_rest(&file, &e);
            hn_file_close(&file);
        }
        free(content);
        printf("%d %s\n", e.code, e.text);
    }
    return 0;
}
