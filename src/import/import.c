#include "import/import.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/timetext.h"
#include "catalog/catalog.h"
#include "catalog/names.h"
#include "import/ledger.h"
#include "import/survey.h"
#include "segment/segment.h"

#include "base/banned.h"

/* What a crash makes anew. Well below what one DATA record holds (8 MiB of entries). */
#define BATCH_FILES_MAX 256u
#define BATCH_BYTES_MAX (UINT64_C(1) << 30)
#define COLUMNS_MAX 1000u          /* of a stream, as ingest has it */
#define FENCE_US INT64_C(60000000) /* of catalog_options: as servers have it */
#define NAMES_TRIES_MAX 16

struct import {
    const struct import_options *opt;
    struct import_result *result;
    struct catalog *cat; /* NULL: a dry run on a place that holds nothing */
    struct segment_writer *writer;
    slice deployment;
    struct lane_identity id; /* of our session */
    bool open;
    uint64_t segment; /* the last one that was committed */
    bool link;        /* links were not refused so far */
    struct import_progress progress;
};
struct target { /* a stream of ours, and what goes into it */
    struct import *im;
    const struct source_stream *src;
    struct import_stream *out;
    struct sid sid;
    struct schema *schema; /* with ids */
    bool static_schema;
    struct ledger ledger;
    uint64_t raw_left, events_left;
};
struct haul {
    struct arena arena;
    struct catalog_file *files;
    slice *paths, *keys; /* of the ledger; of the store */
    uint32_t number;     /* <n> of the next name */
    size_t count, synced_count;
    uint64_t bytes, rows, linked;
};

static void haul_done(struct haul *b)
{
    arena_done(&b->arena);
}

static void target_done(struct target *t)
{
    schema_unref(t->schema);
    ledger_done(&t->ledger);
}

void import_result_done(struct import_result *r)
{
    free(r->streams);
    free(r->skips);
    arena_done(&r->arena);
    *r = (struct import_result){0};
}

static void skip(void *arg, slice stream, slice path, const char *why)
{
    struct import *im = arg;
    struct arena *a = &im->result->arena;
    struct import_skip *s = ARRAY_PUSH(im->result->skips, im->result->skips_count, im->result->skips_cap);

    *s = (struct import_skip){arena_copy(a, stream), arena_copy(a, path), arena_str(a, slice_str(why))};
    for (size_t i = 0; i < im->result->streams_count; i++)
        if (slice_eq(im->result->streams[i].name, stream))
            im->result->streams[i].skipped++;
}

static void tell(struct import *im)
{
    if (im->opt->progress)
        im->opt->progress(im->opt->arg, &im->progress);
}

static bool stopped(const struct import *im)
{
    return im->opt->stop && im->opt->stop(im->opt->arg);
}

/* What a source file is called in the ledger. */
static slice file_id(const struct import *im, const struct source_file *f, struct arena *a)
{
    return slice_str(arena_fmt(a, SLICE_FMT "/" SLICE_FMT, SLICE_ARG(im->deployment), SLICE_ARG(f->path)));
}

/* ---- the session */

static enum err_code keep_identity(void *arg, const struct lane_identity *id, struct err *err)
{
    (void)err;
    ((struct import *)arg)->id = *id;
    return ERR_OK;
}

static enum err_code session_open(struct import *im, struct err *err)
{
    struct os *os = im->opt->os;
    uint8_t random[16];

    if (im->open)
        return ERR_OK;
    im->id = (struct lane_identity){0};
    os->ops->random(os, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(im->id.wal_id + 2 * i, 3, "%02x", random[i]);
    struct lane_identity id = im->id;
    TRY(catalog_session_open(im->cat, &id, keep_identity, im, &im->segment, err));
    im->id = id;
    im->segment = 0;
    im->open = true;
    return ERR_OK;
}

/* L3: a run that did not end. Our own session, if it has one, is closed: one process has one. */
static enum err_code run_end(struct import *im, struct ledger *l, struct ledger_run *run, struct err *err)
{
    struct lane_identity id = run->id;
    bool over;

    TRY(catalog_session_look(im->cat, &id, &run->upto, &over, err));
    if (!over) {
        if (im->open)
            TRY(catalog_seal(im->cat, err));
        im->open = false;
        TRY(catalog_session_open(im->cat, &id, keep_identity, im, &run->upto, err));
        TRY(catalog_seal(im->cat, err));
    }
    TRY(ledger_end(l, slice_str(run->id.wal_id), run->upto, err));
    run->done = true;
    return ERR_OK;
}

static enum err_code ledger_ready(struct import *im, struct ledger *l, struct err *err)
{
    for (size_t i = 0; !im->opt->dry_run && i < l->runs_count; i++)
        if (!l->runs[i].done)
            TRY(run_end(im, l, &l->runs[i], err));
    ledger_settle(l);
    return ERR_OK;
}

/* ---- errors: an INVALID one is of a file or stream, the rest of the import */

/* An error of this one file: it is told, and the others go on. Without this it is one of the whole import. */
static enum err_code of_file(enum err_code rc, struct err *err)
{
    return rc == ERR_OK ? ERR_OK : (err->code = ERR_INVALID);
}

static enum err_code of_import(enum err_code rc, struct err *err)
{
    return rc == ERR_INVALID || rc == ERR_NOT_FOUND || rc == ERR_CORRUPT ? (err->code = ERR_IO) : rc;
}

/* ---- types and columns */

/* Every value of the one is a value of the other, as the engine casts them. */
static bool fits(struct type from, struct type to)
{
    if (from.kind == TYPE_LIST && to.kind == TYPE_LIST)
        return fits((struct type){from.item, TYPE_NULL}, (struct type){to.item, TYPE_NULL});
    return from.kind == to.kind || from.kind == TYPE_NULL ||
           (to.kind == TYPE_FLOAT64 && (from.kind == TYPE_INT64 || from.kind == TYPE_UINT64));
}

static bool has_twin(const struct schema *s, slice name)
{
    for (uint32_t i = 0; i < schema_count(s); i++)
        if (slice_eq_nocase(schema_field(s, i)->name, name))
            return true;
    return false;
}

static enum err_code check_columns(const struct target *t, const struct segment_look *l, struct err *err)
{
    const struct segment_column *time = NULL;
    bool twins = segment_has_twins(t->schema);

    for (uint32_t i = 0; i < l->count; i++) {
        const struct segment_column *c = &l->columns[i];
        uint32_t at = schema_find(t->schema, c->name);
        if (at == 0)
            time = c;
        if (at == FIELD_NONE && has_twin(t->schema, c->name))
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " differs only in case from one of the static schema",
                           SLICE_ARG(c->name));
        if (at == FIELD_NONE)
            continue;
        if (!twins && !slice_eq(c->as, c->name))
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " is there twice", SLICE_ARG(c->name));
        if (!fits(c->type, schema_field(t->schema, at)->type))
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " is %s, and %s in the stream", SLICE_ARG(c->name),
                           type_suffix(c->type), type_suffix(schema_field(t->schema, at)->type));
    }
    if (!time || time->type.kind != TYPE_TIMESTAMP)
        return err_set(err, ERR_INVALID, "it has no column p_timestamp of instants");
    return ERR_OK;
}

/* Columns that the stream does not have yet, with ids for all. A field that another writer took with another type meanwhile stays as that is. */
static enum err_code evolve(struct target *t, const struct schema *want, struct err *err)
{
    struct schema *head;

    if (schema_count(want) > COLUMNS_MAX)
        return err_set(err, ERR_INVALID, "the stream would have more than %u columns", COLUMNS_MAX);
    TRY(of_import(catalog_evolve(t->im->cat, &t->sid, want, &head, err), err));
    schema_unref(t->schema);
    t->schema = head;
    return ERR_OK;
}

static enum err_code learn_columns(struct target *t, const struct segment_look *l, struct err *err)
{
    _cleanup_(schema_unrefp) struct schema *want = schema_ref(t->schema);

    for (uint32_t i = 0; !t->static_schema && i < l->count; i++) {
        const struct field f = {.name = l->columns[i].name, .type = l->columns[i].type};
        if (schema_find(want, f.name) != FIELD_NONE)
            continue;
        struct schema *grown = schema_grow(want, &f, 1);
        schema_unref(want);
        want = grown;
    }
    return want == t->schema ? ERR_OK : evolve(t, want, err);
}

/* ---- one file */

static void file_path(const struct source_file *f, int64_t tmin_us, slice stem, uint32_t n, struct buf *out)
{
    struct civil c = civil_of(tmin_us);
    slice rest = f->path;

    buf_fmt(out, "date=%04lld-%02d-%02d/hour=%02d/", (long long)c.year, c.month, c.day, c.hour);
    while (rest.len) { /* key=value of a custom partition, below minute= */
        const uint8_t *slash = memchr(rest.ptr, '/', rest.len);
        if (!slash)
            break;
        slice part = slice_head(rest, (size_t)(slash - rest.ptr));
        rest = slice_from(rest, part.len + 1);
        const uint8_t *eq = memchr(part.ptr, '=', part.len);
        if (!eq || slice_starts(part, slice_lit("date=")) || slice_starts(part, slice_lit("hour=")) ||
            slice_starts(part, slice_lit("minute=")))
            continue;
        file_value_put(out, slice_head(part, (size_t)(eq - part.ptr)));
        buf_byte(out, '=');
        file_value_put(out, slice_from(part, (size_t)(eq - part.ptr) + 1));
        buf_byte(out, '/');
    }
    buf_slice(out, stem);
    buf_fmt(out, "-%" PRIu32 ".parquet", n);
}

/* The bytes, under a descriptor: the source's own file, or a copy that is to be an object of the destination. */
struct taken {
    struct os_file *f;
    bool linked;
    uint64_t size;
    uint32_t crc;
};

static enum err_code take_own(struct import *im, const struct source_file *f, struct taken *out, struct err *err)
{
    struct os *os = im->opt->os;
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    im->opt->source->ops->engine_path(im->opt->source, f->key, &path);
    out->linked = true;
    TRY(of_file(os->ops->open(os, buf_cstr(&path), OS_READ, &out->f, err), err));
    return of_file(os_fd_checksum(os->ops->fd(os, out->f), &out->size, &out->crc, err), err);
}

static enum err_code take_copy(struct import *im, const struct source_file *f, struct taken *out, struct err *err)
{
    struct store *dest = im->opt->dest;

    out->linked = false;
    TRY(of_import(dest->ops->upload_begin(dest, &out->f, err), err));
    enum err_code rc = store_fetch(im->opt->os, im->opt->source, f->key, out->f, &out->size, &out->crc, err);
    if (rc == ERR_LIMIT || rc == ERR_UNAVAILABLE || rc == ERR_UNKNOWN) /* no room here, or the source is away */
        return rc;
    return of_file(rc, err);
}

static void taken_drop(struct import *im, struct taken *t)
{
    if (t->linked)
        im->opt->os->ops->close(im->opt->os, t->f);
    else if (t->f)
        im->opt->dest->ops->upload_drop(im->opt->dest, t->f);
    t->f = NULL;
}

static enum err_code examine(struct target *t, const struct source_file *f, const struct taken *taken,
                             struct segment_stats *stats, struct err *err)
{
    struct import *im = t->im;
    struct segment_look look;
    _cleanup_(buf_done) struct buf at = BUF_INIT;

    if (taken->linked) /* the engine follows a descriptor to the name behind it */
        im->opt->source->ops->engine_path(im->opt->source, f->key, &at);
    else
        buf_fmt(&at, SEGMENT_FD_PATH "%d", im->opt->os->ops->fd(im->opt->os, taken->f));
    const char *path = buf_cstr(&at);
    TRY(of_file(segment_look(im->writer, path, &look, err), err));
    enum err_code rc = learn_columns(t, &look, err);
    if (rc == ERR_OK)
        rc = check_columns(t, &look, err);
    if (rc == ERR_OK)
        rc = of_file(segment_survey(im->writer, t->schema, &look, path, stats, err), err);
    segment_look_done(&look);
    stats->bytes = taken->size;
    stats->crc32c = taken->crc;
    return rc;
}

/* What cannot be copied at the server, for whatever reason, is here: it is uploaded. */
static enum err_code put(struct import *im, const struct source_file *f, const struct taken *taken, slice key,
                         struct err *err)
{
    const struct store_source from = {.store = im->opt->source,
                                      .key = f->key,
                                      .size = taken->size,
                                      .crc32c = taken->crc,
                                      .unseen = true}; /* the name is this session's, and committed later */
    struct store *dest = im->opt->dest;
    bool copied = false;

    if (!taken->linked) {
        enum err_code rc = store_copy(dest, key, &from, &copied, err);
        if (rc == ERR_CONFLICT)
            return rc;
        copied &= rc == ERR_OK;
    }
    if (!copied)
        return dest->ops->upload_publish(dest, taken->f, key, taken->linked, err);
    dest->ops->upload_drop(dest, taken->f);
    return ERR_OK;
}

/* A link that is refused (another file system, another owner) is no fault: the bytes are copied from then on. */
static enum err_code publish(struct target *t, const struct source_file *f, const struct segment_stats *stats,
                             slice stem, struct taken *taken, struct haul *b, slice *path, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT, below = BUF_INIT;

    for (int tries = 0;; tries++) {
        key.len = below.len = 0;
        file_path(f, stats->tmin_us, stem, b->number++, &below);
        (void)catalog_stream_dir(t->im->cat, t->src->name, &t->sid, &key);
        buf_slice(&key, buf_view(&below));
        enum err_code rc = put(t->im, f, taken, buf_view(&key), err);
        if (rc == ERR_OK)
            break;
        if (rc == ERR_CONFLICT && tries < NAMES_TRIES_MAX)
            continue;
        return rc;
    }
    if (!taken->linked)
        b->keys[b->synced_count++] = arena_copy(&b->arena, buf_view(&key));
    b->linked += taken->linked;
    taken->f = NULL; /* publish consumed it */
    *path = arena_copy(&b->arena, buf_view(&below));
    return ERR_OK;
}

/* JSON bytes as Parseable counted them, shared out by rows: what it told of the stream, or else of the file. */
static uint64_t raw_bytes(struct target *t, const struct source_file *f, uint64_t rows)
{
    uint64_t share = f->raw_bytes <= INT64_MAX ? f->raw_bytes : 0;

    if (t->events_left && t->raw_left <= INT64_MAX) {
        share = rows >= t->events_left ? t->raw_left
                                       : (uint64_t)((double)t->raw_left * (double)rows / (double)t->events_left);
        share = MIN(share, t->raw_left);
        t->raw_left -= share;
        t->events_left -= MIN(rows, t->events_left);
    }
    return MIN(share, (uint64_t)1 << 50);
}

static enum err_code adopt_once(struct target *t, const struct source_file *f, slice stem, struct haul *b, bool link,
                                struct err *err)
{
    struct import *im = t->im;
    struct taken taken = {0};
    struct segment_stats stats = {0};
    slice path;

    enum err_code rc = link ? take_own(im, f, &taken, err) : take_copy(im, f, &taken, err);
    if (rc == ERR_OK)
        rc = examine(t, f, &taken, &stats, err);
    if (rc == ERR_OK) {
        rc = publish(t, f, &stats, stem, &taken, b, &path, err);
        if (rc != ERR_OK && link) {
            im->link = false;
            rc = ERR_CONFLICT; /* again, as a copy */
        }
        rc = of_import(rc, err);
    }
    if (rc != ERR_OK) {
        taken_drop(im, &taken);
        return rc;
    }
    b->paths[b->count] = file_id(im, f, &b->arena);
    b->files[b->count++] = (struct catalog_file){.sid = t->sid,
                                                 .stream = t->src->name,
                                                 .path = path,
                                                 .stats = stats,
                                                 .raw_bytes = raw_bytes(t, f, stats.rows),
                                                 .by_name = true};
    b->bytes += stats.bytes;
    b->rows += stats.rows;
    return ERR_OK;
}

static enum err_code adopt(struct target *t, const struct source_file *f, slice stem, struct haul *b, struct err *err)
{
    enum err_code rc = adopt_once(t, f, stem, b, t->im->link, err);

    if (rc == ERR_CONFLICT && !t->im->link)
        rc = adopt_once(t, f, stem, b, false, err);
    if (rc == ERR_INVALID) {
        skip(t->im, t->src->name, f->path, err->msg);
        rc = ERR_OK;
    }
    t->im->progress.files++;
    t->im->progress.bytes += f->bytes;
    tell(t->im);
    return rc;
}

/* ---- batches */

static enum err_code commit(struct target *t, struct haul *b, struct err *err)
{
    struct import *im = t->im;
    struct store *dest = im->opt->dest;
    uint64_t segment = im->segment + 1, committed;

    if (b->count == 0)
        return ERR_OK;
    TRY(dest->ops->sync_group(dest, b->keys, b->synced_count, err));
    TRY(ledger_files(&t->ledger, &im->id, segment, b->paths, b->count, err));
    enum err_code rc = catalog_commit(im->cat, segment, segment, b->files, b->count, NULL, NULL, &committed, err);
    if (rc == ERR_CONFLICT) /* L4 */
        return err_set(err, ERR_CONFLICT, "another process took over this import's place: run it again");
    TRY(rc);
    im->segment = segment;
    for (size_t i = 0; i < b->count; i++)
        (void)map_put(&t->ledger.taken, arena_copy(&t->ledger.arena, b->paths[i]), t);
    t->out->files += b->count;
    t->out->rows += b->rows;
    t->out->bytes += b->bytes;
    t->out->linked += b->linked;
    return ERR_OK;
}

/* The next files that are not there yet, up to the limits of a batch. */
static enum err_code haul_run(struct target *t, size_t *at, struct err *err)
{
    _cleanup_(haul_done) struct haul b = {0};
    _cleanup_(buf_done) struct buf stem = BUF_INIT;
    const struct source_stream *s = t->src;
    enum err_code rc = ERR_OK;

    b.files = arena_alloc(&b.arena, BATCH_FILES_MAX * sizeof(*b.files));
    b.paths = arena_alloc(&b.arena, BATCH_FILES_MAX * sizeof(*b.paths));
    b.keys = arena_alloc(&b.arena, BATCH_FILES_MAX * sizeof(*b.keys));
    TRY(session_open(t->im, err));
    catalog_next_file_stem(t->im->cat, &stem);
    for (; rc == ERR_OK && *at < s->files_count && b.count < BATCH_FILES_MAX && b.bytes < BATCH_BYTES_MAX; ++*at) {
        const struct source_file *f = &s->files[*at];
        if (stopped(t->im))
            rc = err_set(err, ERR_CANCELLED, "stopped; what is imported stays: run this again to go on");
        else if (!map_get(&t->ledger.taken, file_id(t->im, f, &b.arena)))
            rc = adopt(t, f, buf_view(&stem), &b, err);
        else
            t->im->progress.bytes += f->bytes, t->im->progress.files++;
    }
    if (rc == ERR_CANCELLED) { /* what was read is kept */
        struct err ignored;
        enum err_code last = commit(t, &b, &ignored);
        return last == ERR_OK ? rc : last;
    }
    TRY(rc);
    return commit(t, &b, err);
}

/* ---- one stream */

static void note_losses(struct import *im, const struct source_stream *s, struct import_stream *out)
{
    struct arena *a = &im->result->arena;

    if (s->meta.time_partition.len)
        out->note = arena_fmt(a, "its time partition %.*s is not kept: times of queries are those of p_timestamp",
                              (int)s->meta.time_partition.len, (const char *)s->meta.time_partition.ptr);
    else if (s->meta.left_out.len)
        out->note = arena_fmt(a, "its custom partition %.*s is not kept: Sluice has one column, without a dot",
                              (int)s->meta.left_out.len, (const char *)s->meta.left_out.ptr);
}

static enum err_code target_open(struct target *t, struct stream_version *v, struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;

    t->sid = *stream_version_sid(v);
    t->schema = schema_ref(stream_version_schema(v));
    t->static_schema = stream_version_config(v)->static_schema;
    TRY(of_import(catalog_anchor(t->im->cat, &t->sid, err), err));
    TRY(ledger_open(t->im->opt->dest, catalog_stream_dir(t->im->cat, t->src->name, &t->sid, &dir), &t->ledger, err));
    return ledger_ready(t->im, &t->ledger, err);
}

/* Backups of the first versions have no ledgers. A stream that an import made, and that has had rows, must not get them a second time. */
static bool forgotten(const struct target *t, const struct stream_version *v)
{
    return t->ledger.next == 0 && stream_version_stats(v)->lifetime_rows > 0 && t->src->meta.config.created_us > 0 &&
           stream_version_config(v)->created_us == t->src->meta.config.created_us;
}

static void set_imported(void *arg, struct stream_config *config)
{
    (void)arg;
    config->imported = true;
}

/* Backups look for a ledger where a head says that there is one. */
static enum err_code mark(struct import *im, const struct stream_version *v, struct err *err)
{
    return stream_version_config(v)->imported
               ? ERR_OK
               : catalog_configure(im->cat, stream_version_sid(v), set_imported, NULL, err);
}

/* The stream as it is, or made as Parseable had it. */
static enum err_code target_make(struct target *t, struct err *err)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct import *im = t->im;
    const struct source_stream *s = t->src;
    struct stream_config config = s->meta.config;

    config.imported = true;
    if (config.created_us <= 0)
        config.created_us = os_wall_us(im->opt->os);
    if (s->schema && schema_count(s->schema) > COLUMNS_MAX)
        return err_set(err, ERR_INVALID, "it has more than %u columns", COLUMNS_MAX);
    enum err_code rc = catalog_resolve(im->cat, s->name, &v, err);
    if (rc == ERR_NOT_FOUND) {
        rc = catalog_create(im->cat, s->name, &config, s->schema, &v, err);
        t->out->created = rc == ERR_OK;
        rc = rc == ERR_CONFLICT ? ERR_OK : rc;
    }
    TRY(rc);
    TRY(mark(im, v, err));
    TRY(target_open(t, v, err));
    if (!t->out->created && forgotten(t, v))
        return err_set(err, ERR_INVALID,
                       "it was imported before, and what was taken is not known: its store was restored from a backup");
    return s->schema && !t->static_schema ? evolve(t, s->schema, err) : ERR_OK;
}

static enum err_code dry_target(struct target *t, struct err *err)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    if (!t->im->cat)
        return ERR_OK;
    enum err_code rc = catalog_resolve(t->im->cat, t->src->name, &v, err);
    if (rc == ERR_NOT_FOUND)
        return stream_name_check(t->src->name, err);
    TRY(rc);
    return target_open(t, v, err);
}

static void count_files(struct target *t)
{
    _cleanup_(arena_done) struct arena a = ARENA_INIT;

    for (size_t i = 0; i < t->src->files_count; i++) {
        const struct source_file *f = &t->src->files[i];
        if (map_get(&t->ledger.taken, file_id(t->im, f, &a))) {
            t->out->present++;
        } else if (t->im->opt->dry_run) {
            t->out->files++;
            t->out->bytes += f->bytes;
        }
        arena_reset(&a);
    }
}

static enum err_code remove_one(struct import *im, slice key, struct err *err)
{
    struct store *source = im->opt->source;
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    if (source->remote)
        return source->ops->remove(source, key, err);
    source->ops->engine_path(source, key, &path); /* it is open for reading: the folder is somebody else's */
    enum err_code rc = im->opt->os->ops->unlink(im->opt->os, buf_cstr(&path), err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* What is in the ledger is durable, and listed. Manifests and metadata go when nothing was left out. */
static enum err_code remove_source(struct target *t, struct err *err)
{
    _cleanup_(arena_done) struct arena a = ARENA_INIT;
    const struct source_stream *s = t->src;
    bool whole = s->whole;

    for (size_t i = 0; i < s->files_count; i++) {
        if (!map_get(&t->ledger.taken, file_id(t->im, &s->files[i], &a))) {
            whole = false;
            continue;
        }
        TRY(remove_one(t->im, s->files[i].key, err));
        t->out->removed++;
    }
    for (size_t i = 0; whole && i < s->others_count; i++)
        TRY(remove_one(t->im, s->others[i], err));
    return ERR_OK;
}

static enum err_code import_files(struct target *t, struct err *err)
{
    size_t at = 0;
    uint64_t before = t->im->segment;

    t->events_left = t->src->meta.events;
    t->raw_left = t->src->meta.ingestion_bytes;
    while (at < t->src->files_count)
        TRY(haul_run(t, &at, err));
    if (t->im->segment > before)
        TRY(ledger_end(&t->ledger, slice_str(t->im->id.wal_id), t->im->segment, err));
    return t->im->opt->remove_source ? remove_source(t, err) : ERR_OK;
}

static enum err_code import_target(struct import *im, const struct source_stream *s, struct import_stream *out,
                                   struct err *err)
{
    _cleanup_(target_done) struct target t = {.im = im, .src = s, .out = out};

    TRY(im->opt->dry_run ? dry_target(&t, err) : target_make(&t, err));
    count_files(&t);
    return im->opt->dry_run ? ERR_OK : import_files(&t, err);
}

/* ---- all */

static struct import_stream *stream_add(struct import *im, slice name)
{
    struct import_stream *s = ARRAY_PUSH(im->result->streams, im->result->streams_count, im->result->streams_cap);

    *s = (struct import_stream){.name = arena_copy(&im->result->arena, name)};
    return s;
}

static enum err_code survey_all(struct import *im, struct arena *a, struct source_stream **out, size_t *count,
                                struct err *err)
{
    struct store *source = im->opt->source;
    slice *names;
    size_t n = 0;

    *count = 0;
    TRY(survey_deployment(source, a, &im->deployment, err));
    TRY(survey_streams(source, a, &names, &n, err));
    *out = arena_zalloc(a, (n + 1) * sizeof(**out));
    for (size_t i = 0; i < n; i++) {
        struct source_stream *s = &(*out)[*count];
        if (im->opt->only.len && !slice_eq(im->opt->only, names[i]))
            continue;
        if (stopped(im))
            return err_set(err, ERR_CANCELLED, "stopped before anything was imported");
        (void)stream_add(im, names[i]);
        im->progress.stream = names[i];
        tell(im);
        enum err_code rc = survey_stream(source, names[i], skip, im, s, err);
        ++*count; /* half-built, too: the caller ends it */
        if (rc == ERR_INVALID || rc == ERR_NOT_FOUND) {
            skip(im, names[i], slice_lit(""), err->msg);
            source_stream_done(s);
            continue;
        }
        TRY(rc);
        im->progress.files_total += s->files_count;
        for (size_t k = 0; k < s->files_count; k++)
            im->progress.bytes_total += s->files[k].bytes;
    }
    if (*count == 0)
        return err_set(err, ERR_NOT_FOUND, "%s: name the folder or prefix that holds the streams of Parseable",
                       im->opt->only.len ? "there is no such stream" : "there are no streams of Parseable");
    return ERR_OK;
}

static enum err_code open_all(struct import *im, struct err *err)
{
    const struct catalog_options opt = {.shards = 4,
                                        .snapshot_retention_us = INT64_C(3600000000),
                                        .fence_us = FENCE_US,
                                        .endpoint = "",
                                        .facts = im->opt->facts,
                                        .temp_dir = im->opt->temp_dir};

    if (im->opt->dest)
        TRY(catalog_open(im->opt->os, im->opt->dest, &opt, &im->cat, err));
    if (im->opt->dry_run)
        return ERR_OK;
    _cleanup_(buf_done) struct buf root = BUF_INIT;
    if (im->opt->link)
        im->opt->source->ops->engine_path(im->opt->source, slice_lit(""), &root);
    return segment_writer_open(im->opt->temp_dir, (const char *[]){im->opt->link ? buf_cstr(&root) : NULL, NULL},
                               &im->writer, err);
}

/* A stream that cannot be made or read does not keep the others from it. */
static enum err_code import_all(struct import *im, const struct source_stream *all, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!all[i].name.len) /* told by survey_all() */
            continue;
        im->progress.stream = all[i].name;
        note_losses(im, &all[i], &im->result->streams[i]);
        enum err_code rc = import_target(im, &all[i], &im->result->streams[i], err);
        if (rc == ERR_INVALID || rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
            skip(im, all[i].name, slice_lit(""), err->msg);
            continue;
        }
        if (rc != ERR_OK)
            return err_wrap(err, "stream " SLICE_FMT, SLICE_ARG(slice_head(all[i].name, 100)));
    }
    return ERR_OK;
}

/* Whether it went well or not, the lane is given back, and heads have what was committed: no server need be there to fold. */
static enum err_code close_all(struct import *im, enum err_code rc)
{
    struct catalog_work work = {0};
    struct err late;

    if (im->open && rc != ERR_CONFLICT) {
        enum err_code sealed = catalog_seal(im->cat, &late);
        if (sealed == ERR_OK)
            sealed = catalog_fold(im->cat, &work, &late);
        (void)sealed; /* the files are committed; a server folds them, and a lane that is idle is sealed by one */
    }
    segment_writer_close(im->writer);
    catalog_close(im->cat);
    return rc;
}

enum err_code import_parseable(const struct import_options *opt, struct import_result *out, struct err *err)
{
    struct arena a = ARENA_INIT;
    struct source_stream *all = NULL;
    size_t n = 0;

    *out = (struct import_result){0};
    struct import im = {.opt = opt, .result = out, .link = opt->link};
    enum err_code rc = survey_all(&im, &a, &all, &n, err);
    if (rc == ERR_OK)
        rc = open_all(&im, err);
    if (rc == ERR_OK)
        rc = import_all(&im, all, n, err);
    rc = close_all(&im, rc);
    for (size_t i = 0; i < n; i++)
        source_stream_done(&all[i]);
    arena_done(&a);
    return rc;
}
