/* The machine: files in memory, clock, memory and instruction sets. The only file with calls beyond C11. */
#if defined(__unix__) || defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#define HN_POSIX 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif
#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "network.h"

static const uint8_t EMPTY[1];

#ifdef HN_POSIX
bool hn_map_file(const char *path, const uint8_t **content, size_t *size, hn_error *e) {
    struct stat about;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return hn_fail(e, HASHNET_NO_FILE, "cannot read %.180s: %s", path, strerror(errno));
    if (fstat(file, &about) || !S_ISREG(about.st_mode)) {
        close(file);
        return hn_fail(e, HASHNET_NO_FILE, "cannot read %.180s: it is no file", path);
    }
    *size = (size_t)about.st_size;
    void *mapped = *size ? mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0) : (void *)(uintptr_t)EMPTY;
    close(file);
    if (mapped == MAP_FAILED) return hn_fail(e, HASHNET_NO_FILE, "cannot read %.180s: %s", path, strerror(errno));
    *content = mapped;
    return true;
}

void hn_unmap_file(const uint8_t *content, size_t size) {
    if (size) munmap((void *)(uintptr_t)content, size);
}

double hn_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
#else
bool hn_map_file(const char *path, const uint8_t **content, size_t *size, hn_error *e) {
    FILE *file = fopen(path, "rb");
    if (!file) return hn_fail(e, HASHNET_NO_FILE, "cannot read %.180s", path);
    long length = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    uint8_t *read = length < 0 ? NULL : malloc((size_t)length + 1);
    rewind(file);
    bool good = read && fread(read, 1, (size_t)length, file) == (size_t)length;
    fclose(file);
    if (!good) {
        free(read);
        return hn_fail(e, HASHNET_NO_FILE, "cannot read %.180s", path);
    }
    *content = read;
    *size = (size_t)length;
    return true;
}

void hn_unmap_file(const uint8_t *content, size_t size) {
    (void)size;
    free((void *)(uintptr_t)content);
}

double hn_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }
#endif

/* Reads a file of /proc up to the line that begins so. */
static bool any_line(const char *path, const char *start, char *line, size_t room) {
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file && !found && fgets(line, (int)room, file)) found = !strncmp(line, start, strlen(start));
    if (file) fclose(file);
    return found;
}

uint64_t hn_peak_bytes(void) {
    char line[256];
    return any_line("/proc/self/status", "VmHWM:", line, sizeof line) ? 1024 * strtoull(line + 6, NULL, 10) : 0;
}

#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
/* The kernel's word is better than /proc/cpuinfo's, which under an emulator is that of another machine. */
static const struct {
    const char *name;
    unsigned word, bit;
} HWCAPS[] = {
#ifdef __aarch64__
    {"fp", 0, 0}, {"asimd", 0, 1}, {"aes", 0, 3}, {"pmull", 0, 4}, {"sha1", 0, 5}, {"sha2", 0, 6}, {"crc32", 0, 7},
    {"atomics", 0, 8}, {"fphp", 0, 9}, {"asimdhp", 0, 10}, {"asimdrdm", 0, 12}, {"fcma", 0, 14}, {"lrcpc", 0, 15},
    {"asimddp", 0, 20}, {"sve", 0, 22}, {"i8mm", 1, 13}, {"bf16", 1, 14},
#else
    {"neon", 0, 12}, {"vfpv3", 0, 13}, {"vfpv4", 0, 16}, {"idiva", 0, 17}, {"idivt", 0, 18},
#endif
};

static bool has_instructions(const char *name) {
    const unsigned long words[2] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
    for (size_t i = 0; i < sizeof HWCAPS / sizeof HWCAPS[0]; i++)
        if (!strcmp(HWCAPS[i].name, name)) return words[HWCAPS[i].word] >> HWCAPS[i].bit & 1;
    return true; /* a name without a bit cannot be asked for */
}

bool hn_check_machine(const char *const *needs, hn_error *e) {
    for (; *needs; needs++)
        if (!has_instructions(*needs)) return hn_fail(e, HASHNET_BAD_MACHINE, "this processor lacks %s; compile for it", *needs);
    return true;
}
#else
static bool has_word(const char *line, const char *word) {
    size_t size = strlen(word);
    for (const char *at = strstr(line, word); at; at = strstr(at + 1, word))
        if ((at == line || at[-1] == ' ' || at[-1] == '\t') && (at[size] == ' ' || at[size] == '\n' || !at[size])) return true;
    return false;
}

bool hn_check_machine(const char *const *needs, hn_error *e) {
    static const char *const FILES[] = {"flags", "Features"};
    char line[8192];
    for (unsigned i = 0; i < 2 && *needs; i++) {
        if (!any_line("/proc/cpuinfo", FILES[i], line, sizeof line)) continue;
        for (; *needs; needs++)
            if (!has_word(line, *needs)) return hn_fail(e, HASHNET_BAD_MACHINE, "this processor lacks %s; compile for it", *needs);
    }
    return true;
}
#endif
