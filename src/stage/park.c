/* park.c: rows of streams that are out of service (catalog.h, DAMAGE) leave the WAL for files of their own, so that the segments they stand in
 * can be committed and released for everybody else; when the stream can be read again they go back.
 *
 *   replay or flush meets a record of such a stream --park_add--> memory --park_write--> "<wal>/parked/<sid>-<segment>-<part>", before the commit
 *   fold finds the stream in service --lake_unpark: one WAL record with all of a file's--> stage; the next flush removes the file first
 *
 * ONCE  A file counts only when the segment that it came from is committed: those above are removed at the start, as the replay meets their
 * records again, and none of them goes back before. A file that went back is named in its WAL record; it is removed for good (with a sync
 * of the directory) before that record's segment is committed (park_clean), and a replay that meets the record knows that the file is
 * done. An append that failed leaves no second record: the WAL takes nothing more before a next segment's header cuts the first off (wal.h, I3).
 * A stream whose rows were parked for a commit that then failed stays out for these segments until one succeeds, even if it is in service
 * again meanwhile: nobody knows yet whether the failed one happened, and either way the files are right.
 * So no crash in between counts a row twice or not at all.
 * HEIRS  Stale rows of a dead incarnation go to the one that has its name. Their WAL entry names the dead one still, so who has them staged is
 * written down (struct moved) until their segment is committed: when rows are parked or staged again from the WAL, they go with the heir.
 *   file  "SPK1" | crc32c u32 of what follows | {u32 length, WAL record} ...
 *   WAL record that brings a file back  0 version 2 | 8 segment u64 | 16 part u32 | 24 sid[26] | 64 the same {length, record} ... */
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "stage/lake_int.h"

#define MAGIC "SPK1"
#define FILE_HEAD 8
#define RECORD_HEAD 64
#define RECORD_VERSION 2
#define MEMORY_MAX (32u << 20) /* rows on their way to a file */

static char *parked_dir(const struct lake *lake)
{
    return mem_fmt("%s/parked", lake->opt.wal_dir);
}

static char *parked_path(const struct lake *lake, const struct parked *p)
{
    return mem_fmt("%s/parked/%s-%020llu-%u", lake->opt.wal_dir, p->sid.text, (unsigned long long)p->segment, p->part);
}

static enum err_code parked_sync(struct lake *lake, struct err *err)
{
    _cleanup_(freep) char *dir = parked_dir(lake);
    enum err_code rc = lake->os->ops->sync_dir(lake->os, dir, err);

    return rc == ERR_NOT_FOUND ? ERR_OK : rc; /* no such directory: no such files */
}

static bool parked_parse(const char *name, struct parked *out)
{
    slice s = slice_str(name);
    struct ulid id;
    uint64_t part;

    *out = (struct parked){0};
    if (s.len < 49 || s.ptr[26] != '-' || s.ptr[47] != '-' || !ulid_parse(slice_head(s, 26), &id) ||
        !slice_u64(slice_of(s.ptr + 27, 20), &out->segment) || !slice_u64(slice_from(s, 48), &part) ||
        part > UINT32_MAX)
        return false;
    memcpy(out->sid.text, id.text, sizeof(out->sid.text));
    out->part = (uint32_t)part;
    return true;
}

static bool same(const struct parked *a, const struct parked *b)
{
    return a->segment == b->segment && a->part == b->part && memcmp(a->sid.text, b->sid.text, 26) == 0;
}

/* ---- out of the WAL */

static struct parked *park_find(const struct park *k, uint64_t segment, const struct sid *sid)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->items[i].segment == segment && memcmp(k->items[i].sid.text, sid->text, 26) == 0)
            return &k->items[i];
    return NULL;
}

bool park_holds(const struct lake *lake, uint64_t segment, const struct sid *sid)
{
    return park_find(&lake->park, segment, sid) != NULL;
}

enum err_code park_begin(struct lake *lake, uint64_t segment, const struct sid *sid, bool *want, struct err *err)
{
    struct parked *p = park_find(&lake->park, segment, sid);

    *want = !p || !p->whole;
    if (!p || p->whole)
        return ERR_OK;
    buf_done(&p->body);
    p->body = BUF_INIT;
    for (; p->part > 0; p->part--) { /* of a replay, or of a try that broke off: no commit has counted on them */
        const struct parked last = {.sid = *sid, .segment = segment, .part = p->part - 1};
        _cleanup_(freep) char *path = parked_path(lake, &last);
        enum err_code rc = lake->os->ops->unlink(lake->os, path, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND)
            return rc;
    }
    return parked_sync(lake, err);
}

void park_whole(struct lake *lake, uint64_t upto)
{
    for (size_t i = 0; i < lake->park.count; i++)
        lake->park.items[i].whole |= lake->park.items[i].segment <= upto;
}

enum err_code park_add(struct lake *lake, uint64_t segment, const struct sid *sid, slice record, struct err *err)
{
    struct park *k = &lake->park;
    struct parked *p = park_find(k, segment, sid);
    uint8_t len[4];

    if (p && p->body.len > FILE_HEAD &&
        p->body.len + record.len > MEMORY_MAX) /* a file is one WAL record on its way back */
        TRY(park_write(lake, err));
    if (!p) {
        p = ARRAY_PUSH(k->items, k->count, k->cap);
        *p = (struct parked){.sid = *sid, .segment = segment};
    }
    if (p->body.len == 0)
        buf_put(&p->body, "SPK1\0\0\0\0", FILE_HEAD);
    le32_put(len, (uint32_t)record.len);
    buf_put(&p->body, len, sizeof(len));
    buf_slice(&p->body, record);
    k->bytes += record.len;
    return k->bytes > MEMORY_MAX ? park_write(lake, err) : ERR_OK;
}

enum err_code park_write(struct lake *lake, struct err *err)
{
    _cleanup_(freep) char *dir = parked_dir(lake);
    struct park *k = &lake->park;

    for (size_t i = 0; i < k->count; i++) {
        struct parked *p = &k->items[i];
        if (p->body.len == 0)
            continue;
        _cleanup_(freep) char *path = parked_path(lake, p);
        le32_put(p->body.ptr + 4, crc32c(0, p->body.ptr + FILE_HEAD, p->body.len - FILE_HEAD));
        TRY(os_mkdirs(lake->os, dir, err));
        TRY(os_write_file(lake->os, path, buf_view(&p->body), err));
        log_warn("stage", "rows of a stream that is out of service wait in %s", path);
        buf_done(&p->body);
        p->body = BUF_INIT;
        p->part++;
        atomic_store(&lake->parked, true);
    }
    k->bytes = 0;
    return ERR_OK;
}

void park_forget(struct lake *lake, uint64_t upto)
{
    struct park *k = &lake->park;
    size_t kept = 0;

    for (size_t i = 0; i < k->count; i++) {
        struct parked *p = &k->items[i];
        if (p->segment > upto)
            k->items[kept++] = *p;
        else
            buf_done(&p->body);
    }
    k->count = kept;
}

/* ---- files that went back */

void park_done_note(struct lake *lake, const struct parked *p, uint64_t into)
{
    struct parked *d = ARRAY_PUSH(lake->park_done, lake->park_done_count, lake->park_done_cap);

    *d = (struct parked){.sid = p->sid, .segment = p->segment, .part = p->part, .into = into};
}

bool park_is_done(const struct lake *lake, const struct parked *p)
{
    for (size_t i = 0; i < lake->park_done_count; i++)
        if (same(&lake->park_done[i], p))
            return true;
    return false;
}

enum err_code park_clean(struct lake *lake, uint64_t upto, struct err *err)
{
    size_t kept = 0;
    bool any = false;

    for (size_t i = 0; i < lake->park_done_count; i++) {
        struct parked *p = &lake->park_done[i];
        if (p->into > upto)
            continue;
        _cleanup_(freep) char *path = parked_path(lake, p);
        enum err_code rc = lake->os->ops->unlink(lake->os, path, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND)
            return rc;
        any =
            true; /* also one that is not there: an earlier try, or a killed process, may have removed it without a sync */
    }
    if (any)
        TRY(parked_sync(lake, err));
    for (size_t i = 0; i < lake->park_done_count; i++)
        if (lake->park_done[i].into > upto)
            lake->park_done[kept++] = lake->park_done[i];
    lake->park_done_count = kept;
    return ERR_OK;
}

/* ---- the directory */

struct parked_list {
    struct parked *items;
    size_t count, cap;
};

static bool parked_name(void *arg, const char *name, bool is_dir)
{
    struct parked_list *l = arg;
    struct parked p;

    if (!is_dir && parked_parse(name, &p))
        *ARRAY_PUSH(l->items, l->count, l->cap) = p;
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct parked *x = a, *y = b;

    if (x->segment != y->segment)
        return (x->segment > y->segment) - (x->segment < y->segment);
    return (x->part > y->part) - (x->part < y->part);
}

static enum err_code parked_all(struct lake *lake, struct parked_list *out, struct err *err)
{
    _cleanup_(freep) char *dir = parked_dir(lake);
    enum err_code rc = lake->os->ops->list(lake->os, dir, parked_name, out, err);

    if (rc != ERR_OK && rc != ERR_NOT_FOUND)
        return rc;
    if (out->count)
        qsort(out->items, out->count, sizeof(*out->items), by_age);
    return ERR_OK;
}

enum err_code park_open(struct lake *lake, struct err *err)
{
    struct parked_list l = {0};
    enum err_code rc = parked_all(lake, &l, err);

    for (size_t i = 0; i < l.count && rc == ERR_OK; i++) {
        _cleanup_(freep) char *path = parked_path(lake, &l.items[i]);
        if (l.items[i].segment > lake->committed) {
            rc = lake->os->ops->unlink(lake->os, path, err);
        } else {
            atomic_store(&lake->parked, true);
        }
    }
    if (rc ==
        ERR_OK) /* or a power cut after a commit brings back what this start, or one that broke off here, removed */
        rc = parked_sync(lake, err);
    free(l.items);
    return rc;
}

/* ---- back into the WAL */

bool park_next(slice *body, slice *record)
{
    if (body->len < 4 || le32_get(body->ptr) > body->len - 4)
        return false;
    *record = slice_of(body->ptr + 4, le32_get(body->ptr));
    *body = slice_from(*body, 4 + record->len);
    return true;
}

bool park_record(slice bytes, struct parked *from, slice *body)
{
    if (bytes.len < RECORD_HEAD || bytes.ptr[0] != RECORD_VERSION)
        return false;
    *from = (struct parked){.segment = le64_get(bytes.ptr + 8), .part = le32_get(bytes.ptr + 16)};
    memcpy(from->sid.text, bytes.ptr + 24, 26);
    *body = slice_from(bytes, RECORD_HEAD);
    return true;
}

void moved_note(struct lake *lake, struct wal_pos pos, const struct sid *sid)
{
    const struct moved *last = lake->moved_count ? &lake->moved[lake->moved_count - 1] : NULL;

    if (!last || memcmp(&last->pos, &pos, sizeof(pos)) != 0) /* a replay asks for each record of an entry */
        *ARRAY_PUSH(lake->moved, lake->moved_count, lake->moved_cap) = (struct moved){pos, *sid};
}

void moved_forget(struct lake *lake, uint64_t upto)
{
    size_t kept = 0;

    for (size_t i = 0; i < lake->moved_count; i++)
        if (lake->moved[i].pos.segment > upto)
            lake->moved[kept++] = lake->moved[i];
    lake->moved_count = kept;
}

/* Of a dead incarnation only stale rows go on (lake_int.h, struct record). */
static bool for_owner(const struct record *r, const struct sid *owner)
{
    return r->stale || memcmp(r->sid.text, owner->text, 26) == 0;
}

static const struct sid *moved_to(const struct lake *lake, struct wal_pos pos)
{
    for (size_t i = 0; i < lake->moved_count; i++)
        if (lake->moved[i].pos.segment == pos.segment && lake->moved[i].pos.offset == pos.offset)
            return &lake->moved[i].sid;
    return NULL;
}

static enum err_code staged_one(const struct sid *owner, struct wal_pos pos, slice record, staged_fn fn, void *arg,
                                struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct record r;

    TRY(record_decode(record, &arena, &r, err));
    if (!owner)
        owner = &r.sid;
    return for_owner(&r, owner) ? fn(arg, owner, pos, record, err) : ERR_OK;
}

enum err_code park_staged(const struct lake *lake, struct wal_pos pos, slice body, staged_fn fn, void *arg,
                          struct err *err)
{
    const struct sid *heir = moved_to(lake, pos);
    struct parked from;
    slice rest, one;

    if (!park_record(body, &from, &rest))
        return staged_one(heir, pos, body, fn, arg, err);
    while (park_next(&rest, &one))
        TRY(staged_one(heir ? heir : &from.sid, pos, one, fn, arg, err));
    return ERR_OK;
}

struct appended {
    struct os *os;
    struct os_mutex *mu;
    struct os_cond *cond;
    bool done;
    enum err_code rc;
    struct err err;
};

static void on_appended(void *arg, enum err_code rc, const struct err *err)
{
    struct appended *a = arg;

    os_lock(a->os, a->mu);
    a->done = true;
    a->rc = rc;
    if (rc != ERR_OK && err)
        a->err = *err;
    a->os->ops->cond_broadcast(a->os, a->cond);
    os_unlock(a->os, a->mu);
}

static enum err_code append_wait(struct lake *lake, const struct os_iov iov[2], struct wal_pos *pos, struct err *err)
{
    struct os *os = lake->os;
    struct appended a = {.os = os, .mu = os->ops->mutex_new(os), .cond = os->ops->cond_new(os)};
    enum err_code rc = wal_append(lake->wal, iov, 2, WAL_SYNC, on_appended, &a, pos, err);

    if (rc == ERR_OK) {
        os_lock(os, a.mu);
        while (!a.done)
            (void)os->ops->cond_wait(os, a.cond, a.mu, -1);
        os_unlock(os, a.mu);
        rc = a.rc;
        if (rc != ERR_OK && err)
            *err = a.err;
    }
    os->ops->cond_free(os, a.cond);
    os->ops->mutex_free(os, a.mu);
    return rc;
}

static enum err_code put_back_record(struct lake *lake, struct stage_stream *s, struct wal_pos pos, slice record,
                                     struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct record r;

    TRY(record_decode(record, &arena, &r, err));
    if (r.stale)
        s->stale_segment = pos.segment;
    return for_owner(&r, &s->sid) ? lake_replay_rows(lake, s, pos, record, err) : ERR_OK;
}

/* Under flush_mu, so that no commit comes between the append and the note that the file is done; under the stream's ingest_mu, so that row
 * ids follow the WAL's order (L4). */
static enum err_code put_back(struct lake *lake, struct stage_stream *s, const struct parked *p, slice body,
                              struct err *err)
{
    uint8_t head[RECORD_HEAD] = {RECORD_VERSION};
    const struct os_iov iov[2] = {{head, sizeof(head)}, {body.ptr, body.len}};
    struct wal_pos pos;
    slice record;

    le64_put(head + 8, p->segment);
    le32_put(head + 16, p->part);
    memcpy(head + 24, p->sid.text, 26);
    os_lock(lake->os, s->ingest_mu);
    enum err_code rc = append_wait(lake, iov, &pos, err);
    if (rc == ERR_OK) {
        park_done_note(lake, p, pos.segment);
        if (memcmp(s->sid.text, p->sid.text, 26) != 0)
            moved_note(lake, pos, &s->sid);
        while (rc == ERR_OK && park_next(&body, &record))
            rc = put_back_record(lake, s, pos, record, err);
    }
    os_unlock(lake->os, s->ingest_mu);
    return rc;
}

/* What is in a file that cannot be read stays there for a person to look at. */
static void put_aside(struct lake *lake, const char *path, const char *why)
{
    _cleanup_(freep) char *aside = mem_fmt("%s.bad", path);

    log_error("stage", "%s: %s; kept as %s", path, why, aside);
    lake_event(lake, "loss", (slice){0}, 0, "%s: %s", path, why);
    (void)lake->os->ops->rename(lake->os, path, aside, NULL); /* else it is looked at again */
}

/* *r: of one such record; its texts are `body`'s. */
static bool any_stale(slice body, struct record *r)
{
    slice record;

    while (park_next(&body, &record)) {
        _cleanup_(arena_done) struct arena arena = ARENA_INIT;
        struct record one;
        if (record_decode(record, &arena, &one, NULL) == ERR_OK && one.stale) {
            *r = one;
            r->pairs = NULL;
            r->pairs_count = 0;
            return true;
        }
    }
    return false;
}

static enum err_code unpark_file(struct lake *lake, const struct parked *p, struct err *err)
{
    _cleanup_(freep) char *path = parked_path(lake, p);
    _cleanup_(freep) uint8_t *bytes = NULL;
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    struct record r;
    size_t len;

    TRY(os_read_file(lake->os, path, WAL_BODY_BYTES_MAX, &bytes, &len, err));
    slice body = slice_of(bytes + FILE_HEAD, len - FILE_HEAD), rest, first;
    if (len < FILE_HEAD + 4 || memcmp(bytes, MAGIC, 4) != 0 || crc32c(0, body.ptr, body.len) != le32_get(bytes + 4)) {
        put_aside(lake, path, "rows of a stream that was out of service are damaged");
        return ERR_OK;
    }
    rest = body;
    if (!park_next(&rest, &first) || record_decode(first, &arena, &r, err) != ERR_OK) {
        put_aside(lake, path, "no WAL record in there");
        return ERR_OK;
    }
    enum err_code rc = stage_find_sid(lake, r.name, &p->sid, &s, err);
    if (rc == ERR_NOT_FOUND && any_stale(body, &r))
        rc = stage_find_heir(lake, &r, &s, err);
    if (rc == ERR_CORRUPT) /* still out of service */
        return ERR_OK;
    if (rc == ERR_NOT_FOUND) {
        lake_event(lake, "loss", r.name, 0, "requests of a stream that was out of service, and then deleted");
        return lake->os->ops->unlink(lake->os, path, err);
    }
    TRY(rc);
    TRY(put_back(lake, s, p, body, err));
    log_info("stage", "stream " SLICE_FMT " is in service again: rows of %s are back", SLICE_ARG(r.name), path);
    return ERR_OK;
}

/* A file that fails holds up the younger ones of its stream, whose rows come after, and no other stream's. false: the WAL takes none now. */
static bool unpark_one(struct lake *lake, struct parked *p)
{
    struct err err = {0};
    enum err_code rc = unpark_file(lake, p, &err);

    p->stuck = rc != ERR_OK;
    if (p->stuck)
        log_warn("stage", "rows that wait for a stream out of service: %s", err.msg);
    return rc != ERR_UNAVAILABLE && rc != ERR_UNKNOWN;
}

static bool waits_for_older(const struct parked_list *l, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (l->items[k].stuck && memcmp(l->items[k].sid.text, l->items[i].sid.text, 26) == 0)
            return true;
    return false;
}

void lake_unpark(struct lake *lake)
{
    if (!atomic_load(&lake->parked)) /* each fold comes here: it waits for no flush without a need */
        return;
    os_lock(lake->os, lake->flush_mu);
    lake_unpark_locked(lake);
    os_unlock(lake->os, lake->flush_mu);
}

void lake_unpark_locked(struct lake *lake)
{
    struct parked_list l = {0};
    struct err err = {0};

    if (!atomic_load(&lake->parked))
        return;
    enum err_code rc = parked_all(lake, &l, &err);
    atomic_store(&lake->parked, rc != ERR_OK || l.count > 0);
    if (rc != ERR_OK)
        log_warn("stage", "rows that wait for a stream out of service: %s", err.msg);
    for (size_t i = 0; i < l.count; i++)
        if (l.items[i].segment <= lake->committed && !park_is_done(lake, &l.items[i]) && !waits_for_older(&l, i) &&
            !unpark_one(lake, &l.items[i]))
            break;
    metric_set(metric_get(METRIC_GAUGE, "sluice_parked_files",
                          "files beside the WAL with rows that wait for a stream out of service", NULL),
               (double)l.count);
    free(l.items);
}
