/* filter_fuzz.c: any bytes as a pack of filters, with checksums that fit. Of one that is taken every row is asked, and its files are packed
 * again. */
#include "base/hash.h"
#include "catalog/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIXED 40u
#define GROUP 24u

/* The checksums of the header and of all rows that lie in the file. */
static void mend(uint8_t *p, size_t size)
{
    uint64_t header = le32_get(p + 8), groups = le32_get(p + 16);

    le64_put(p + 32, size);
    if (header < FIXED + 8 || header > size || groups > (header - FIXED) / GROUP)
        return;
    le32_put(p + header - 4, crc32c(0, p, header - 4));
    for (uint64_t i = 0; i < groups; i++) {
        const uint8_t *g = p + FIXED + i * GROUP;
        uint64_t blocks = le32_get(g + 4), row = 32 * (uint64_t)le32_get(g + 8), at = le64_get(g + 16);
        for (uint64_t b = 0; b < blocks && at >= header && at <= size && row + 4 <= size - at; b++, at += row + 4)
            le32_put(p + at + row, crc32c(0, p + at, row));
    }
}

static bool wanted(void *arg, slice path)
{
    (void)arg;
    return path.len % 2 == 0;
}

static enum err_code nothing(void *arg, slice piece, struct err *err)
{
    (void)err;
    *(uint64_t *)arg += piece.len;
    return ERR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) uint8_t *p = mem_alloc(size + 8); /* aligned, and ours to mend */
    struct arena arena = ARENA_INIT;
    struct filter_files files = {0};
    struct slf s;
    struct err err;

    if (size < FIXED)
        return 0;
    memcpy(p, data, size);
    mend(p, size);
    enum err_code rc = slf_take(slice_of(p, size), wanted, NULL, &files, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_INVALID);
    if (rc == ERR_OK) {
        ASSERT(slf_decode(slice_of(p, le32_get(p + 8)), &arena, &s, &err) == ERR_OK);
        for (uint32_t g = 0; g < s.groups_count; g++)
            for (uint32_t m = 0; m < s.groups[g].members; m++) {
                uint64_t offset, len, hash = hash64(slice_of(&m, sizeof(m)), g);
                slf_row_at(&s.groups[g], hash, &offset, &len);
                ASSERT(offset + len <= size && s.groups[g].files[m] < s.files);
                (void)slf_row_has(slice_of(p + offset, len), m, hash);
            }
        for (uint32_t i = 0; i < s.files; i++)
            ASSERT(slf_path(&s, i).len <= size);
        uint64_t written = 0;
        uint32_t header_len;
        if (files.count)
            ASSERT(slf_encode(&files, 1, nothing, &written, &header_len, &err) == ERR_OK);
    }
    filter_files_done(&files);
    arena_done(&arena);
    return 0;
}
