/* flush.c: sealed WAL segments -> Parquet files -> one DATA record -> the stage lets go.
 *
 * Why one DATA for all: catalog.md section 5; commit cost is per node. Files are synced as a group before DATA names them. A
 * failure leaves everything as it was: rows stay staged, the segment stays in the WAL, the next round tries again. */
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/timetext.h"
#include "catalog/names.h"
#include "os/parallel.h"
#include "stage/lake_int.h"

#define US_PER_HOUR INT64_C(3600000000)
#define FILE_NUMBER_MAX (1u << 24)       /* <n> has 24 bits in manifests */
#define FILES_WITH_COLUMN_STATS_MAX 2000 /* above it DATA keeps only p_timestamp's, to stay below its size limit */
#define ROUND_FILES_MAX SEGMENT_KEYS_MAX /* of one DATA */
#define STREAM_FILES_MAX 256             /* of one stream in one round, before its custom partition is ignored */
#define MANY_KEYS 1000                   /* streams of one flush, before it waits for more rows than usual */
#define RESTAGE_TRIES_MAX 5

/* ---- rows of one stream -> the files they belong to */

struct sheet {      /* one file to be: the rows of one (hour, partition value) */
    uint32_t index; /* in sheets.list */
    int64_t hour;
    slice partition;
    struct segment_part *parts; /* newest first */
    size_t parts_count, parts_cap;
    uint64_t rows;
};
struct sheets {
    struct arena arena;
    struct map by_key;
    struct sheet **list;
    size_t count, cap;
    struct batch_view *views; /* newest first */
    size_t views_count;
    uint64_t rows, raw_bytes;
    slice partition; /* its column; empty: none */
};

static void sheets_clear(struct sheets *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->list[i]->parts);
    s->count = 0;
    map_done(&s->by_key);
}

static void sheets_done(struct sheets *s)
{
    sheets_clear(s);
    for (size_t i = 0; i < s->views_count; i++)
        batch_view_done(&s->views[i]);
    free(s->views);
    free(s->list);
    arena_done(&s->arena);
    *s = (struct sheets){0};
}

static struct sheet *sheet_for(struct sheets *s, int64_t hour, slice value)
{
    _cleanup_(buf_done) struct buf text = BUF_INIT;

    buf_fmt(&text, "%lld|", (long long)hour);
    buf_slice(&text, value);
    struct sheet *sheet = map_get(&s->by_key, buf_view(&text));

    if (!sheet) {
        sheet = arena_zalloc(&s->arena, sizeof(*sheet));
        sheet->hour = hour;
        sheet->partition = arena_copy(&s->arena, value);
        sheet->index = (uint32_t)s->count;
        (void)map_put(&s->by_key, arena_copy(&s->arena, buf_view(&text)), sheet);
        *ARRAY_PUSH(s->list, s->count, s->cap) = sheet;
    }
    return sheet;
}

/* The value of a custom partition as text: strings as they are, whole numbers without a fraction (contract 2.9). */
static slice partition_text(const struct column *c, uint32_t row, char buf[TIME_TEXT_MAX])
{
    if (!c || !c->valid[row])
        return (slice){0};
    switch (c->type.kind) {
    case TYPE_UTF8: return text_slice((const struct text *)c->values + row);
    case TYPE_BOOL: return ((const uint8_t *)c->values)[row] ? slice_lit("true") : slice_lit("false");
    case TYPE_FLOAT64: {
        int n = snprintf(buf, TIME_TEXT_MAX, "%.0f", ((const double *)c->values)[row]);
        return slice_of(buf, (size_t)MIN(n, TIME_TEXT_MAX - 1));
    }
    case TYPE_INT64: {
        int n = snprintf(buf, TIME_TEXT_MAX, "%lld", (long long)((const int64_t *)c->values)[row]);
        return slice_of(buf, (size_t)n);
    }
    case TYPE_TIMESTAMP: return slice_of(buf, time_format(buf, ((const int64_t *)c->values)[row]));
    default: return (slice){0};
    }
}

static int64_t hour_of(int64_t us)
{
    return us / US_PER_HOUR - (us % US_PER_HOUR < 0);
}

static void part_push(struct sheet *sheet, const struct batch_view *v, uint32_t *sel, uint32_t count)
{
    struct segment_part *part = ARRAY_PUSH(sheet->parts, sheet->parts_count, sheet->parts_cap);
    part->view = *v; /* borrowed: sheets.views holds the reference */
    part->sel = sel;
    part->sel_count = count;
    sheet->rows += count;
}

/* Sorts one block's rows into sheets, newest row first. false: they would be more than files_max. */
static bool split_view(struct sheets *s, const struct batch_view *v, const struct column *partition, size_t files_max)
{
    const int64_t *times = batch_view_column(v, 0)->values;
    struct sheet *last = NULL, *first = NULL;
    slice last_value = {0};
    char text[TIME_TEXT_MAX];
    uint32_t **sels, *counts;
    bool one = true;

    for (uint32_t row = v->rows; row-- > 0;) { /* most blocks are of one hour and one value */
        slice value = partition_text(partition, row, text);
        int64_t hour = hour_of(times[row]);
        if (!first) {
            first = sheet_for(s, hour, value);
        } else if (first->hour != hour || !slice_eq(first->partition, value)) {
            one = false;
            break;
        }
    }
    if (one) {
        if (first)
            part_push(first, v, NULL, v->rows);
        return s->count <= files_max;
    }
    uint32_t *which = mem_alloc(v->rows * sizeof(*which));
    for (uint32_t row = 0; row < v->rows; row++) {
        slice value = partition_text(partition, row, text);
        int64_t hour = hour_of(times[row]);
        if (!last || last->hour != hour || !slice_eq(last_value, value)) {
            last = sheet_for(s, hour, value);
            last_value = last->partition;
            if (s->count > files_max) {
                free(which);
                return false;
            }
        }
        which[row] = last->index;
    }
    sels = mem_zalloc(s->count * sizeof(*sels));
    counts = mem_zalloc(s->count * sizeof(*counts));
    for (uint32_t row = 0; row < v->rows; row++)
        counts[which[row]]++;
    for (size_t k = 0; k < s->count; k++)
        if (counts[k]) {
            sels[k] = arena_alloc(&s->arena, counts[k] * sizeof(uint32_t));
            counts[k] = 0;
        }
    for (uint32_t row = v->rows; row-- > 0;)
        sels[which[row]][counts[which[row]]++] = row;
    for (size_t k = 0; k < s->count; k++)
        if (counts[k])
            part_push(s->list[k], v, sels[k], counts[k]);
    free(which);
    free(sels);
    free(counts);
    return true;
}

static bool split(struct sheets *s, uint32_t field, size_t files_max)
{
    bool fits = true;

    for (size_t i = 0; i < s->views_count && fits; i++)
        fits =
            split_view(s, &s->views[i], field == FIELD_NONE ? NULL : batch_view_column(&s->views[i], field), files_max);
    return fits;
}

/* Everything of segments <= upto; false: nothing. A custom partition with too many values for a DATA record is ignored in this
 * round: it is a help for other readers of the bucket, no promise, and a client may send a million values. */
static bool sheets_take(struct stage_stream *stream, uint64_t upto, size_t files_max, struct sheets *s,
                        struct schema **schema)
{
    size_t n = 0;

    *s = (struct sheets){0};
    os_lock(stream->lake->os, stream->mu);
    for (size_t i = 0; i < stream->groups_count && stream->groups[i].segment <= upto; i++)
        n += stream->groups[i].count;
    if (stream->dead)
        n = 0;
    s->views = n ? mem_alloc(n * sizeof(*s->views)) : NULL;
    for (size_t i = stream->groups_count; n && i-- > 0;) {
        struct stage_group *g = &stream->groups[i];
        if (g->segment > upto)
            continue;
        for (size_t k = g->count; k-- > 0;)
            batch_view_take(g->blocks[k], g->blocks[k]->rows, &s->views[s->views_count++]);
        s->rows += g->rows;
        s->raw_bytes += g->raw_bytes;
    }
    *schema = schema_ref(stream->schema);
    if (stream->partition[0])
        s->partition = arena_copy(&s->arena, slice_str(stream->partition));
    os_unlock(stream->lake->os, stream->mu);
    uint32_t field = s->partition.len ? schema_find(*schema, s->partition) : FIELD_NONE;
    if (field == FIELD_NONE || !split(s, field, files_max)) {
        sheets_clear(s);
        s->partition = (slice){0};
        (void)split(s, FIELD_NONE, SIZE_MAX); /* one file an hour */
    }
    return s->views_count > 0;
}

/* ---- files */

struct upload {
    struct catalog_file file; /* stream and path point into `arena` of the round */
    slice key;
    struct sheet *sheet; /* NULL once its sheets are gone */
};
struct round { /* one DATA record; its streams are written several at a time */
    struct lake *lake;
    uint64_t from, upto, committed;
    struct stage_stream **streams;
    size_t streams_count, streams_cap;
    struct batch_list dropped;
    /* While streams are written mu guards what follows, and of the lake file_number and park_returns. */
    struct os_mutex *mu;
    struct arena arena;
    struct catalog_file *files;
    size_t count, cap;
    size_t promised; /* files, to streams that are being written or were */
    slice *keys;
    size_t keys_count, keys_cap;
    struct sid *out; /* streams that turned out to be out of service: their rows are parked */
    size_t out_count, out_cap;
};

static slice file_path(struct round *r, const struct sheet *sheet, slice partition) /* under r->mu */
{
    struct civil c = civil_of(sheet->hour * US_PER_HOUR);
    struct buf b = BUF_INIT;

    buf_fmt(&b, "date=%04lld-%02d-%02d/hour=%02d/", (long long)c.year, c.month, c.day, c.hour);
    if (partition.len) {
        file_value_put(&b, partition);
        buf_byte(&b, '=');
        file_value_put(&b, sheet->partition);
        buf_byte(&b, '/');
    }
    buf_fmt(&b, "%s-%llu.parquet", r->lake->file_stem, (unsigned long long)r->lake->file_number++);
    slice path = arena_copy(&r->arena, buf_view(&b));
    buf_done(&b);
    return path;
}

static slice file_key(struct round *r, const struct stage_stream *stream, slice path) /* under r->mu */
{
    struct buf key = BUF_INIT;

    (void)catalog_stream_dir(r->lake->cat, slice_str(stream->name), &stream->sid, &key);
    buf_slice(&key, path);
    slice copy = arena_copy(&r->arena, buf_view(&key));
    buf_done(&key);
    return copy;
}

static enum err_code write_file(struct round *r, struct stage_stream *stream, const struct schema *schema,
                                struct sheet *sheet, slice partition, uint64_t raw_bytes, struct err *err)
{
    struct store *store = r->lake->store;
    struct catalog_file file = {.sid = stream->sid, .stream = slice_str(stream->name), .raw_bytes = raw_bytes};
    struct os_file *f = NULL;
    slice key = {0};

    TRY(store->ops->upload_begin(store, &f, err));
    enum err_code rc = segment_write(r->lake->writer, schema, sheet->parts, (uint32_t)sheet->parts_count,
                                     r->lake->os->ops->fd(r->lake->os, f), &file.stats, err);
    for (bool taken = true; rc == ERR_OK && taken;) {
        os_lock(r->lake->os, r->mu);
        file.path = file_path(r, sheet, partition);
        key = file_key(r, stream, file.path);
        bool last = r->lake->file_number >= FILE_NUMBER_MAX;
        os_unlock(r->lake->os, r->mu);
        rc = store->ops->upload_publish(store, f, key, false, err);
        taken = rc == ERR_CONFLICT && !last;
        if (taken)
            rc = ERR_OK;
    }
    if (rc != ERR_OK) {
        store->ops->upload_drop(store, f);
        return rc;
    }
    os_lock(r->lake->os, r->mu);
    *ARRAY_PUSH(r->files, r->count, r->cap) = file;
    *ARRAY_PUSH(r->keys, r->keys_count, r->keys_cap) = key;
    os_unlock(r->lake->os, r->mu);
    metric_add(r->lake->m_files, 1);
    metric_add(r->lake->m_file_bytes, (double)file.stats.bytes);
    return ERR_OK;
}

/* Field ids for the columns in use; the stream's own schema learns them. */
static enum err_code give_ids(struct stage_stream *stream, struct schema **schema, struct err *err)
{
    _cleanup_(schema_unrefp) struct schema *head = NULL;
    struct schema *with = NULL;
    bool missing = false;

    for (uint32_t i = 0; i < schema_count(*schema); i++)
        missing |= schema_field(*schema, i)->id == 0;
    if (!missing)
        return catalog_anchor(stream->lake->cat, &stream->sid, err);
    TRY(catalog_evolve(stream->lake->cat, &stream->sid, *schema, &head, err));
    with = stage_adopt_ids(*schema, head);
    schema_unref(*schema);
    *schema = with;
    os_lock(stream->lake->os, stream->mu);
    struct schema *old = stream->schema;
    stream->schema = stage_adopt_ids(old, head); /* may have grown meanwhile */
    os_unlock(stream->lake->os, stream->mu);
    schema_unref(old);
    return ERR_OK;
}

static void put_out(struct round *r, const struct sid *sid, bool returns)
{
    os_lock(r->lake->os, r->mu);
    *ARRAY_PUSH(r->out, r->out_count, r->out_cap) = *sid;
    r->lake->park_returns |= returns;
    os_unlock(r->lake->os, r->mu);
}

/* *conflict: a name has another type in the catalog, so these columns cannot be written. */
static enum err_code write_once(struct round *r, struct stage_stream *stream, size_t files_max, size_t *files,
                                bool *conflict, struct err *err)
{
    _cleanup_(sheets_done) struct sheets sheets = {0};
    _cleanup_(schema_unrefp) struct schema *schema = NULL;
    uint64_t raw_left, rows_left;

    *conflict = false;
    if (!sheets_take(stream, r->upto, files_max, &sheets, &schema))
        return ERR_OK;
    enum err_code rc = give_ids(stream, &schema, err);
    if (rc == ERR_NOT_FOUND) { /* dropped: nobody will ask for these rows again */
        stage_forget(r->lake, stream);
        return ERR_OK;
    }
    if (rc == ERR_CORRUPT) {
        put_out(r, &stream->sid, false);
        return ERR_OK;
    }
    TRY(rc);
    for (uint32_t i = 0; i < schema_count(schema); i++)
        *conflict |= schema_field(schema, i)->id == 0;
    if (*conflict)
        return ERR_OK;
    *files = sheets.count;
    raw_left = sheets.raw_bytes;
    rows_left = sheets.rows;
    for (size_t i = 0; i < sheets.count; i++) {
        struct sheet *sheet = sheets.list[i];
        uint64_t raw = sheet->rows >= rows_left
                           ? raw_left
                           : (uint64_t)((double)sheets.raw_bytes * (double)sheet->rows / (double)sheets.rows);
        raw = MIN(raw, raw_left);
        TRY(write_file(r, stream, schema, sheet, sheets.partition, raw, err));
        raw_left -= raw;
        rows_left -= sheet->rows;
    }
    return ERR_OK;
}

/* Stale rows go to whom the name means now, which takes a way of their own: parked, and back under another sid (park.c). *elsewhere: they do. */
static enum err_code check_stale(struct round *r, struct stage_stream *s, bool *elsewhere, struct err *err)
{
    *elsewhere = false;
    if (!stage_has_stale(s))
        return ERR_OK;
    enum err_code rc = s->dead ? ERR_NOT_FOUND : catalog_validate_name(r->lake->cat, slice_str(s->name), &s->sid, err);
    if (rc != ERR_NOT_FOUND && rc != ERR_CORRUPT) /* out of service: they wait, and are looked at again */
        return rc;
    if (rc == ERR_NOT_FOUND)
        stage_forget(r->lake, s);
    put_out(r, &s->sid, true);
    *elsewhere = true;
    return ERR_OK;
}

static enum err_code write_stream(struct round *r, struct stage_stream *stream, size_t files_max, size_t *files,
                                  struct err *err)
{
    bool conflict, elsewhere;

    TRY(check_stale(r, stream, &elsewhere, err));
    if (elsewhere)
        return ERR_OK;
    for (int tries = 0; tries < RESTAGE_TRIES_MAX; tries++) {
        TRY(write_once(r, stream, files_max, files, &conflict, err));
        if (!conflict)
            return ERR_OK;
        TRY(stage_restage(stream, err));
    }
    return err_set(err, ERR_UNAVAILABLE, "other nodes give the columns of stream %s types faster than this one",
                   stream->name);
}

/* ---- the round */

static void round_streams(struct round *r)
{
    struct lake *lake = r->lake;
    struct map_entry *e;
    size_t at = 0;

    os_lock(lake->os, lake->mu);
    while ((e = map_next(&lake->by_sid, &at)))
        *ARRAY_PUSH(r->streams, r->streams_count, r->streams_cap) = stage_stream_ref(e->value);
    os_unlock(lake->os, lake->mu);
}

static void round_done(struct round *r)
{
    batch_list_done(&r->dropped);
    for (size_t i = 0; i < r->streams_count; i++)
        stage_stream_unref(r->streams[i]);
    free(r->streams);
    free(r->out);
    free(r->files);
    free(r->keys);
    arena_done(&r->arena);
    r->lake->os->ops->mutex_free(r->lake->os, r->mu);
}

/* Under the catalog's snapshot lock, in the moment the files become visible (L1). It may be those of an earlier round whose
 * outcome nobody knew: the catalog says up to where. */
static void let_go(void *arg)
{
    struct round *r = arg;

    for (size_t i = 0; i < r->streams_count; i++)
        stage_drop_groups(r->streams[i], r->committed, &r->dropped);
}

/* A stream has a file for each hour, whatever segments its rows are in: so many at most. */
static uint64_t hours_of(const struct stage_stream *s, uint64_t upto)
{
    int64_t from = INT64_MAX, to = INT64_MIN;

    for (size_t k = 0; k < s->groups_count && s->groups[k].segment <= upto; k++) {
        from = MIN(from, s->groups[k].tmin_us);
        to = MAX(to, s->groups[k].tmax_us);
    }
    return from <= to ? (uint64_t)(hour_of(to) - hour_of(from)) + 1 : 0;
}

static uint64_t files_upto(const struct round *r, uint64_t upto)
{
    uint64_t n = 0;

    for (size_t i = 0; i < r->streams_count; i++) {
        struct stage_stream *s = r->streams[i];
        os_lock(r->lake->os, s->mu);
        n += hours_of(s, upto);
        os_unlock(r->lake->os, s->mu);
    }
    return n;
}

/* After hours without a store, more has piled up than one DATA record holds: the most segments that fit, one at least. */
static uint64_t round_limit(const struct round *r, uint64_t upto)
{
    uint64_t low = r->from, high = upto;

    if (files_upto(r, high) <= ROUND_FILES_MAX)
        return high;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (files_upto(r, middle) <= ROUND_FILES_MAX)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static bool is_out(struct round *r, const struct sid *sid)
{
    bool out = false;

    os_lock(r->lake->os, r->mu);
    for (size_t i = 0; i < r->out_count; i++)
        out |= memcmp(r->out[i].text, sid->text, 26) == 0;
    os_unlock(r->lake->os, r->mu);
    return out;
}

/* Streams of which rows are parked already and others are staged: by a replay that found the stream out of service half way, or by a round
 * that failed (park.c, ONCE). */
static void stay_out(struct round *r)
{
    struct lake *lake = r->lake;

    for (size_t i = 0; i < r->streams_count && lake->park.count; i++) {
        struct stage_stream *s = r->streams[i];
        bool parked = false;
        for (size_t k = 0; k < lake->park.count; k++)
            parked |=
                lake->park.items[k].segment <= r->upto && memcmp(lake->park.items[k].sid.text, s->sid.text, 26) == 0;
        os_lock(lake->os, s->mu);
        bool staged = s->groups_count && s->groups[0].segment <= r->upto;
        os_unlock(lake->os, s->mu);
        if (!parked || !staged)
            continue;
        put_out(r, &s->sid, true);
    }
}

/* Of the files that one DATA record holds, each stream may have its part of what those before it left. */
static size_t files_promise(struct round *r, size_t index)
{
    os_lock(r->lake->os, r->mu);
    size_t left = r->promised < ROUND_FILES_MAX ? ROUND_FILES_MAX - r->promised : 0;
    size_t files = MIN(left / (r->streams_count - index), STREAM_FILES_MAX);
    r->promised += files;
    os_unlock(r->lake->os, r->mu);
    return files;
}

static enum err_code write_at(void *arg, size_t index, struct err *err)
{
    struct round *r = arg;
    struct stage_stream *s = r->streams[index];
    size_t files = 0, files_max = files_promise(r, index);
    enum err_code rc = ERR_OK;

    if (!(MUTANT(22) && index && index + 1 == r->streams_count) && !is_out(r, &s->sid))
        rc = write_stream(r, s, files_max, &files, err);
    os_lock(r->lake->os, r->mu);
    r->promised = r->promised - files_max + files;
    os_unlock(r->lake->os, r->mu);
    return rc;
}

static enum err_code write_all(struct round *r, struct err *err)
{
    struct buf stem = BUF_INIT;

    catalog_next_file_stem(r->lake->cat, &stem);
    if (strcmp(r->lake->file_stem, buf_cstr(&stem)) != 0) { /* no name twice: a removal may be late in a store */
        (void)snprintf(r->lake->file_stem, sizeof(r->lake->file_stem), "%s", buf_cstr(&stem));
        r->lake->file_number = 0;
    }
    buf_done(&stem);
    TRY(parallel_each(r->lake->os, r->lake->store->parallel, r->streams_count, write_at, r, err));
    if (r->count > FILES_WITH_COLUMN_STATS_MAX)
        for (size_t i = 0; i < r->count; i++)
            r->files[i].stats.cols_count = MIN(r->files[i].stats.cols_count, 1);
    return r->keys_count ? r->lake->store->ops->sync_group(r->lake->store, r->keys, r->keys_count, err) : ERR_OK;
}

/* What was written is in no record and never will be: a full disk would only get fuller with every try. */
static void take_back(struct round *r)
{
    if (store_remove_many(r->lake->store, r->keys, r->keys_count, NULL) != ERR_OK)
        return; /* the reconciler finds it */
}

struct parking {
    struct round *r;
    bool *want; /* by r->out: its rows of the segment at hand */
};

static bool is_wanted(const struct parking *p, const struct sid *sid)
{
    for (size_t i = 0; i < p->r->out_count; i++)
        if (memcmp(p->r->out[i].text, sid->text, 26) == 0)
            return p->want[i];
    return false;
}

static enum err_code park_record_of(void *arg, const struct sid *owner, struct wal_pos pos, slice record,
                                    struct err *err)
{
    struct parking *p = arg;
    return is_wanted(p, owner) ? park_add(p->r->lake, pos.segment, owner, record, err) : ERR_OK;
}

static enum err_code park_one(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct parking *p = arg;
    return park_staged(p->r->lake, pos, body, park_record_of, p, err);
}

static enum err_code park_segment(struct parking *p, uint64_t segment, struct err *err)
{
    struct round *r = p->r;
    bool any = false;

    for (size_t i = 0; i < r->out_count; i++) {
        TRY(park_begin(r->lake, segment, &r->out[i], &p->want[i], err));
        any |= p->want[i];
    }
    if (!any)
        return ERR_OK;
    enum err_code rc = wal_read(r->lake->wal, segment, park_one, p, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc; /* a number without records */
}

/* What the stage would let go of with this commit and no file has, from the WAL. */
static enum err_code park_rows(struct round *r, struct err *err)
{
    _cleanup_(freep) bool *want = mem_zalloc(r->out_count + 1);
    struct parking p = {r, want};

    for (uint64_t segment = r->from; r->out_count && segment <= r->upto; segment++)
        TRY(park_segment(&p, segment, err));
    TRY(park_write(r->lake, err));
    TRY(park_clean(r->lake, r->upto, err));
    park_whole(r->lake, r->upto);
    return ERR_OK;
}

/* ERR_CONFLICT: fenced; the next round goes on behind r->committed. */
static enum err_code write_and_commit(struct round *r, struct err *err)
{
    enum err_code rc = write_all(r, err);

    if (rc == ERR_OK)
        rc = park_rows(r, err);
    if (rc != ERR_OK) {
        take_back(r);
        return rc == ERR_CONFLICT ? ERR_IO : rc;
    }
    if (MUTANT(19)) {
        r->committed = r->upto;
        let_go(r);
    }
    rc = catalog_commit(r->lake->cat, r->from, r->upto, r->files, r->count, let_go, r, &r->committed, err);
    if (rc == ERR_INVALID || rc == ERR_LIMIT || rc == ERR_UNAVAILABLE) /* nothing happened */
        take_back(r);
    return rc;
}

void lake_answer_object_waiters(struct lake *lake, const struct err *failed)
{
    struct object_waiter *ready = NULL, **at;
    struct err parked;

    (void)err_set(&parked, ERR_UNAVAILABLE,
                  "the stream is out of service: the rows are kept on this server, and are not in the store yet");
    os_lock(lake->os, lake->mu);
    for (at = &lake->object_waiters; *at;) {
        struct object_waiter *w = *at;
        if (!failed && w->segment > lake->committed) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->parked = !failed && park_holds(lake, w->segment, &w->sid);
        w->next = ready;
        ready = w;
    }
    os_unlock(lake->os, lake->mu);
    while (ready) {
        struct object_waiter *next = ready->next;
        const struct err *why = failed ? failed : ready->parked ? &parked : NULL;
        ready->done(ready->arg, why ? why->code : ERR_OK, &ready->result, why);
        free(ready);
        ready = next;
    }
}

/* Dead incarnations without rows leave the table. */
static void sweep_streams(struct lake *lake, struct round *r)
{
    for (size_t i = 0; i < r->streams_count; i++) {
        struct stage_stream *s = r->streams[i];
        os_lock(lake->os, s->mu);
        bool gone = s->dead && !s->pending_head && s->stale_segment <= lake->committed;
        os_unlock(lake->os, s->mu);
        if (!gone)
            continue;
        os_lock(lake->os, lake->mu);
        struct stage_stream *mine = map_del(&lake->by_sid, slice_of(s->sid.text, 26));
        os_unlock(lake->os, lake->mu);
        stage_stream_unref(mine);
    }
}

static enum err_code flush_round(struct lake *lake, uint64_t upto, struct err *err)
{
    _cleanup_(round_done) struct round r = {.lake = lake, .from = lake->committed + 1, .committed = lake->committed};
    int64_t start = os_mono_us(lake->os);

    r.mu = lake->os->ops->mutex_new(lake->os);
    round_streams(&r);
    r.upto = round_limit(&r, upto);
    stay_out(&r);
    if (MUTANT(20))
        wal_release(lake->wal, r.upto);
    enum err_code rc = write_and_commit(&r, err);
    if (rc != ERR_OK && rc != ERR_CONFLICT)
        return rc;
    os_lock(lake->os, lake->mu);
    lake->committed = MAX(lake->committed, r.committed);
    os_unlock(lake->os, lake->mu);
    if (catalog_forked(lake->cat)) { /* catalog.h, CLONED DISKS */
        log_warn("stage",
                 "this disk was copied, and the copy is in use: rows up to WAL segment %llu are committed there",
                 (unsigned long long)r.committed);
        lake_event(lake, "cloned", (slice){0}, 0, "this node's disk was copied, and the copy is in use");
    }
    wal_release(lake->wal, lake->committed);
    sweep_streams(lake, &r);
    metric_add(lake->m_flushes, rc == ERR_OK);
    metric_observe(lake->m_flush_seconds, (double)(os_mono_us(lake->os) - start) / 1e6);
    lake_answer_object_waiters(lake, NULL);
    park_forget(lake, lake->committed);
    moved_forget(lake, lake->committed);
    return ERR_OK;
}

enum err_code flush_segments(struct lake *lake, uint64_t upto, struct err *err)
{
    while (lake->committed < upto)
        TRY(flush_round(lake, upto, err));
    return ERR_OK;
}

void lake_wait_answered(struct lake *lake, uint64_t upto)
{
    os_lock(lake->os, lake->mu);
    lake->answer_waiters++;
    for (;;) {
        bool busy = false;
        for (size_t i = 0; i < lake->segments_count; i++)
            busy |= lake->segments[i].segment <= upto && lake->segments[i].inflight > 0;
        if (!busy)
            break;
        (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, 1000000);
    }
    lake->answer_waiters--;
    os_unlock(lake->os, lake->mu);
}

enum err_code lake_flush(struct lake *lake, struct err *err)
{
    struct wal_stat stat;

    os_lock(lake->os, lake->flush_mu);
    os_lock(lake->os, lake->mu); /* append() holds it too: every record is before or after the seal, and counted */
    atomic_store(&lake->room_bytes, MAX(lake->opt.stage_bytes_slow, 2 * lake_flush_bytes(lake)));
    lake->open_since_us = 0;
    lake->open_bytes = lake->open_keys = 0;
    lake->seals++;
    lake->flush_asked = false;
    uint64_t sealed = wal_seal(lake->wal);
    os_unlock(lake->os, lake->mu);
    if (!sealed) { /* nothing new, but an earlier round may have failed */
        wal_stat(lake->wal, &stat);
        sealed = stat.segment ? stat.segment - 1 : 0;
    }
    if (!MUTANT(24))
        lake_wait_answered(lake, sealed);
    enum err_code rc = flush_segments(lake, sealed, err);
    if (rc == ERR_OK && lake->park_returns) {
        lake->park_returns = false;
        lake_unpark_locked(lake);
    }
    os_unlock(lake->os, lake->flush_mu);
    os_lock(lake->os, lake->mu);
    lake->flush_failing = rc != ERR_OK;
    if (rc != ERR_OK)
        lake->open_since_us = os_mono_us(lake->os);      /* try again after the usual age */
    lake->os->ops->cond_broadcast(lake->os, lake->idle); /* who waits for room */
    os_unlock(lake->os, lake->mu);
    if (rc != ERR_OK)
        metric_add(lake->m_flush_errors, 1);
    return rc;
}

/* ---- when */

/* Each file costs milliseconds, however small. Where thousands of streams get some rows each, more is taken in before they are written, within a
 * quarter of what the stage may hold. */
uint64_t lake_flush_bytes(const struct lake *lake)
{
    uint64_t many = MIN(lake->open_keys * SMALL_KEY_BYTES, lake->opt.stage_bytes_max / 4);

    return MAX(lake->opt.flush_bytes, lake->open_keys > MANY_KEYS ? many : 0);
}

static bool flush_due(struct lake *lake, int64_t *wait_us) /* under lake.mu */
{
    if (lake->flush_asked)
        return true;
    if (lake->open_since_us == 0) {
        *wait_us = 1000000;
        return false;
    }
    int64_t age = os_mono_us(lake->os) - lake->open_since_us;
    bool small = lake->open_keys && lake->open_bytes / lake->open_keys < SMALL_KEY_BYTES;
    int64_t limit = small ? lake->opt.flush_idle_us : lake->opt.flush_age_us;
    *wait_us = MIN(limit - age, INT64_C(1000000));
    return age >= limit;
}

void lake_flush_thread(void *arg)
{
    struct lake *lake = arg;
    int64_t wait_us = 1000000, backoff_us = 0;
    struct err err = {0};

    os_lock(lake->os, lake->mu);
    while (!lake->stopping) {
        if (!flush_due(lake, &wait_us)) {
            (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, MAX(wait_us, 1000));
            continue;
        }
        os_unlock(lake->os, lake->mu);
        if (lake_flush(lake, &err) != ERR_OK) {
            backoff_us = MIN(MAX(backoff_us * 2, INT64_C(500000)), INT64_C(10000000));
            log_error("stage", "flush failed, rows stay in the WAL, next try in %lld ms: %s",
                      (long long)(backoff_us / 1000), err.msg);
            os_lock(lake->os, lake->mu);
            if (!lake->stopping)
                (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, backoff_us);
            lake->flush_asked = true;
            continue;
        }
        backoff_us = 0;
        os_lock(lake->os, lake->mu);
    }
    os_unlock(lake->os, lake->mu);
}
