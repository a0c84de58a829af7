/* fuzz_replay.c: runs a fuzz target over the files of its corpus as an ordinary test, without libFuzzer.
 *
 *   NAME_replay [FOLDER or FILE]...
 * Each file goes in as it is, then cut at every length up to 64 and at 64 places over the rest, then with single bytes
 * damaged at places of a fixed generator: truncation and damage are what a decoder meets most. Always runs the empty input.
 * A folder that does not exist counts as empty: a target may start without seeds. */
#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned files, inputs;

/* A copy of exact size each time, so that ASan sees a read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    inputs++;
}

static void run_variants(uint8_t *data, size_t size)
{
    uint64_t seed = 0x9e3779b97f4a7c15u ^ size;

    run(data, size);
    for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : 1 + (size - 64) / 64)
        run(data, cut);
    for (unsigned i = 0; i < 256 && size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % size;
        uint8_t was = data[at];
        data[at] = (uint8_t)(seed >> 25);
        run(data, size);
        data[at] = was;
    }
}

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t size = 0, room = 0, n;

    if (!f) {
        perror(path);
        return 1;
    }
    do {
        if (size == room) {
            room = room ? room * 2 : 65536;
            data = realloc(data, room);
            if (!data)
                abort();
        }
        n = fread(data + size, 1, room - size, f);
        size += n;
    } while (n > 0);
    (void)fclose(f);
    run_variants(data, size);
    free(data);
    files++;
    return 0;
}

static int run_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int rc = 0;

    while (dir && (entry = readdir(dir)) != NULL) {
        char file[4096];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        rc |= run_file(file);
    }
    if (dir)
        (void)closedir(dir);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;

    run((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0)
            continue;
        rc |= S_ISDIR(st.st_mode) ? run_dir(argv[i]) : run_file(argv[i]);
    }
    printf("%u files, %u inputs\n", files, inputs);
    return rc;
}
