/* wal.c: queue, writer thread, segments being written. The format is in wal_int.h, recovery in recover.c.
 *
 * One append costs: a crc on the caller's thread, a place (segment, offset) under the lock, one pwritev shared with its
 * neighbours, one fdatasync shared with all that were queued meanwhile. Bodies are never copied. A second thread keeps one
 * preallocated file ready, so that a roll does not wait for 64 MiB of zeros.
 *
 *   states of a segment
 *     assigned   wal_append() hands out places in it
 *     open       open_segment(): the one before is synced, then its own header; only then records go in
 *     sealed     wal_seal() or a record that does not fit: places are handed out in the next one
 *     released   wal_release(): its file becomes a spare
 *   A damaged record in segment n with whole ones in n + 1 was therefore acknowledged, or n was poisoned: the header of n + 1
 *   says where n ends, which tells one from the other.
 *   poison: a failed write or sync fails everything queued; appends are refused until a new segment's header is on disk
 *   (probe). Nothing more is ever written to the segment that failed. */
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mutant.h"
#include "wal/wal_int.h"

#define PROBE_DELAY_US 500000
#define IOV_BATCH 240 /* iovs gathered for one pwritev */
#define LIVE_WHOLE_MAX 4

/* ---- open */

static enum err_code header_save(struct wal *w, struct err *err)
{
    _cleanup_(freep) char *path = mem_fmt("%s/header", w->dir);
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    wal_header_print(&w->header, &b);
    return os_write_file(w->os, path, buf_view(&b), err);
}

static bool any_segment(void *arg, const char *name, bool is_dir)
{
    uint64_t number;
    *(bool *)arg |= !is_dir && wal_segment_name(name, &number);
    return true;
}

static enum err_code header_load(struct wal *w, struct err *err)
{
    _cleanup_(freep) char *path = mem_fmt("%s/header", w->dir);
    _cleanup_(freep) uint8_t *bytes = NULL;
    bool segments = false;
    uint8_t id[16];
    size_t len;

    enum err_code rc = os_read_file(w->os, path, 4096, &bytes, &len, err);
    if (rc == ERR_OK)
        return wal_header_parse(slice_of(bytes, len), &w->header, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    TRY(w->os->ops->list(w->os, w->dir, any_segment, &segments, err));
    if (segments)
        return err_set(err, ERR_CORRUPT, "%s has segments but no header file: restore it, or move the directory away",
                       w->dir);
    w->os->ops->random(w->os, id, sizeof(id));
    for (size_t i = 0; i < sizeof(id); i++)
        (void)snprintf(w->header.wal_id + 2 * i, 3, "%02x", id[i]);
    return header_save(w, err);
}

static void wal_destroy(struct wal *w)
{
    struct os *os = w->os;

    os->ops->close(os, w->file);
    os->ops->close(os, w->lock);
    os->ops->mutex_free(os, w->mu);
    os->ops->cond_free(os, w->wake);
    os->ops->cond_free(os, w->prep_wake);
    for (unsigned i = 0; i < w->spares_count; i++)
        free(w->spares[i]);
    free(w->live);
    free(w->dir);
    free(w);
}

static enum err_code open_dir(struct wal *w, struct err *err)
{
    _cleanup_(freep) char *path = mem_fmt("%s/lock", w->dir);

    TRY(os_mkdirs(w->os, w->dir, err));
    TRY(w->os->ops->open(w->os, path, OS_READ | OS_WRITE | OS_CREATE, &w->lock, err));
    enum err_code rc = w->os->ops->lock_file(w->os, w->lock, err);
    if (rc == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT, "another process uses the WAL in %s", w->dir);
    TRY(rc);
    TRY(header_load(w, err));
    w->wal_hash = hash64(slice_str(w->header.wal_id), 0);
    return ERR_OK;
}

enum err_code wal_open(struct os *os, const char *dir, const struct wal_options *opt, struct wal **out, struct err *err)
{
    struct wal *w = mem_zalloc(sizeof(*w));

    w->os = os;
    w->dir = mem_str(slice_str(dir));
    w->opt = *opt;
    w->opt.segment_bytes = opt->segment_bytes ? opt->segment_bytes : 64u << 20;
    w->opt.queue_bytes_max = opt->queue_bytes_max ? opt->queue_bytes_max : 64u << 20;
    w->opt.disk_bytes_max = opt->disk_bytes_max ? opt->disk_bytes_max : UINT64_C(8) << 30;
    w->opt.disk_free_bytes_min = opt->disk_free_bytes_min ? opt->disk_free_bytes_min : 256u << 20;
    os->ops->random(os, &w->spare_number, 6); /* names of spares that an earlier run left are not met again */
    w->mu = os->ops->mutex_new(os);
    w->wake = os->ops->cond_new(os);
    w->prep_wake = os->ops->cond_new(os);
    enum err_code rc = open_dir(w, err);
    if (rc != ERR_OK) {
        wal_destroy(w);
        return rc;
    }
    *out = w;
    return ERR_OK;
}

const struct wal_header *wal_header(const struct wal *wal)
{
    return &wal->header;
}

enum err_code wal_set_header(struct wal *wal, const struct wal_header *h, struct err *err)
{
    struct wal_header old = wal->header;

    wal->header = *h;
    memcpy(wal->header.wal_id, old.wal_id, sizeof(old.wal_id));
    enum err_code rc = header_save(wal, err);
    if (rc != ERR_OK)
        wal->header = old;
    return rc;
}

static void writer_main(void *arg);
static void preparer_main(void *arg);

enum err_code wal_start(struct wal *w, uint64_t committed, wal_replay_fn fn, void *arg, uint64_t *bytes_cut,
                        struct err *err)
{
    ASSERT(!w->started);
    TRY(wal_recover(w, committed, fn, arg, bytes_cut, err));
    w->offset = WAL_SEGMENT_HEAD;
    w->segment_room = w->opt.segment_bytes;
    w->started = true;
    w->writer = w->os->ops->thread_new(w->os, "wal", writer_main, w);
    w->preparer = w->os->ops->thread_new(w->os, "wal-prepare", preparer_main, w);
    return ERR_OK;
}

/* ---- append */

static void next_segment(struct wal *w) /* under mu */
{
    w->segment++;
    w->offset = WAL_SEGMENT_HEAD;
    w->segment_room = w->opt.segment_bytes;
}

static enum err_code check_open(struct wal *w, uint64_t size, struct err *err) /* under mu */
{
    if (!w->started || w->stopping)
        return err_set(err, ERR_UNAVAILABLE, "the WAL is not open");
    if (w->poisoned)
        return err_set(err, ERR_UNAVAILABLE, "the WAL's disk failed a write; waiting for it to work again");
    if (w->disk_low)
        return err_set(err, ERR_UNAVAILABLE,
                       "the WAL's disk has less than %llu bytes free: make room, ingest goes on by itself",
                       (unsigned long long)w->opt.disk_free_bytes_min);
    if (w->live_bytes + size > w->opt.disk_bytes_max)
        return err_set(err, ERR_UNAVAILABLE, "%llu bytes wait in the WAL for the store: retry later",
                       (unsigned long long)w->live_bytes);
    if (w->queued_bytes && w->queued_bytes + size > w->opt.queue_bytes_max)
        return err_set(err, ERR_UNAVAILABLE, "the WAL's queue is full: retry later");
    return ERR_OK;
}

enum err_code wal_append(struct wal *w, const struct os_iov *iov, int n, enum wal_ack ack, wal_done_fn done, void *arg,
                         struct wal_pos *out, struct err *err)
{
    static const uint8_t zeros[8];
    uint64_t body_len = 0;

    for (int i = 0; i < n; i++) {
        if (iov[i].len > WAL_BODY_BYTES_MAX - body_len)
            return err_set(err, ERR_LIMIT, "a record of more than %u bytes", WAL_BODY_BYTES_MAX);
        body_len += iov[i].len;
    }
    struct wal_request *q = mem_alloc(sizeof(*q) + (size_t)(n + 2) * sizeof(struct os_iov));
    *q = (struct wal_request){.ack = ack, .done = done, .arg = arg, .n = n + 1, .body_len = (uint32_t)body_len};
    q->size = wal_record_size(body_len);
    q->body_crc = wal_body_crc(iov, n); /* here and not on the writer thread, of which there is one */
    q->iov[0] = (struct os_iov){q->head, WAL_RECORD_HEAD};
    memcpy(q->iov + 1, iov, (size_t)n * sizeof(*iov));
    if (q->size > WAL_RECORD_HEAD + body_len)
        q->iov[q->n++] = (struct os_iov){zeros, (size_t)(q->size - WAL_RECORD_HEAD - body_len)};
    os_lock(w->os, w->mu);
    enum err_code rc = check_open(w, q->size, err);
    if (rc != ERR_OK) {
        os_unlock(w->os, w->mu);
        free(q);
        return rc;
    }
    if (w->offset + q->size > w->segment_room && w->offset > WAL_SEGMENT_HEAD)
        next_segment(w);
    if (w->offset == WAL_SEGMENT_HEAD) { /* first record: the segment comes into being */
        struct live_segment *s = ARRAY_PUSH(w->live, w->live_count, w->live_cap);
        s->number = w->segment;
        w->live_bytes += WAL_SEGMENT_HEAD;
        w->segment_room = MAX(w->segment_room, w->offset + q->size);
    }
    q->pos = (struct wal_pos){w->segment, w->offset};
    w->offset += q->size;
    w->live[w->live_count - 1].bytes = w->offset;
    w->live_bytes += q->size;
    w->queued_bytes += q->size;
    if (w->tail)
        w->tail->next = q;
    else
        w->head = q;
    w->tail = q;
    w->records++;
    if (out)
        *out = q->pos;
    w->os->ops->cond_broadcast(w->os, w->wake);
    os_unlock(w->os, w->mu);
    return ERR_OK;
}

uint64_t wal_seal(struct wal *w)
{
    uint64_t sealed = 0;

    os_lock(w->os, w->mu);
    if (w->started && w->offset > WAL_SEGMENT_HEAD) {
        sealed = w->segment;
        next_segment(w);
    }
    os_unlock(w->os, w->mu);
    return sealed;
}

void wal_release(struct wal *w, uint64_t upto)
{
    for (;;) {
        uint64_t number = 0;
        os_lock(w->os, w->mu);
        if (w->live_count && w->live[0].number <= upto && w->live[0].number < w->segment) {
            number = w->live[0].number;
            w->live_bytes -= MIN(w->live_bytes, w->live[0].bytes);
            memmove(w->live, w->live + 1, --w->live_count * sizeof(*w->live));
        }
        os_unlock(w->os, w->mu);
        if (!number)
            return;
        wal_segment_recycle(w, number);
    }
}

void wal_stat(struct wal *w, struct wal_stat *out)
{
    os_lock(w->os, w->mu);
    *out = (struct wal_stat){.segment = w->segment,
                             .segment_bytes = w->offset,
                             .live_segments = w->live_count,
                             .live_bytes = w->live_bytes,
                             .queued_bytes = w->queued_bytes,
                             .records = w->records,
                             .syncs = w->syncs,
                             .bytes_written = w->bytes_written,
                             .poisoned = w->poisoned,
                             .disk_low = w->disk_low};
    os_unlock(w->os, w->mu);
}

/* ---- preparing files */

static enum err_code prepare(struct wal *w, uint64_t bytes, char **out, struct err *err)
{
    os_lock(w->os, w->mu);
    uint64_t n = ++w->spare_number;
    os_unlock(w->os, w->mu);
    _cleanup_(freep) char *path = mem_fmt("%s/spare-0-%llu", w->dir, (unsigned long long)n);
    struct os_file *f;

    TRY(w->os->ops->open(w->os, path, OS_WRITE | OS_CREATE | OS_TRUNC, &f, err));
    enum err_code rc = w->os->ops->allocate(w->os, f, bytes, err);
    if (rc == ERR_OK)
        rc = w->os->ops->sync(w->os, f, err);
    w->os->ops->close(w->os, f);
    if (rc != ERR_OK) {
        wal_remove_file(w, path);
        return rc;
    }
    *out = move_ptr(path);
    return ERR_OK;
}

static void preparer_main(void *arg)
{
    struct wal *w = arg;
    struct err err;

    os_lock(w->os, w->mu);
    while (!w->stopping) {
        if (w->spares_count > 0 || w->disk_low || w->records == 0) { /* an idle agent or server needs no 64 MiB */
            (void)w->os->ops->cond_wait(w->os, w->prep_wake, w->mu, 1000000);
            continue;
        }
        os_unlock(w->os, w->mu);
        char *path = NULL;
        enum err_code rc = prepare(w, w->opt.segment_bytes, &path, &err);
        os_lock(w->os, w->mu);
        if (rc == ERR_OK)
            w->spares[w->spares_count++] = path;
        else if (!w->stopping)
            (void)w->os->ops->cond_wait(w->os, w->prep_wake, w->mu, 1000000);
    }
    os_unlock(w->os, w->mu);
}

/* ---- writer */

static enum err_code take_file(struct wal *w, uint64_t bytes, char **out, struct err *err)
{
    char *path = NULL;

    os_lock(w->os, w->mu);
    if (bytes <= w->opt.segment_bytes && w->spares_count)
        path = w->spares[--w->spares_count];
    w->os->ops->cond_broadcast(w->os, w->prep_wake);
    os_unlock(w->os, w->mu);
    if (!path)
        return prepare(w, MAX(bytes, w->opt.segment_bytes), out, err);
    *out = path;
    return ERR_OK;
}

static enum err_code sync_file(struct wal *w, struct err *err)
{
    if (!w->dirty)
        return ERR_OK;
    TRY(w->os->ops->sync(w->os, w->file, err));
    w->dirty = false;
    w->synced_end = w->written_end;
    os_lock(w->os, w->mu);
    w->syncs++;
    os_unlock(w->os, w->mu);
    return ERR_OK;
}

/* While the store is away, segments are sealed by age and wait, each with 64 MiB that hold little: the disk mark counts records,
 * so their files shrink to them. Few are kept whole for the next use. */
static void shrink_sealed(struct wal *w)
{
    os_lock(w->os, w->mu);
    bool many = w->live_count > LIVE_WHOLE_MAX;
    os_unlock(w->os, w->mu);
    if (many && w->synced_end < w->opt.segment_bytes)
        (void)w->os->ops->truncate(w->os, w->file, w->synced_end, NULL); /* else it only takes more room */
}

/* The predecessor is synced first, so that this header may vouch for it. */
static enum err_code open_segment(struct wal *w, uint64_t number, uint64_t bytes, struct err *err)
{
    _cleanup_(freep) char *path = wal_segment_path(w, number), *spare = NULL;
    uint8_t head[WAL_SEGMENT_HEAD];
    const struct os_iov iov = {head, sizeof(head)};

    if (w->file) {
        TRY(sync_file(w, err));
        shrink_sealed(w);
        w->os->ops->close(w->os, move_ptr(w->file));
        w->prev_number = w->file_number;
        w->prev_end = w->synced_end;
    }
    const struct wal_segment_head h = {number, w->wal_hash, w->prev_number, w->prev_end};
    TRY(take_file(w, bytes, &spare, err));
    enum err_code rc = w->os->ops->rename(w->os, spare, path, err);
    if (rc != ERR_OK) {
        wal_remove_file(w, spare);
        return rc;
    }
    TRY(w->os->ops->open(w->os, path, OS_READ | OS_WRITE, &w->file, err));
    w->file_number = number;
    w->written_end = WAL_SEGMENT_HEAD;
    w->synced_end = 0;
    wal_segment_head_put(head, &h);
    w->dirty = true;
    TRY(w->os->ops->pwritev(w->os, w->file, &iov, 1, 0, err));
    TRY(sync_file(w, err)); /* before any record: so a record without a header before it tells of damage */
    return w->os->ops->sync_dir(w->os, w->dir, err);
}

static void finish(struct wal *w, struct wal_request *q, enum err_code rc, const struct err *err)
{
    os_lock(w->os, w->mu);
    w->queued_bytes -= q->size;
    os_unlock(w->os, w->mu);
    q->done(q->arg, rc, err);
    free(q);
}

/* Writes the run of requests from `first` that stand next to each other in one segment; *end: the first that does not. */
static enum err_code write_run(struct wal *w, struct wal_request *first, struct wal_request **end, struct err *err)
{
    struct os_iov iov[IOV_BATCH];
    const struct os_iov *out = iov;
    struct wal_request *q = first;
    uint64_t bytes = 0;
    int n = 0;

    for (; q && q->pos.segment == first->pos.segment && (n == 0 || n + q->n <= IOV_BATCH); q = q->next) {
        const struct wal_record_head h = {q->pos, q->body_len, w->synced_end};
        wal_record_head_put(q->head, &h, q->body_crc);
        bytes += q->size;
        if (q->n > IOV_BATCH) { /* in more pieces than the batch has room for: alone */
            out = q->iov;
            n = q->n;
            q = q->next;
            break;
        }
        memcpy(iov + n, q->iov, (size_t)q->n * sizeof(*iov));
        n += q->n;
    }
    w->dirty = true;
    TRY(w->os->ops->pwritev(w->os, w->file, out, n, first->pos.offset, err));
    os_lock(w->os, w->mu);
    w->bytes_written += bytes;
    os_unlock(w->os, w->mu);
    *end = q;
    return ERR_OK;
}

static void poison(struct wal *w, struct wal_request *batch, const struct err *err)
{
    struct wal_request *more;
    struct err why = *err;

    os_lock(w->os, w->mu);
    w->poisoned = true;
    more = w->head; /* their places lie behind the hole */
    w->head = w->tail = NULL;
    os_unlock(w->os, w->mu);
    log_error("wal", "a write failed, ingest gets 503 until a new segment takes one: %s", err->msg);
    for (int pass = 0; pass < 2; pass++) {
        /* A crash before the probe succeeds would find what the file system kept of the batch, and replay it. */
        why.code = pass ? ERR_UNAVAILABLE : ERR_UNKNOWN;
        for (struct wal_request *q = pass ? more : batch, *next; q; q = next) {
            next = q->next;
            finish(w, q, why.code, &why);
        }
    }
}

/* All requests of one segment at the front of `batch`: write, answer relaxed ones, sync, answer the rest. */
static enum err_code write_segment(struct wal *w, struct wal_request **batch, struct err *err)
{
    struct wal_request *first = *batch, *q = first, *end = first, *keep = NULL, **keep_tail = &keep;
    uint64_t written_end = 0;
    bool want_sync = false;

    if (!w->file || w->file_number != first->pos.segment) {
        uint64_t bytes = first->pos.offset + first->size;
        TRY(open_segment(w, first->pos.segment, bytes, err));
    }
    while (end && end->pos.segment == first->pos.segment)
        TRY(write_run(w, end, &end, err));
    for (; q != end; q = q->next)
        written_end = q->pos.offset + q->size;
    w->written_end = written_end;
    q = first;
    for (struct wal_request *next; q != end; q = next) {
        next = q->next;
        if (q->ack == WAL_WRITE || MUTANT(18)) {
            *batch = end;
            finish(w, q, ERR_OK, NULL);
            continue;
        }
        want_sync = true;
        q->next = NULL;
        *keep_tail = q;
        keep_tail = &q->next;
    }
    *keep_tail = end;
    *batch = keep ? keep : end;
    if (want_sync)
        TRY(sync_file(w, err));
    for (struct wal_request *next; *batch != end;) {
        q = *batch;
        next = q->next;
        *batch = next;
        finish(w, q, ERR_OK, NULL);
    }
    return ERR_OK;
}

static void check_disk(struct wal *w)
{
    uint64_t free_bytes, total;
    int64_t now = os_mono_us(w->os);

    if (now - w->disk_checked_us < PROBE_DELAY_US && w->disk_checked_us)
        return;
    w->disk_checked_us = now;
    if (w->os->ops->disk_free(w->os, w->dir, &free_bytes, &total, NULL) != ERR_OK)
        return;                                                            /* the next write will tell */
    bool low = free_bytes < w->opt.disk_free_bytes_min, was = w->disk_low; /* only this thread writes it */
    os_lock(w->os, w->mu);
    w->disk_low = low;
    os_unlock(w->os, w->mu);
    if (low && !was)
        log_warn("wal", "the disk of %s has %llu bytes free, less than %llu: ingest gets 503 until there is room",
                 w->dir, (unsigned long long)free_bytes, (unsigned long long)w->opt.disk_free_bytes_min);
    if (was && !low)
        log_info("wal", "the disk of %s has room again: ingest goes on", w->dir);
}

/* After a poison: a new segment must take its header and sync before appends are taken again. */
static void probe(struct wal *w)
{
    struct err err = {0};

    os_lock(w->os, w->mu);
    if (w->offset > WAL_SEGMENT_HEAD) /* places there were handed out and failed */
        next_segment(w);
    else
        w->segment++; /* an earlier probe may have used the number */
    uint64_t number = w->segment;
    os_unlock(w->os, w->mu);
    if (w->file) {
        w->os->ops->close(w->os, move_ptr(w->file));
        w->dirty = false;
        if (w->synced_end > WAL_SEGMENT_HEAD) { /* else its header may not even be there: nothing to vouch for */
            w->prev_number = w->file_number;
            w->prev_end = w->synced_end; /* WAL_WRITE ones behind it went with the disk: only the stage has them */
        }
    }
    uint64_t prev_number = w->prev_number, prev_end = w->prev_end;
    if (open_segment(w, number, w->opt.segment_bytes, &err) == ERR_OK) {
        os_lock(w->os, w->mu);
        w->poisoned = false;
        os_unlock(w->os, w->mu);
        log_info("wal", "a new segment takes writes: ingest goes on");
        return;
    }
    if (w->file) { /* its header may or may not be there; it vouches for the same end, and nothing follows it */
        w->os->ops->close(w->os, move_ptr(w->file));
        _cleanup_(freep) char *path = wal_segment_path(w, number);
        wal_remove_file(w, path);
    }
    w->dirty = false;
    w->prev_number = prev_number;
    w->prev_end = prev_end;
}

static struct wal_request *take_batch(struct wal *w, bool *stop)
{
    struct wal_request *batch;

    os_lock(w->os, w->mu);
    while (!w->head && !w->stopping && !w->poisoned)
        if (!w->os->ops->cond_wait(w->os, w->wake, w->mu, 1000000))
            break;
    if (w->head && w->opt.sync_delay_us_max > 0 && !w->stopping)
        (void)w->os->ops->cond_wait(w->os, w->prep_wake, w->mu, w->opt.sync_delay_us_max);
    batch = w->head;
    w->head = w->tail = NULL;
    *stop = w->stopping && !batch;
    os_unlock(w->os, w->mu);
    return batch;
}

static void writer_main(void *arg)
{
    struct wal *w = arg;
    struct err err = {0};
    bool stop = false;

    for (;;) {
        struct wal_request *batch = take_batch(w, &stop);
        if (stop)
            break;
        check_disk(w);
        while (batch)
            if (write_segment(w, &batch, &err) != ERR_OK) {
                poison(w, batch, &err);
                batch = NULL;
            }
        os_lock(w->os, w->mu);
        bool poisoned = w->poisoned && !w->stopping;
        os_unlock(w->os, w->mu);
        if (poisoned) {
            probe(w);
            os_lock(w->os, w->mu);
            if (w->poisoned && !w->stopping)
                (void)w->os->ops->cond_wait(w->os, w->prep_wake, w->mu, PROBE_DELAY_US);
            os_unlock(w->os, w->mu);
        }
    }
    if (w->file && sync_file(w, &err) != ERR_OK)
        w->dirty = true; /* nothing acknowledged depends on it but relaxed records */
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    os_lock(w->os, w->mu);
    w->stopping = true;
    w->os->ops->cond_broadcast(w->os, w->wake);
    w->os->ops->cond_broadcast(w->os, w->prep_wake);
    os_unlock(w->os, w->mu);
    w->os->ops->thread_join(w->os, w->writer);
    w->os->ops->thread_join(w->os, w->preparer);
    wal_destroy(w);
}
