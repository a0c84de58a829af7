#include "catalog/filter.h"

#include <stdatomic.h>

#include "base/hash.h"

#include "base/banned.h"

#define SLF_FIXED_BYTES 40u
#define SLF_GROUP_BYTES 24u
#define SLF_VERSION 1
#define BLOCK_BYTES 32u
#define BLOCK_WORDS 8u
#define VALUES_PER_BLOCK 16u /* 256 bits */
#define BLOCKS_MAX (1u << 24)
#define PIECE_BYTES (1u << 20)

/* ---- split-block bloom filters */

static uint32_t block_of(uint64_t hash, uint32_t blocks)
{
    return (uint32_t)((hash >> 32) * blocks >> 32);
}

static void block_mask(uint64_t hash, uint32_t mask[BLOCK_WORDS])
{
    static const uint32_t salts[BLOCK_WORDS] = {0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d,
                                                0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31};

    for (unsigned i = 0; i < BLOCK_WORDS; i++)
        mask[i] = UINT32_C(1) << ((uint32_t)hash * salts[i] >> 27);
}

/* Of filters of similar files many shall have one size, as each size is a request: 2^k or 3 * 2^k blocks. */
static uint32_t blocks_for(size_t values)
{
    uint64_t need = (values + VALUES_PER_BLOCK - 1) / VALUES_PER_BLOCK, size = 1;

    while (size < need && size < BLOCKS_MAX)
        size *= 2;
    return (uint32_t)(size >= 4 && size / 4 * 3 >= need ? size / 4 * 3 : size);
}

struct filter_file *filter_files_add(struct filter_files *f, slice path)
{
    struct filter_file *file = ARRAY_PUSH(f->items, f->count, f->cap);

    *file = (struct filter_file){.path = mem_str(path)};
    return file;
}

static struct filter_column *column_add(struct filter_files *f, struct filter_file *file, uint32_t field_id,
                                        uint32_t blocks)
{
    struct filter_column *c = ARRAY_PUSH(file->columns, file->count, file->cap);

    *c = (struct filter_column){field_id, blocks, mem_zalloc((size_t)blocks * BLOCK_BYTES)};
    f->bytes += (uint64_t)blocks * BLOCK_BYTES;
    return c;
}

void filter_file_put(struct filter_files *f, struct filter_file *file, uint32_t field_id, const uint64_t *hashes,
                     size_t count)
{
    struct filter_column *c = column_add(f, file, field_id, blocks_for(count));

    for (size_t i = 0; i < count; i++) {
        uint8_t *block = c->bits + (size_t)block_of(hashes[i], c->blocks) * BLOCK_BYTES;
        uint32_t mask[BLOCK_WORDS];
        block_mask(hashes[i], mask);
        for (unsigned w = 0; w < BLOCK_WORDS; w++)
            le32_put(block + 4 * w, le32_get(block + 4 * w) | mask[w]);
    }
}

void filter_files_done(struct filter_files *f)
{
    for (size_t i = 0; i < f->count; i++) {
        for (size_t c = 0; c < f->items[i].count; c++)
            free(f->items[i].columns[c].bits);
        free(f->items[i].columns);
        free(f->items[i].path);
    }
    free(f->items);
    *f = (struct filter_files){0};
}

/* ---- writing */

struct member {
    uint32_t field_id, blocks, file;
    const uint8_t *bits;
};

static int by_group(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    if (x->field_id != y->field_id)
        return x->field_id < y->field_id ? -1 : 1;
    if (x->blocks != y->blocks)
        return x->blocks < y->blocks ? -1 : 1;
    return (x->file > y->file) - (x->file < y->file);
}

static struct member *members_of(const struct filter_files *f, size_t *count)
{
    struct member *all = NULL;
    size_t n = 0, cap = 0;

    for (size_t i = 0; i < f->count; i++)
        for (size_t c = 0; c < f->items[i].count; c++) {
            const struct filter_column *col = &f->items[i].columns[c];
            *ARRAY_PUSH(all, n, cap) = (struct member){col->field_id, col->blocks, (uint32_t)i, col->bits};
        }
    if (n)
        qsort(all, n, sizeof(*all), by_group);
    *count = n;
    return all;
}

/* End of the group that starts at `from`. */
static size_t group_end(const struct member *m, size_t count, size_t from)
{
    size_t i = from;

    while (i < count && m[i].field_id == m[from].field_id && m[i].blocks == m[from].blocks)
        i++;
    return i;
}

static void put32(struct buf *out, size_t value)
{
    uint8_t b[4];

    le32_put(b, (uint32_t)value);
    buf_put(out, b, 4);
}

static void put_paths(const struct filter_files *f, struct buf *out)
{
    size_t at = 0;

    for (size_t i = 0; i <= f->count; i++) {
        put32(out, at);
        at += i < f->count ? strlen(f->items[i].path) : 0;
    }
    for (size_t i = 0; i < f->count; i++)
        buf_str(out, f->items[i].path);
}

static void put_header(const struct filter_files *f, const struct member *m, size_t count, uint64_t head_slot,
                       struct buf *out)
{
    uint8_t fixed[SLF_FIXED_BYTES] = "SLF1", group[SLF_GROUP_BYTES] = {0};
    uint32_t groups = 0;

    buf_put(out, fixed, sizeof(fixed));
    for (size_t i = 0; i < count; i = group_end(m, count, i), groups++)
        buf_put(out, group, sizeof(group));
    for (size_t i = 0; i < count; i++)
        put32(out, m[i].file);
    put_paths(f, out);
    while (out->len % 4)
        buf_byte(out, 0);
    uint64_t offset = out->len + 4;
    uint8_t *g = out->ptr + SLF_FIXED_BYTES;
    le32_put(out->ptr + 8, (uint32_t)offset);
    for (size_t i = 0, end; i < count; i = end, g += SLF_GROUP_BYTES) {
        end = group_end(m, count, i);
        le32_put(g, m[i].field_id);
        le32_put(g + 4, m[i].blocks);
        le32_put(g + 8, (uint32_t)(end - i));
        le64_put(g + 16, offset);
        offset += (uint64_t)m[i].blocks * (BLOCK_BYTES * (end - i) + 4);
    }
    le16_put(out->ptr + 4, SLF_VERSION);
    le32_put(out->ptr + 12, (uint32_t)f->count);
    le32_put(out->ptr + 16, groups);
    le32_put(out->ptr + 20, (uint32_t)count);
    le64_put(out->ptr + 24, head_slot);
    le64_put(out->ptr + 32, offset);
    put32(out, crc32c(0, out->ptr, out->len));
}

static enum err_code put_rows(const struct member *m, size_t members, struct buf *piece,
                              enum err_code (*put)(void *arg, slice piece, struct err *err), void *arg, struct err *err)
{
    for (uint32_t b = 0; b < m->blocks; b++) {
        size_t from = piece->len;
        for (size_t i = 0; i < members; i++)
            buf_put(piece, m[i].bits + (size_t)b * BLOCK_BYTES, BLOCK_BYTES);
        put32(piece, crc32c(0, piece->ptr + from, piece->len - from));
        if (piece->len < PIECE_BYTES)
            continue;
        TRY(put(arg, buf_view(piece), err));
        piece->len = 0;
    }
    return ERR_OK;
}

enum err_code slf_encode(const struct filter_files *f, uint64_t head_slot,
                         enum err_code (*put)(void *arg, slice piece, struct err *err), void *arg, uint32_t *header_len,
                         struct err *err)
{
    size_t count;
    _cleanup_(buf_done) struct buf piece = BUF_INIT;
    _cleanup_(freep) struct member *m = members_of(f, &count);

    ASSERT(f->count > 0 && f->count <= FILTER_FILES_MAX);
    put_header(f, m, count, head_slot, &piece);
    *header_len = (uint32_t)piece.len;
    for (size_t i = 0, end; i < count; i = end) {
        end = group_end(m, count, i);
        TRY(put_rows(m + i, end - i, &piece, put, arg, err));
    }
    return piece.len ? put(arg, buf_view(&piece), err) : ERR_OK;
}

/* ---- reading */

static uint64_t row_bytes(const struct slf_group *g)
{
    return (uint64_t)BLOCK_BYTES * g->members + 4;
}

static bool group_read(const uint8_t *d, const struct slf *s, const uint32_t *members, uint32_t left, uint64_t offset,
                       struct slf_group *out)
{
    *out = (struct slf_group){le32_get(d), le32_get(d + 4), le32_get(d + 8), members, le64_get(d + 16)};
    if (out->blocks == 0 || out->blocks > BLOCKS_MAX || out->members == 0 || out->members > left ||
        out->offset != offset || out->blocks > (s->file_len - offset) / row_bytes(out))
        return false;
    for (uint32_t i = 0; i < out->members; i++)
        if (members[i] >= s->files || (i && members[i] <= members[i - 1]))
            return false;
    return true;
}

/* Groups stand one behind the other to the end of the file. */
static bool groups_read(const uint8_t *h, uint32_t header_len, const uint32_t *members, uint32_t count, struct slf *s)
{
    uint64_t offset = header_len;

    for (uint32_t i = 0; i < s->groups_count; i++) {
        struct slf_group *g = &s->groups[i];
        if (offset > s->file_len ||
            !group_read(h + SLF_FIXED_BYTES + (size_t)i * SLF_GROUP_BYTES, s, members, count, offset, g))
            return false;
        members += g->members;
        count -= g->members;
        offset += g->blocks * row_bytes(g);
    }
    return count == 0 && offset == s->file_len;
}

static bool paths_valid(const struct slf *s, const uint8_t *end)
{
    const uint8_t *bytes = (const uint8_t *)(s->paths + s->files + 1);

    if (s->paths[0] != 0)
        return false;
    for (uint32_t i = 0; i < s->files; i++)
        if (s->paths[i + 1] < s->paths[i])
            return false;
    return s->paths[s->files] <= (uint64_t)(end - bytes);
}

enum err_code slf_decode(slice header, struct arena *arena, struct slf *out, struct err *err)
{
    const uint8_t *h = header.ptr;
    struct slf s = {0};

    if (header.len < SLF_FIXED_BYTES + 8 || header.len > FILTER_HEADER_MAX || memcmp(h, "SLF1", 4) != 0 ||
        le32_get(h + 8) != header.len)
        return err_set(err, ERR_CORRUPT, "not a pack of filters");
    if (crc32c(0, h, header.len - 4) != le32_get(h + header.len - 4))
        return err_set(err, ERR_CORRUPT, "checksum of a pack of filters");
    if (le16_get(h + 4) > SLF_VERSION)
        return err_set(err, ERR_INVALID, "filters of version %u: made by a newer Sluice", le16_get(h + 4));
    uint32_t members = le32_get(h + 20);
    s.files = le32_get(h + 12);
    s.groups_count = le32_get(h + 16);
    s.head_slot = le64_get(h + 24);
    s.file_len = le64_get(h + 32);
    uint64_t tables = (uint64_t)SLF_GROUP_BYTES * s.groups_count + 4 * (uint64_t)members + 4 * ((uint64_t)s.files + 1);
    if (s.files == 0 || s.files > FILTER_FILES_MAX || s.groups_count > FILTER_GROUPS_MAX ||
        tables > header.len - SLF_FIXED_BYTES - 4)
        return err_set(err, ERR_CORRUPT, "header of a pack of filters");
    const uint32_t *list = (const uint32_t *)(const void *)(h + SLF_FIXED_BYTES + SLF_GROUP_BYTES * s.groups_count);
    s.paths = list + members;
    s.groups = arena_zalloc(arena, (s.groups_count + 1) * sizeof(*s.groups));
    if (!groups_read(h, (uint32_t)header.len, list, members, &s) || !paths_valid(&s, h + header.len - 4))
        return err_set(err, ERR_CORRUPT, "tables of a pack of filters");
    *out = s;
    return ERR_OK;
}

slice slf_path(const struct slf *s, uint32_t file)
{
    const uint8_t *bytes = (const uint8_t *)(s->paths + s->files + 1);
    return slice_of(bytes + s->paths[file], s->paths[file + 1] - s->paths[file]);
}

void slf_row_at(const struct slf_group *g, uint64_t hash, uint64_t *offset, uint64_t *len)
{
    *len = row_bytes(g);
    *offset = g->offset + block_of(hash, g->blocks) * *len;
}

bool slf_row_valid(const struct slf_group *g, slice row)
{
    return row.len == row_bytes(g) && crc32c(0, row.ptr, row.len - 4) == le32_get(row.ptr + row.len - 4);
}

bool slf_row_has(slice row, uint32_t member, uint64_t hash)
{
    const uint8_t *block = row.ptr + (size_t)member * BLOCK_BYTES;
    uint32_t mask[BLOCK_WORDS], missing = 0;

    block_mask(hash, mask);
    for (unsigned w = 0; w < BLOCK_WORDS; w++)
        missing |= mask[w] & ~le32_get(block + 4 * w);
    return missing == 0;
}

/* ---- whole packs */

static enum err_code whole_decode(slice bytes, struct arena *arena, struct slf *out, struct err *err)
{
    if (bytes.len < SLF_FIXED_BYTES || le32_get(bytes.ptr + 8) > bytes.len)
        return err_set(err, ERR_CORRUPT, "a pack of filters is cut off");
    TRY(slf_decode(slice_head(bytes, le32_get(bytes.ptr + 8)), arena, out, err));
    if (out->file_len != bytes.len)
        return err_set(err, ERR_CORRUPT, "length of a pack of filters");
    for (uint32_t i = 0; i < out->groups_count; i++) {
        const struct slf_group *g = &out->groups[i];
        for (uint32_t b = 0; b < g->blocks; b++)
            if (!slf_row_valid(g, slice_of(bytes.ptr + g->offset + b * row_bytes(g), row_bytes(g))))
                return err_set(err, ERR_CORRUPT, "row %u of group %u of a pack of filters", b, i);
    }
    return ERR_OK;
}

enum err_code slf_check(slice bytes, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct slf s = {0};

    return whole_decode(bytes, &arena, &s, err);
}

enum err_code slf_take(slice bytes, bool (*wanted)(void *arg, slice path), void *arg, struct filter_files *out,
                       struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct slf s = {0};

    TRY(whole_decode(bytes, &arena, &s, err));
    size_t *at = arena_zalloc(&arena, s.files * sizeof(*at)); /* index in `out` + 1 */
    for (uint32_t i = 0; i < s.files; i++)
        if (wanted(arg, slf_path(&s, i))) {
            (void)filter_files_add(out, slf_path(&s, i));
            at[i] = out->count;
        }
    for (uint32_t i = 0; i < s.groups_count; i++) {
        const struct slf_group *g = &s.groups[i];
        for (uint32_t k = 0; k < g->members; k++) {
            if (!at[g->files[k]])
                continue;
            struct filter_column *c = column_add(out, &out->items[at[g->files[k]] - 1], g->field_id, g->blocks);
            for (uint32_t b = 0; b < g->blocks; b++)
                memcpy(c->bits + (size_t)b * BLOCK_BYTES,
                       bytes.ptr + g->offset + b * row_bytes(g) + (size_t)k * BLOCK_BYTES, BLOCK_BYTES);
        }
    }
    return ERR_OK;
}

/* ---- references */

struct filter *filter_new(slice path, uint32_t crc, uint64_t bytes_len, uint32_t header_len, uint64_t count,
                          int64_t tmin_us, int64_t tmax_us)
{
    struct filter *f = mem_zalloc(sizeof(*f) + path.len);

    memcpy(f + 1, path.ptr, path.len);
    f->refs = 1;
    f->path = slice_of(f + 1, path.len);
    f->crc32c = crc;
    f->bytes_len = bytes_len;
    f->header_len = header_len;
    f->count = count;
    f->tmin_us = tmin_us;
    f->tmax_us = tmax_us;
    return f;
}

void filter_set_fields(struct filter *f, const struct filter_files *of)
{
    size_t count;
    _cleanup_(freep) struct member *m = members_of(of, &count);

    for (size_t i = 0; i < count; i++) {
        if (i && m[i].field_id == m[i - 1].field_id)
            continue;
        if (f->fields_count == FILTER_FIELDS_MAX) {
            f->fields_count = 0;
            return;
        }
        f->fields[f->fields_count++] = m[i].field_id;
    }
}

bool filter_may_know(const struct filter *f, uint32_t field_id)
{
    bool found = f->fields_count == 0;

    for (uint32_t i = 0; i < f->fields_count; i++)
        found |= f->fields[i] == field_id;
    return found;
}

struct filter *filter_ref(struct filter *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

static void image_free(struct slf_image *i)
{
    if (!i)
        return;
    map_done(&i->by_path);
    arena_done(&i->arena);
    buf_done(&i->bytes);
    free(i);
}
DEFINE_CLEANUP(struct slf_image *, image_free)

void filter_unref(struct filter *f)
{
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    image_free(f->image);
    free(f);
}

enum err_code filter_load(struct store *store, slice dir, struct filter *f, const struct slf_image **out,
                          struct err *err)
{
    struct slf_image *have = atomic_load_explicit(&f->image, memory_order_acquire);
    _cleanup_(image_freep) struct slf_image *image = NULL;
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    if (have) {
        *out = have;
        return ERR_OK;
    }
    image = mem_zalloc(sizeof(*image));
    buf_slice(&key, dir);
    buf_slice(&key, f->path);
    TRY(store->ops->read(store, buf_view(&key), 0, f->header_len, &image->bytes, NULL, err));
    enum err_code rc = slf_decode(buf_view(&image->bytes), &image->arena, &image->slf, err);
    if (rc == ERR_OK && (image->slf.file_len != f->bytes_len || image->slf.files != f->count))
        rc = err_set(err, ERR_CORRUPT, "not the pack that its head names");
    if (rc != ERR_OK) {
        (void)err_wrap(err, "%s", buf_cstr(&key));
        return rc;
    }
    for (uint32_t i = 0; i < image->slf.files; i++)
        (void)map_put(&image->by_path, slf_path(&image->slf, i), (void *)(uintptr_t)(i + 1));
    if (atomic_compare_exchange_strong_explicit(&f->image, &have, image, memory_order_acq_rel, memory_order_acquire))
        have = move_ptr(image); /* else another thread loaded it meanwhile */
    *out = have;
    return ERR_OK;
}
