/* ingest.c: a request's way from its bytes to its acknowledgement, and back from the WAL after a crash. */
#include "base/log.h"
#include "stage/lake_int.h"

#define US_PER_MS 1000
#define ACK_MARGIN_US \
    INT64_C(10000000) /* that an acknowledgement may take, and what was accepted as fresh is so still */

struct decoder *lake_decoder_take(struct lake *lake)
{
    struct decoder *d = NULL;

    os_lock(lake->os, lake->mu);
    if (lake->decoders_count)
        d = lake->decoders[--lake->decoders_count];
    os_unlock(lake->os, lake->mu);
    return d ? d : decoder_new();
}

void lake_decoder_give(struct lake *lake, struct decoder *d)
{
    os_lock(lake->os, lake->mu);
    *ARRAY_PUSH(lake->decoders, lake->decoders_count, lake->decoders_cap) = d;
    os_unlock(lake->os, lake->mu);
}

/* ---- room */

/* Room for `bytes` more is taken before they are decoded: many requests that only looked would pass the mark together. A request of half
 * the room and more counts as half: once what is staged is below the flush's mark, nothing but other requests keeps it out. */
static bool room_try(struct lake *lake, uint64_t bytes)
{
    uint64_t room = atomic_load(&lake->room_bytes), coming = atomic_load(&lake->coming_bytes);

    do {
        if (atomic_load(&lake->stage_bytes) + coming + MIN(bytes, room / 2) > room)
            return false;
    } while (!atomic_compare_exchange_weak(&lake->coming_bytes, &coming, coming + bytes));
    return true;
}

static void room_give(struct lake *lake, uint64_t bytes)
{
    if (!bytes)
        return;
    atomic_fetch_sub(&lake->coming_bytes, bytes);
    if (!atomic_load(&lake->room_waiters))
        return;
    os_lock(lake->os, lake->mu);
    lake->os->ops->cond_broadcast(lake->os, lake->idle);
    os_unlock(lake->os, lake->mu);
}

/* Clients that send faster than files are written are slowed down, long before they are refused: memory follows the mark, not their
 * rate. Returns what room_give() is to get back once the rows are staged, or will not be. */
static uint64_t room_take(struct lake *lake, uint64_t bytes, int64_t wait_us_max)
{
    int64_t until, left;
    bool taken;

    if (wait_us_max == 0)
        return 0;
    if (room_try(lake, bytes))
        return bytes;
    until = os_mono_us(lake->os) + wait_us_max;
    os_lock(lake->os, lake->mu);
    atomic_fetch_add(&lake->room_waiters, 1);
    while (!(taken = room_try(lake, bytes)) && !lake->stopping && !lake->flush_failing &&
           (left = until - os_mono_us(lake->os)) > 0)
        (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, left);
    atomic_fetch_sub(&lake->room_waiters, 1);
    os_unlock(lake->os, lake->mu);
    if (!taken)
        atomic_fetch_add(&lake->coming_bytes, bytes);
    return bytes;
}

/* The rows are decoded: what they take is known. */
static void room_correct(struct lake *lake, uint64_t *coming, uint64_t bytes)
{
    if (!*coming)
        return;
    atomic_fetch_add(&lake->coming_bytes, bytes);
    room_give(lake, *coming);
    *coming = bytes;
}

/* ---- acknowledgement */

static struct segment_use *segment_use(struct lake *lake, uint64_t segment)
{
    for (size_t i = lake->segments_count; i-- > 0;)
        if (lake->segments[i].segment == segment)
            return &lake->segments[i];
    struct segment_use *u = ARRAY_PUSH(lake->segments, lake->segments_count, lake->segments_cap);
    u->segment = segment;
    return u;
}

static void segment_leave(struct lake *lake, uint64_t segment)
{
    os_lock(lake->os, lake->mu);
    struct segment_use *u = segment_use(lake, segment);
    if (--u->inflight == 0) {
        *u = lake->segments[--lake->segments_count];
        if (lake->answer_waiters) /* thousands of times a second there are none, and everybody naps on this condition */
            lake->os->ops->cond_broadcast(lake->os, lake->idle);
    }
    os_unlock(lake->os, lake->mu);
}

/* Forgets finished requests at the front: the horizon of followers moves. */
static void pending_finish(struct stage_stream *s, struct pending *p)
{
    struct pending *gone = NULL;

    os_lock(s->lake->os, s->mu);
    p->finished = true;
    while (s->pending_head && s->pending_head->finished) {
        struct pending *first = s->pending_head;
        s->pending_head = first->next;
        first->next = gone;
        gone = first;
    }
    if (!s->pending_head)
        s->pending_tail = NULL;
    bool wake = gone && s->waiters;
    os_unlock(s->lake->os, s->mu);
    while (gone) {
        struct pending *next = gone->next;
        stage_stream_unref(gone->stream);
        buf_done(&gone->head);
        free(gone);
        gone = next;
    }
    if (wake)
        stage_wake_tails(s);
}

static void ack_object(struct lake *lake, const struct pending *p)
{
    struct object_waiter *w = mem_zalloc(sizeof(*w));

    *w = (struct object_waiter){
        .segment = p->pos.segment, .sid = p->stream->sid, .done = p->done, .arg = p->arg, .result = p->result};
    os_lock(lake->os, lake->mu);
    w->next = lake->object_waiters;
    lake->object_waiters = w;
    lake->flush_asked = true;
    lake->os->ops->cond_broadcast(lake->os, lake->idle);
    os_unlock(lake->os, lake->mu);
}

/* On the WAL's writer thread: L1 asks that rows are visible before the caller hears of it. */
static void on_durable(void *arg, enum err_code rc, const struct err *err)
{
    struct pending *p = arg;
    struct stage_stream *s = stage_stream_ref(p->stream);
    struct lake *lake = s->lake;
    lake_done_fn done = p->ack == ACK_OBJECT && rc == ERR_OK ? NULL : p->done;
    void *done_arg = p->arg;
    struct lake_ingested result = p->result;
    bool fresh = !p->stale;
    struct err late;

    os_lock(lake->os, s->mu); /* append() still fills the position in while it holds this */
    uint64_t segment = p->pos.segment;
    os_unlock(lake->os, s->mu);
    if (rc == ERR_OK) {
        stage_publish(s, segment, move_ptr(p->batch), p->raw_bytes);
        metric_add(lake->m_rows, (double)result.rows);
        if (!done)
            ack_object(lake, p); /* before segment_leave: the flush that answers it waits for that */
    } else {
        batch_unref(move_ptr(p->batch));
    }
    room_give(lake, p->coming);
    pending_finish(s, p); /* may free p */
    segment_leave(lake, segment);
    if (rc == ERR_OK && fresh &&
        !catalog_fresh(lake->cat, 0)) { /* asleep meanwhile: by now the stream may be another */
        rc = err_set(&late, ERR_UNKNOWN, "the write took so long that the stream may be another by now");
        err = &late;
    }
    if (done)
        done(done_arg, rc, &result, err);
    stage_stream_unref(s);
}

/* ---- the way in */

static enum err_code check_room(struct lake *lake, struct err *err)
{
    if (atomic_load(&lake->stage_bytes) > lake->opt.stage_bytes_max)
        return err_set(err, ERR_UNAVAILABLE, "too many rows wait to be written to the store (%llu bytes): retry later",
                       (unsigned long long)lake->opt.stage_bytes_max);
    return ERR_OK;
}

static enum err_code create_once(struct lake *lake, const struct lake_ingest *req, struct stage_stream **out,
                                 struct err *err)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct stream_config config = req->config ? *req->config : (struct stream_config){0};

    TRY(stream_name_check(req->stream, err));
    os_lock(lake->os, lake_name_mu(lake, req->stream));
    enum err_code rc = stage_find(lake, req->stream, out, err);
    if (rc == ERR_NOT_FOUND) {
        config.internal |= req->internal;
        rc = catalog_create(lake->cat, req->stream, &config, NULL, &v, err);
        if (rc == ERR_OK || rc == ERR_CONFLICT)
            rc = stage_find(lake, req->stream, out, err);
    }
    os_unlock(lake->os, lake_name_mu(lake, req->stream));
    return rc;
}

static enum err_code find_target(struct lake *lake, const struct lake_ingest *req, struct stage_stream **out,
                                 struct err *err)
{
    enum err_code rc = stage_find(lake, req->stream, out, err);

    if (rc == ERR_NOT_FOUND && req->create)
        rc = create_once(lake, req, out, err);
    if (rc == ERR_OK && atomic_load_explicit(&(*out)->out, memory_order_relaxed))
        rc = catalog_check(lake->cat, req->stream, err);
    if (rc == ERR_CORRUPT) { /* the rows are good, and can be taken once the stream is: clients are to keep them */
        if (err)
            err->code = ERR_UNAVAILABLE;
        return ERR_UNAVAILABLE;
    }
    TRY(rc);
    if ((*out)->internal && !req->internal)
        return err_set(err, ERR_INVALID, "Stream " SLICE_FMT " is internal: it takes no events from clients",
                       SLICE_ARG(req->stream));
    return ERR_OK;
}

static struct decode_options decode_options_of(const struct lake *lake, const struct record *r, bool replay)
{
    return (struct decode_options){
        .flatten = r->flatten,
        .flatten_level = r->flatten_level,
        .rows_max = replay ? 0 : 1000000, /* 0: what was accepted once is accepted again */
        .bytes_max = replay ? 0 : 8 * lake->opt.body_bytes_max,
        .columns_max = replay ? 0 : lake->opt.columns_max,
        .newline_delimited = r->newline_delimited,
    };
}

static void row_ids_set(struct batch *b, uint64_t first)
{
    struct column *c = batch_column(b, FIELD_ROW_ID);
    uint64_t *ids = c->values;

    for (uint32_t row = 0; row < b->rows; row++)
        ids[row] = first + row;
}

/* Under ingest_mu. Row ids follow from the position, so a replay in WAL order gives the same ones (L4). */
static uint64_t row_ids_take(struct stage_stream *s, uint64_t segment, uint64_t rows)
{
    if (s->ordinal_segment != segment) {
        s->ordinal_segment = segment;
        s->ordinal_next = 0;
    }
    uint64_t first = (segment << ROW_ID_SEGMENT_SHIFT) + s->ordinal_next;
    s->ordinal_next += rows;
    return first;
}

static enum err_code resolve(struct stage_stream *s, struct decoded *d, const struct record *r,
                             const struct decode_options *opt, bool replay, struct batch **batch, uint64_t *inexact,
                             struct err *err)
{
    _cleanup_(schema_unrefp) struct schema *schema = NULL, *grown = NULL;
    struct decode_rules rules = {.p_timestamp_us = r->p_timestamp_us, .pairs = r->pairs, .pairs_count = r->pairs_count};
    _cleanup_(freep) char *partition = NULL;

    os_lock(s->lake->os, s->mu);
    schema = schema_ref(s->schema);
    rules.static_schema = s->static_schema;
    if (s->partition[0] && !replay) /* which may be younger than what was accepted */
        partition = mem_str(slice_str(s->partition));
    os_unlock(s->lake->os, s->mu);
    rules.custom_partition = slice_str(partition);
    TRY(decode_resolve(d, schema, opt, &rules, &grown, batch, inexact, err));
    if (grown != schema) {
        os_lock(s->lake->os, s->mu);
        struct schema *old = s->schema;
        /* ingest_mu keeps others from growing it, but a flush may have given it ids meanwhile */
        s->schema = old == schema ? move_ptr(grown) : stage_adopt_ids(grown, old);
        os_unlock(s->lake->os, s->mu);
        schema_unref(old);
    }
    return ERR_OK;
}

/* Under ingest_mu: takes a place in the WAL and in the stream's order. */
static enum err_code append(struct lake *lake, struct pending *p, slice body, struct err *err)
{
    struct stage_stream *s = p->stream;
    struct os_iov iov[2] = {{p->head.ptr, p->head.len}, {body.ptr, body.len}};
    struct wal_pos pos;

    os_lock(lake->os, s->mu); /* before the append: its callback may run at once */
    p->row_id = UINT64_MAX;
    if (s->pending_tail)
        s->pending_tail->next = p;
    else
        s->pending_head = p;
    struct pending *before = s->pending_tail;
    s->pending_tail = p;
    os_lock(lake->os, lake->mu);
    enum err_code rc =
        wal_append(lake->wal, iov, 2, p->ack == ACK_RELAXED ? WAL_WRITE : WAL_SYNC, on_durable, p, &pos, err);
    if (rc == ERR_OK) {
        segment_use(lake, pos.segment)->inflight++;
        p->pos = pos;
        p->row_id = row_ids_take(s, pos.segment, p->result.rows);
        s->next_row_id = p->row_id + p->result.rows;
        s->stale_segment = p->stale ? pos.segment : s->stale_segment;
        row_ids_set(p->batch, p->row_id);
    } else {
        s->pending_tail = before;
        if (before)
            before->next = NULL;
        else
            s->pending_head = NULL;
    }
    os_unlock(lake->os, lake->mu);
    os_unlock(lake->os, s->mu);
    return rc;
}

static struct pending *pending_new(struct stage_stream *s, const struct lake_ingest *req, const struct record *r,
                                   lake_done_fn done, void *arg)
{
    struct pending *p = mem_zalloc(sizeof(*p));

    p->stream = stage_stream_ref(s);
    p->ack = req->ack;
    p->done = done;
    p->arg = arg;
    p->raw_bytes = req->body.len;
    p->result.p_timestamp_us = r->p_timestamp_us;
    p->stale = r->stale;
    record_encode(r, &p->head);
    return p;
}

static void pending_free(struct pending *p)
{
    if (!p)
        return;
    batch_unref(p->batch);
    stage_stream_unref(p->stream);
    buf_done(&p->head);
    free(p);
}
DEFINE_CLEANUP(struct pending *, pending_free)

static enum err_code ingest_decoded(struct stage_stream *s, const struct lake_ingest *req, struct record *r,
                                    struct decoded *d, const struct decode_options *opt, uint64_t *coming,
                                    lake_done_fn done, void *arg, struct err *err)
{
    struct lake *lake = s->lake;
    _cleanup_(pending_freep) struct pending *p = NULL;

    /* Receipt order is WAL order: the time is taken with the place in line. */
    r->p_timestamp_us = os_wall_us(lake->os) / US_PER_MS * US_PER_MS;
    p = pending_new(s, req, r, done, arg);
    TRY(resolve(s, d, r, opt, false, &p->batch, &p->result.inexact, err));
    p->result.rows = p->batch->rows;
    if (p->result.inexact)
        lake_event(lake, "inexact", req->stream, p->result.inexact, "integers beyond 2^53 kept as the nearest double");
    if (p->result.rows == 0) {
        done(arg, ERR_OK, &p->result, NULL);
        return ERR_OK;
    }
    room_correct(lake, coming, p->batch->bytes);
    p->coming = *coming;
    TRY(append(lake, p, req->body, err));
    p = NULL; /* the WAL's callback owns it now, and the room that it has */
    *coming = 0;
    return ERR_OK;
}

static enum err_code ingest_body(struct lake *lake, const struct lake_ingest *req, uint64_t *coming, lake_done_fn done,
                                 void *arg, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    _cleanup_(schema_unrefp) struct schema *hint = NULL;
    struct decoded *d = NULL;
    struct record r = {.name = req->stream,
                       .newline_delimited = req->newline_delimited,
                       .internal = req->internal,
                       .flatten = (uint8_t)req->flatten,
                       .flatten_level = lake->opt.flatten_level,
                       .pairs = (struct decode_pair *)req->pairs,
                       .pairs_count = req->pairs_count,
                       .body = req->body};
    const struct decode_options opt = decode_options_of(lake, &r, false);

    TRY(find_target(lake, req, &s, err));
    struct decoder *decoder = lake_decoder_take(lake);
    enum err_code rc = ERR_OK;
    for (bool again = true; again && rc == ERR_OK;) { /* once, but where restage.c comes between, or a DELETE */
        uint64_t restaged = atomic_load(&s->restaged);
        schema_unref(hint);
        hint = stage_schema(s);
        rc = decode_json(decoder, req->body, &opt, hint, &d, err);
        if (rc != ERR_OK)
            break;
        os_lock(lake->os, s->ingest_mu);
        r.sid = s->sid;
        r.stale =
            !catalog_fresh(lake->cat, ACK_MARGIN_US); /* first, or the look that finds it dead would count as fresh */
        bool dead = s->dead;
        again = dead || atomic_load(&s->restaged) != restaged;
        if (again)
            decoded_free(d);
        else
            rc = ingest_decoded(s, req, &r, d, &opt, coming, done, arg, err);
        os_unlock(lake->os, s->ingest_mu);
        if (dead) {
            stage_stream_unref(move_ptr(s));
            rc = find_target(lake, req, &s, err);
        }
    }
    bool malformed = rc == ERR_INVALID && decoder_malformed(decoder);
    lake_decoder_give(lake, decoder);
    if (rc == ERR_INVALID) /* the beginnings that clients look for (contract 1.1, 2.1) */
        (void)err_wrap(err, malformed ? "Json deserialize error" : "Invalid Request");
    metric_add(lake->m_requests, 1);
    if (rc == ERR_INVALID || (rc == ERR_LIMIT && !(err && err->os_errno))) /* with an errno: a full disk, tried again */
        lake_event(lake, "rejected", req->stream, 1, "%s", err ? err->msg : "");
    return rc;
}

enum err_code lake_ingest(struct lake *lake, const struct lake_ingest *req, lake_done_fn done, void *arg,
                          struct err *err)
{
    uint64_t coming = room_take(lake, req->body.len, req->wait_us_max);
    enum err_code rc = check_room(lake, err);

    if (rc == ERR_OK)
        rc = ingest_body(lake, req, &coming, done, arg, err);
    room_give(lake, coming);
    return rc;
}

struct waiter {
    struct os *os;
    struct os_mutex *mu;
    struct os_cond *cond;
    bool done;
    enum err_code rc;
    struct lake_ingested result;
    struct err err;
};

static void wake(void *arg, enum err_code rc, const struct lake_ingested *result, const struct err *err)
{
    struct waiter *w = arg;

    os_lock(w->os, w->mu);
    w->done = true;
    w->rc = rc;
    w->result = *result;
    if (err)
        w->err = *err;
    w->os->ops->cond_broadcast(w->os, w->cond);
    os_unlock(w->os, w->mu);
}

enum err_code lake_ingest_wait(struct lake *lake, const struct lake_ingest *req, struct lake_ingested *out,
                               struct err *err)
{
    struct os *os = lake->os;
    struct waiter w = {.os = os, .mu = os->ops->mutex_new(os), .cond = os->ops->cond_new(os)};
    enum err_code rc = lake_ingest(lake, req, wake, &w, err);

    if (rc == ERR_OK) {
        os_lock(os, w.mu);
        while (!w.done)
            (void)os->ops->cond_wait(os, w.cond, w.mu, -1);
        os_unlock(os, w.mu);
        rc = w.rc;
        if (rc == ERR_OK && out)
            *out = w.result;
        if (rc != ERR_OK && err)
            *err = w.err;
    }
    os->ops->cond_free(os, w.cond);
    os->ops->mutex_free(os, w.mu);
    return rc;
}

/* ---- the way back */

static enum err_code replay_into(struct stage_stream *s, struct wal_pos pos, const struct record *r, struct err *err)
{
    struct lake *lake = s->lake;
    _cleanup_(batch_unrefp) struct batch *batch = NULL;
    _cleanup_(schema_unrefp) struct schema *hint = stage_schema(s);
    const struct decode_options opt = decode_options_of(lake, r, true);
    struct decoder *decoder = lake_decoder_take(lake);
    struct decoded *d = NULL;
    uint64_t inexact = 0;

    enum err_code rc = decode_json(decoder, r->body, &opt, hint, &d, err);
    if (rc == ERR_OK)
        rc = resolve(s, d, r, &opt, true, &batch, &inexact, err);
    lake_decoder_give(lake, decoder);
    TRY(rc);
    if (batch->rows == 0)
        return ERR_OK;
    uint64_t first = row_ids_take(s, pos.segment, batch->rows);
    s->next_row_id = first + batch->rows;
    row_ids_set(batch, first);
    metric_add(lake->m_replayed, batch->rows);
    stage_publish(s, pos.segment, move_ptr(batch), r->body.len);
    return ERR_OK;
}

/* The rows of segments before this one are all staged: commit them when they are many, so that memory stays bounded. */
static enum err_code replay_make_room(struct lake *lake, struct wal_pos pos, struct err *err)
{
    if (atomic_load(&lake->stage_bytes) < lake->opt.flush_bytes || pos.segment <= lake->committed + 1)
        return ERR_OK;
    return flush_segments(lake, pos.segment - 1, err);
}

enum err_code lake_replay_rows(struct lake *lake, struct stage_stream *s, struct wal_pos pos, slice record,
                               struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct record r;

    TRY(record_decode(record, &arena, &r, err));
    enum err_code rc = replay_into(s, pos, &r, err);
    if (rc == ERR_INVALID || rc == ERR_LIMIT) {
        /* It was accepted once; say so loudly, keep the others. The segment stays readable until its commit. */
        log_error("stage", "WAL segment %llu offset %llu: stream %s: a request that was accepted cannot be decoded: %s",
                  (unsigned long long)pos.segment, (unsigned long long)pos.offset, s->name, err ? err->msg : "");
        lake_event(lake, "loss", r.name, 1, "accepted request cannot be decoded: %s", err ? err->msg : "");
        return ERR_OK;
    }
    return rc;
}

static enum err_code replay_one(struct lake *lake, struct wal_pos pos, slice body, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct record r;

    TRY(record_decode(body, &arena, &r, err));
    enum err_code rc = stage_find_sid(lake, r.name, &r.sid, &s, err);
    if (rc == ERR_NOT_FOUND && (rc = stage_find_heir(lake, &r, &s, err)) == ERR_OK)
        moved_note(lake, pos, &s->sid);
    if (rc == ERR_OK && r.stale)
        s->stale_segment = pos.segment; /* its name may be another's by the time of the flush */
    if (rc == ERR_NOT_FOUND) {          /* dropped after it was accepted: catalog.md section 7 */
        lake_event(lake, "loss", r.name, 1, "request of a stream that was deleted after it was accepted");
        return ERR_OK;
    }
    if (rc == ERR_CORRUPT) /* out of service: they wait beside the WAL */
        return park_add(lake, pos.segment, &r.sid, body, err);
    TRY(rc);
    return lake_replay_rows(lake, s, pos, body, err);
}

enum err_code lake_replay_record(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct lake *lake = arg;
    struct parked from;
    slice rest, one;

    lake->replay_at = pos;
    TRY(replay_make_room(lake, pos, err));
    if (pos.segment <= lake->committed) /* that flush found that a copy of this disk has it (catalog.h, CLONED DISKS) */
        return ERR_OK;
    if (!park_record(body, &from, &rest))
        return replay_one(lake, pos, body, err);
    if (park_is_done(lake, &from)) /* it went back once: no WAL of ours holds it twice */
        return ERR_OK;
    park_done_note(lake, &from, pos.segment);
    while (park_next(&rest, &one))
        TRY(replay_one(lake, pos, one, err));
    return ERR_OK;
}
