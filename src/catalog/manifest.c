#include "catalog/manifest.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/map.h"

#include "base/banned.h"

#define SLM_HEADER_BYTES 88u
#define SLM_SECTION_BYTES 24u
#define SLM_SECTIONS_MAX 128u
#define SLM_VERSION 1
#define SLM_BYTES_MAX (64u << 20)
#define LANE_NONE UINT32_MAX

enum section {
    S_TMAX = 1,
    S_TMIN,
    S_SUFFIX,
    S_BYTES,
    S_ROWS,
    S_SCHEMA,
    S_FLAGS,
    S_SLOT,
    S_SESSION,
    S_DIR,
    S_LANE,
    S_CRC,
    S_ADDED,
    S_RAW,
    S_DIRS = 32,
    S_LANES,
    S_FIELDS,
    S_COL = 64,
};

/* ---- writing */

struct strings {
    struct map map; /* text -> index + 1 */
    struct buf offsets, bytes;
    uint32_t count;
};

static uint32_t strings_add(struct strings *s, slice text)
{
    uintptr_t at = (uintptr_t)map_get(&s->map, text);

    if (at)
        return (uint32_t)(at - 1);
    uint32_t offset = (uint32_t)s->bytes.len;
    buf_put(&s->offsets, &offset, 4);
    buf_slice(&s->bytes, text);
    map_put(&s->map, text, (void *)(uintptr_t)(s->count + 1));
    return s->count++;
}

struct writer {
    struct buf *out;
    size_t start, at; /* of the file; next directory entry */
};

static void section(struct writer *w, unsigned id, unsigned width, const void *ptr, size_t len, const void *more,
                    size_t more_len)
{
    static const uint8_t zeros[64];
    uint8_t d[SLM_SECTION_BYTES];

    buf_put(w->out, zeros, (64 - (w->out->len - w->start) % 64) % 64);
    le16_put(d, (uint16_t)id);
    le16_put(d + 2, (uint16_t)width);
    le32_put(d + 4, crc32c(crc32c(0, ptr, len), more, more_len));
    le64_put(d + 8, w->out->len - w->start);
    le64_put(d + 16, len + more_len);
    buf_put(w->out, ptr, len);
    buf_put(w->out, more, more_len);
    memcpy(w->out->ptr + w->at, d, sizeof(d));
    w->at += sizeof(d);
}

static void strings_section(struct writer *w, unsigned id, struct strings *s)
{
    uint32_t end = (uint32_t)s->bytes.len;

    buf_put(&s->offsets, &end, 4);
    section(w, id, 0, s->offsets.ptr, s->offsets.len, s->bytes.ptr, s->bytes.len);
    map_done(&s->map);
    buf_done(&s->offsets);
    buf_done(&s->bytes);
}

static int by_tmax(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    if (x->tmax_us != y->tmax_us)
        return x->tmax_us < y->tmax_us ? -1 : 1;
    return slice_cmp(x->path, y->path);
}

/* The fields that have statistics, the 16 that most files have; ascending. */
static uint32_t choose_fields(struct entry **e, size_t count, uint32_t out[MANIFEST_COLS_MAX])
{
    struct tally {
        uint32_t id, files;
    } *t = NULL;
    size_t n = 0, cap = 0;
    uint32_t kept = 0;

    for (size_t i = 0; i < count; i++)
        for (uint32_t c = 0; c < e[i]->cols_count; c++) {
            size_t k = 0;
            while (k < n && t[k].id != e[i]->cols[c].field_id)
                k++;
            if (k == n)
                *ARRAY_PUSH(t, n, cap) = (struct tally){e[i]->cols[c].field_id, 0};
            t[k].files++;
        }
    while (kept < MANIFEST_COLS_MAX && kept < n) {
        size_t best = 0;
        for (size_t k = 1; k < n; k++)
            if (t[k].files > t[best].files || (t[k].files == t[best].files && t[k].id < t[best].id))
                best = k;
        out[kept++] = t[best].id;
        t[best].files = 0;
    }
    free(t);
    for (uint32_t i = 1; i < kept; i++)
        for (uint32_t k = i; k > 0 && out[k] < out[k - 1]; k--) {
            uint32_t swap = out[k];
            out[k] = out[k - 1];
            out[k - 1] = swap;
        }
    return kept;
}

static const struct segment_stat *stat_of(const struct entry *e, uint32_t field)
{
    for (uint32_t i = 0; i < e->cols_count; i++)
        if (e->cols[i].field_id == field)
            return &e->cols[i];
    return NULL;
}

static void stat_sections(struct writer *w, struct entry **e, size_t count, const uint32_t *fields,
                          uint32_t fields_count)
{
    _cleanup_(freep) uint64_t *min = mem_alloc(count * 8), *max = mem_alloc(count * 8);
    _cleanup_(freep) uint32_t *nulls = mem_alloc(count * 4);

    for (uint32_t c = 0; c < fields_count; c++) {
        for (size_t i = 0; i < count; i++) {
            const struct segment_stat *s = stat_of(e[i], fields[c]);
            min[i] = !s ? 0 : s->has_minmax ? s->min : UINT64_MAX;
            max[i] = !s ? UINT64_MAX : s->has_minmax ? s->max : 0;
            nulls[i] = s ? s->nulls : UINT32_MAX;
        }
        section(w, S_COL + 3 * c, 8, min, count * 8, NULL, 0);
        section(w, S_COL + 3 * c + 1, 8, max, count * 8, NULL, 0);
        section(w, S_COL + 3 * c + 2, 4, nulls, count * 4, NULL, 0);
    }
}

#define COLUMN64(id, ...)                           \
    do {                                            \
        for (size_t i = 0; i < count; i++) {        \
            const struct entry *f = e[i];           \
            u64[i] = (uint64_t)(__VA_ARGS__);       \
        }                                           \
        section(w, id, 8, u64, count * 8, NULL, 0); \
    } while (0)
#define COLUMN32(id, ...)                           \
    do {                                            \
        for (size_t i = 0; i < count; i++) {        \
            const struct entry *f = e[i];           \
            u32[i] = (uint32_t)(__VA_ARGS__);       \
        }                                           \
        section(w, id, 4, u32, count * 4, NULL, 0); \
    } while (0)

static void file_sections(struct writer *w, struct entry **e, size_t count)
{
    _cleanup_(freep) uint64_t *u64 = mem_alloc(count * 8 + 8);
    _cleanup_(freep) uint32_t *u32 = mem_alloc(count * 4 + 4);
    _cleanup_(freep) struct file_name *names = mem_alloc((count + 1) * sizeof(*names));
    struct strings dirs = {0}, lanes = {0};
    int64_t least = INT64_MAX;

    for (size_t i = 0; i < count; i++)
        ASSERT(file_name_parse(e[i]->path, &names[i]));
    COLUMN64(S_TMAX, f->tmax_us);
    COLUMN64(S_TMIN, f->tmin_us);
    for (size_t i = count; i-- > 0;) {
        least = MIN(least, e[i]->tmin_us);
        u64[i] = (uint64_t)least;
    }
    section(w, S_SUFFIX, 8, u64, count * 8, NULL, 0);
    COLUMN64(S_BYTES, f->bytes);
    COLUMN32(S_ROWS, f->rows);
    COLUMN32(S_SCHEMA, f->schema);
    memset(u32, 0, count * 4);
    section(w, S_FLAGS, 2, u32, count * 2, NULL, 0);
    COLUMN64(S_SLOT, (void)f, names[i].slot);
    COLUMN64(S_SESSION, (void)f, names[i].session << 24 | names[i].n);
    COLUMN32(S_DIR, (void)f, strings_add(&dirs, names[i].dir));
    COLUMN32(S_LANE, (void)f, names[i].lane.len ? strings_add(&lanes, names[i].lane) : LANE_NONE);
    COLUMN32(S_CRC, f->crc32c);
    COLUMN64(S_ADDED, f->added);
    COLUMN64(S_RAW, f->raw_bytes);
    strings_section(w, S_DIRS, &dirs);
    strings_section(w, S_LANES, &lanes);
}

static void header(struct writer *w, const struct sid *sid, uint64_t head_slot, struct entry **e, size_t count,
                   uint32_t sections)
{
    uint8_t h[SLM_HEADER_BYTES] = "SLM1";
    int64_t tmin = INT64_MAX, tmax = INT64_MIN;
    uint64_t rows = 0, bytes = 0;

    for (size_t i = 0; i < count; i++) {
        tmin = MIN(tmin, e[i]->tmin_us);
        tmax = MAX(tmax, e[i]->tmax_us);
        rows += e[i]->rows;
        bytes += e[i]->bytes;
    }
    le16_put(h + 4, SLM_VERSION);
    for (int i = 0; i < 16; i++) /* the ULID's 128 bits: 26 digits of 5 bits, the first holds 3 */
        for (int bit = 0; bit < 8; bit++) {
            int at = 2 + i * 8 + bit;
            const char *p = memchr("0123456789abcdefghjkmnpqrstvwxyz", sid->text[at / 5], 32);
            if (p && ((p - "0123456789abcdefghjkmnpqrstvwxyz") >> (4 - at % 5) & 1))
                h[8 + i] |= (uint8_t)(0x80 >> bit);
        }
    le64_put(h + 24, head_slot);
    le32_put(h + 32, (uint32_t)count);
    le32_put(h + 36, sections);
    le64_put(h + 40, w->out->len - w->start);
    le64_put(h + 48, (uint64_t)tmin);
    le64_put(h + 56, (uint64_t)tmax);
    le64_put(h + 64, rows);
    le64_put(h + 72, bytes);
    le32_put(h + 84, crc32c(crc32c(0, h, 84), w->out->ptr + w->start + SLM_HEADER_BYTES, sections * SLM_SECTION_BYTES));
    memcpy(w->out->ptr + w->start, h, sizeof(h));
}

void slm_encode(const struct sid *sid, uint64_t head_slot, struct entry *const *entries, size_t count, struct buf *out)
{
    _cleanup_(freep) struct entry **e = mem_alloc((count + 1) * sizeof(*e));
    uint32_t fields[MANIFEST_COLS_MAX];
    struct writer w = {out, out->len, out->len + SLM_HEADER_BYTES};

    ASSERT(count > 0 && count <= MANIFEST_FILES_MAX);
    memcpy(e, entries, count * sizeof(*e));
    qsort(e, count, sizeof(*e), by_tmax);
    uint32_t fields_count = choose_fields(e, count, fields);
    uint32_t sections = 17 + 3 * fields_count;
    buf_reserve(out, SLM_HEADER_BYTES + sections * SLM_SECTION_BYTES);
    memset(out->ptr + out->len, 0, SLM_HEADER_BYTES + sections * SLM_SECTION_BYTES);
    out->len += SLM_HEADER_BYTES + sections * SLM_SECTION_BYTES;
    file_sections(&w, e, count);
    section(&w, S_FIELDS, 4, fields, fields_count * 4, NULL, 0);
    stat_sections(&w, e, count, fields, fields_count);
    ASSERT(w.at == w.start + SLM_HEADER_BYTES + sections * SLM_SECTION_BYTES);
    header(&w, sid, head_slot, e, count, sections);
}

/* ---- reading */

struct reader {
    slice bytes;
    uint32_t sections, count;
};

/* The section `id` when it is there, whole, undamaged and, for a column, as long as the file says. */
static const void *find(const struct reader *r, unsigned id, unsigned width, uint64_t items, uint64_t *len)
{
    for (uint32_t i = 0; i < r->sections; i++) {
        const uint8_t *d = r->bytes.ptr + SLM_HEADER_BYTES + i * SLM_SECTION_BYTES;
        uint64_t offset = le64_get(d + 8), length = le64_get(d + 16);
        if (le16_get(d) != id)
            continue;
        if (offset % 64 || offset > r->bytes.len || length > r->bytes.len - offset || le16_get(d + 2) != width)
            return NULL;
        if (width && length != items * width)
            return NULL;
        if (crc32c(0, r->bytes.ptr + offset, length) != le32_get(d + 4))
            return NULL;
        if (len)
            *len = length;
        return r->bytes.ptr + offset;
    }
    return NULL;
}

static const uint32_t *find_strings(const struct reader *r, unsigned id, uint32_t *count)
{
    uint64_t len = 0;
    const uint32_t *p = find(r, id, 0, 0, &len);
    uint64_t n = 0;

    if (!p || len < 4)
        return NULL;
    /* the first offset is 0 and the table ends where the first text starts: offsets grow to the length of the bytes behind them */
    for (n = 0; (n + 1) * 4 <= len; n++)
        if (p[n] == len - (n + 1) * 4 && (n == 0 || p[n] >= p[n - 1]))
            break;
    if ((n + 1) * 4 > len || p[0] != 0)
        return NULL;
    for (uint64_t i = 1; i <= n; i++)
        if (p[i] < p[i - 1])
            return NULL;
    *count = (uint32_t)n;
    return p;
}

static slice table_text(const uint32_t *table, uint32_t count, uint32_t index)
{
    const uint8_t *bytes = (const uint8_t *)(table + count + 1);
    return slice_of(bytes + table[index], table[index + 1] - table[index]);
}

static bool rows_valid(const struct slm *m)
{
    int64_t least = INT64_MAX;

    for (uint32_t i = m->count; i-- > 0;) {
        least = MIN(least, m->tmin[i]);
        if (m->dir[i] >= m->dirs_count || (m->lane[i] != LANE_NONE && m->lane[i] >= m->lanes_count) ||
            m->suffix_tmin[i] != least || m->tmin[i] > m->tmax[i] || (i && m->tmax[i] < m->tmax[i - 1]))
            return false;
    }
    return true;
}

static bool columns(const struct reader *r, struct slm *m)
{
    uint64_t fields_len = 0;
    uint32_t n = r->count;

    m->tmax = find(r, S_TMAX, 8, n, NULL);
    m->tmin = find(r, S_TMIN, 8, n, NULL);
    m->suffix_tmin = find(r, S_SUFFIX, 8, n, NULL);
    m->file_bytes = find(r, S_BYTES, 8, n, NULL);
    m->rows_of = find(r, S_ROWS, 4, n, NULL);
    m->schema = find(r, S_SCHEMA, 4, n, NULL);
    m->slot = find(r, S_SLOT, 8, n, NULL);
    m->session = find(r, S_SESSION, 8, n, NULL);
    m->dir = find(r, S_DIR, 4, n, NULL);
    m->lane = find(r, S_LANE, 4, n, NULL);
    m->crc32c = find(r, S_CRC, 4, n, NULL);
    m->added = find(r, S_ADDED, 8, n, NULL);
    m->raw_bytes = find(r, S_RAW, 8, n, NULL);
    m->dirs = find_strings(r, S_DIRS, &m->dirs_count);
    m->lanes = find_strings(r, S_LANES, &m->lanes_count);
    if (!m->tmax || !m->tmin || !m->suffix_tmin || !m->file_bytes || !m->rows_of || !m->schema || !m->slot ||
        !m->session || !m->dir || !m->lane || !m->crc32c || !m->added || !m->raw_bytes || !m->dirs || !m->lanes)
        return false;
    for (uint32_t i = 0; i < r->sections; i++)
        if (le16_get(r->bytes.ptr + SLM_HEADER_BYTES + i * SLM_SECTION_BYTES) == S_FIELDS)
            fields_len = le64_get(r->bytes.ptr + SLM_HEADER_BYTES + i * SLM_SECTION_BYTES + 16);
    m->cols_count = (uint32_t)MIN(fields_len / 4, MANIFEST_COLS_MAX);
    m->field_ids = find(r, S_FIELDS, 4, m->cols_count, NULL);
    if (!m->field_ids)
        return false;
    for (uint32_t c = 0; c < m->cols_count; c++) {
        m->col_min[c] = find(r, S_COL + 3 * c, 8, n, NULL);
        m->col_max[c] = find(r, S_COL + 3 * c + 1, 8, n, NULL);
        m->col_nulls[c] = find(r, S_COL + 3 * c + 2, 4, n, NULL);
        if (!m->col_min[c] || !m->col_max[c] || !m->col_nulls[c])
            return false;
    }
    return true;
}

enum err_code slm_decode(slice bytes, struct slm *out, struct err *err)
{
    const uint8_t *h = bytes.ptr;
    struct slm m = {0};

    if (bytes.len < SLM_HEADER_BYTES || bytes.len > SLM_BYTES_MAX || memcmp(h, "SLM1", 4) != 0)
        return err_set(err, ERR_CORRUPT, "not a manifest");
    struct reader r = {bytes, le32_get(h + 36), le32_get(h + 32)};
    if (r.sections > SLM_SECTIONS_MAX || r.sections * SLM_SECTION_BYTES > bytes.len - SLM_HEADER_BYTES ||
        r.count == 0 || r.count > MANIFEST_FILES_MAX || le64_get(h + 40) != bytes.len)
        return err_set(err, ERR_CORRUPT, "manifest header");
    if (crc32c(crc32c(0, h, 84), h + SLM_HEADER_BYTES, r.sections * SLM_SECTION_BYTES) != le32_get(h + 84))
        return err_set(err, ERR_CORRUPT, "manifest checksum");
    if (le16_get(h + 4) > SLM_VERSION)
        return err_set(err, ERR_INVALID, "manifest of version %u: made by a newer Sluice", le16_get(h + 4));
    m.count = r.count;
    m.head_slot = le64_get(h + 24);
    m.tmin_us = (int64_t)le64_get(h + 48);
    m.tmax_us = (int64_t)le64_get(h + 56);
    m.rows = le64_get(h + 64);
    m.bytes = le64_get(h + 72);
    if (!columns(&r, &m) || !rows_valid(&m))
        return err_set(err, ERR_CORRUPT, "manifest section");
    *out = m;
    return ERR_OK;
}

void slm_path(const struct slm *m, uint32_t row, struct buf *out)
{
    uint64_t session = le64_get(m->session + 8 * (size_t)row);
    struct file_name f = {.dir = table_text(m->dirs, m->dirs_count, m->dir[row]),
                          .slot = m->slot[row],
                          .session = session >> 24,
                          .n = session & 0xffffff};

    if (m->lane[row] != LANE_NONE)
        f.lane = table_text(m->lanes, m->lanes_count, m->lane[row]);
    file_name_put(out, &f);
}

struct entry *slm_entry(const struct slm *m, uint32_t row)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    struct segment_stats s = {.rows = m->rows_of[row],
                              .bytes = m->file_bytes[row],
                              .crc32c = m->crc32c[row],
                              .tmin_us = m->tmin[row],
                              .tmax_us = m->tmax[row]};

    for (uint32_t c = 0; c < m->cols_count; c++) {
        if (m->col_nulls[c][row] == UINT32_MAX)
            continue;
        s.cols[s.cols_count++] = (struct segment_stat){.field_id = m->field_ids[c],
                                                       .min = m->col_min[c][row],
                                                       .max = m->col_max[c][row],
                                                       .nulls = m->col_nulls[c][row],
                                                       .has_minmax = m->col_min[c][row] <= m->col_max[c][row]};
    }
    slm_path(m, row, &path);
    return entry_new(buf_view(&path), &s, m->raw_bytes[row], m->schema[row], m->added[row]);
}

/* ---- references */

struct manifest *manifest_new(slice path, uint32_t crc, uint64_t bytes_len, uint64_t rows, uint64_t bytes, uint64_t raw,
                              uint64_t count, int64_t tmin_us, int64_t tmax_us)
{
    struct manifest *m = mem_zalloc(sizeof(*m) + path.len);

    memcpy(m + 1, path.ptr, path.len);
    m->refs = 1;
    m->path = slice_of(m + 1, path.len);
    m->crc32c = crc;
    m->bytes_len = bytes_len;
    m->rows = rows;
    m->bytes = bytes;
    m->raw_bytes = raw;
    m->count = count;
    m->tmin_us = tmin_us;
    m->tmax_us = tmax_us;
    return m;
}

struct manifest *manifest_ref(struct manifest *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

static void image_free(struct slm_image *i)
{
    if (i)
        buf_done(&i->bytes);
    free(i);
}
DEFINE_CLEANUP(struct slm_image *, image_free)

void manifest_unref(struct manifest *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    image_free(m->image);
    free(m);
}

enum err_code manifest_load(struct store *store, slice dir, struct manifest *m, const struct slm **out, struct err *err)
{
    struct slm_image *have = atomic_load_explicit(&m->image, memory_order_acquire);
    _cleanup_(image_freep) struct slm_image *image = NULL;
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    if (have) {
        *out = &have->slm;
        return ERR_OK;
    }
    image = mem_zalloc(sizeof(*image));
    buf_slice(&key, dir);
    buf_slice(&key, m->path);
    TRY(store->ops->read(store, buf_view(&key), 0, UINT64_MAX, &image->bytes, NULL, err));
    if (image->bytes.len != m->bytes_len || crc32c(0, image->bytes.ptr, image->bytes.len) != m->crc32c)
        return err_set(err, ERR_CORRUPT, "%s is not the manifest that its head names", buf_cstr(&key));
    enum err_code rc = slm_decode(buf_view(&image->bytes), &image->slm, err);
    if (rc == ERR_OK && image->slm.count != m->count)
        rc = err_set(err, ERR_CORRUPT, "count of files");
    if (rc != ERR_OK) {
        (void)err_wrap(err, "%s", buf_cstr(&key));
        return rc;
    }
    if (atomic_compare_exchange_strong_explicit(&m->image, &have, image, memory_order_acq_rel, memory_order_acquire))
        have = move_ptr(image); /* else another thread loaded it meanwhile */
    *out = &have->slm;
    return ERR_OK;
}
