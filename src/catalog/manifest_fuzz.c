/* manifest_fuzz.c: any bytes as a manifest, with checksums that fit where a section lies in the file. Of one that is taken every row is
 * read. */
#include "base/hash.h"
#include "catalog/entry.h"
#include "catalog/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 88u
#define SECTION 24u

static void mend(uint8_t *p, size_t size)
{
    uint64_t sections = le32_get(p + 36);

    le64_put(p + 40, size);
    if (sections > (size - HEADER) / SECTION)
        return;
    for (uint64_t i = 0; i < sections; i++) {
        uint8_t *d = p + HEADER + i * SECTION;
        uint64_t offset = le64_get(d + 8), length = le64_get(d + 16);
        if (offset <= size && length <= size - offset && offset >= HEADER + sections * SECTION)
            le32_put(d + 4, crc32c(0, p + offset, length));
    }
    le32_put(p + 84, crc32c(crc32c(0, p, 84), p + HEADER, sections * SECTION));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) uint8_t *p = mem_alloc(size); /* aligned, and ours to mend */
    struct slm m;
    struct err err;

    if (size < HEADER)
        return 0;
    memcpy(p, data, size);
    mend(p, size);
    enum err_code rc = slm_decode(slice_of(p, size), &m, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_INVALID);
    for (uint32_t row = 0; rc == ERR_OK && row < m.count; row++) {
        struct buf path = BUF_INIT;
        slm_path(&m, row, &path);
        struct entry *e = slm_entry(&m, row);
        entry_unref(e);
        buf_done(&path);
    }
    return 0;
}
