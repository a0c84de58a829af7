/* recover.c: what a start makes of the files it finds, and the life of a file between segments.
 *
 * Numbered files above the committed number form a chain by the previous number in their headers. A file without a valid header was
 * begun and never synced; one that its successor does not name was poisoned before anything in it was synced: both are reused. All
 * others are replayed, each up to the end that the next one vouches for, the last one up to its last whole record (wal_int.h, A HOLE AND
 * A TORN TAIL). Nothing is changed on disk before every record was taken, so a start that is killed can be repeated. Then the last segment
 * is written again and synced, and the next segment's header closes it at its end for good.
 *
 * A file is: spare-* (prepared, or of a released segment) -> renamed to a segment -> renamed to a spare, or removed. A crash in between
 * leaves one name or the other: a segment with an old header is begun, a spare of another size is removed. */
#include "wal/wal_int.h"

/* ---- names */

char *wal_segment_path(const struct wal *w, uint64_t number)
{
    return mem_fmt("%s/%020llu.wal", w->dir, (unsigned long long)number);
}

bool wal_segment_name(const char *name, uint64_t *number)
{
    slice s = slice_str(name);
    return s.len == 24 && slice_ends(s, slice_lit(".wal")) && slice_u64(slice_head(s, 20), number) && *number > 0;
}

void wal_remove_file(struct wal *w, const char *path)
{
    (void)w->os->ops->unlink(w->os, path, NULL); /* a file that stays is found and reused at the next start */
}

/* ---- spares */

static void spare_keep(struct wal *w, char *path) /* takes path */
{
    struct os_stat st;
    bool fits = w->os->ops->stat(w->os, path, &st, NULL) == ERR_OK && st.size == w->opt.segment_bytes;

    os_lock(w->os, w->mu);
    if (fits && w->spares_count < SPARES_MAX)
        w->spares[w->spares_count++] = move_ptr(path);
    os_unlock(w->os, w->mu);
    if (path)
        wal_remove_file(w, path);
    free(path);
}

/* Old segment -> spare, under a name of its own: a crash in between leaves either name, both harmless. */
void wal_segment_recycle(struct wal *w, uint64_t number)
{
    _cleanup_(freep) char *from = wal_segment_path(w, number);
    os_lock(w->os, w->mu);
    bool keep = w->spares_count < SPARES_MAX;
    uint64_t n = ++w->spare_number;
    os_unlock(w->os, w->mu);
    char *to = mem_fmt("%s/spare-%llu-%llu", w->dir, (unsigned long long)number, (unsigned long long)n);

    if (!keep || w->os->ops->rename(w->os, from, to, NULL) != ERR_OK) {
        wal_remove_file(w, from);
        free(to);
        return;
    }
    spare_keep(w, to);
}

/* ---- recovery */

struct found {
    uint64_t *numbers;
    size_t count, cap;
    char **others; /* spares of an earlier run */
    size_t others_count, others_cap;
};

static bool find_file(void *arg, const char *name, bool is_dir)
{
    struct found *f = arg;
    uint64_t number;

    if (is_dir)
        return true;
    if (wal_segment_name(name, &number))
        *ARRAY_PUSH(f->numbers, f->count, f->cap) = number;
    else if (strncmp(name, "spare-", 6) == 0)
        *ARRAY_PUSH(f->others, f->others_count, f->others_cap) = mem_str(slice_str(name));
    return true;
}

static bool find_last(void *arg, const char *name, bool is_dir)
{
    uint64_t *last = arg, number;

    if (!is_dir && wal_segment_name(name, &number))
        *last = MAX(*last, number);
    return true;
}

enum err_code wal_last_segment(struct wal *w, uint64_t *out, struct err *err)
{
    *out = 0;
    return w->os->ops->list(w->os, w->dir, find_last, out, err);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct replay {
    struct wal *w;
    wal_replay_fn fn;
    void *arg;
    uint64_t last, last_end; /* last good segment and where its records end */
    uint64_t cut;
};

static enum err_code hole(uint64_t number, uint64_t at, uint64_t end, struct err *err)
{
    return err_set(
        err, ERR_CORRUPT,
        "WAL segment %020llu.wal is damaged at offset %llu, before its end at %llu: acknowledged rows are in there. "
        "Restore the file, or move it away to go on without them",
        (unsigned long long)number, (unsigned long long)at, (unsigned long long)end);
}

enum err_code wal_segment_replay(slice file, uint64_t number, uint64_t end_wanted, wal_replay_fn fn, void *arg,
                                 uint64_t *end, uint64_t *cut, struct err *err)
{
    uint64_t at = WAL_SEGMENT_HEAD;
    slice body;

    for (;;) {
        const struct wal_pos pos = {number, at};
        if (at == end_wanted || !wal_record_get(file, number, &at, &body))
            break;
        TRY(fn(arg, pos, body, err));
    }
    *end = at;
    *cut = 0;
    if (end_wanted)
        return at == end_wanted ? ERR_OK : hole(number, at, end_wanted, err);
    const struct wal_tail tail = wal_tail_scan(file, number, at);
    *cut = tail.torn_bytes; /* never acknowledged, as nothing is before the sync that covers all before it */
    return tail.synced_end > at ? hole(number, at, tail.synced_end, err) : ERR_OK;
}

/* `next`: header of the following live segment, which vouches for this one; NULL: this is the last. */
static enum err_code replay_segment(struct replay *r, uint64_t number, const struct wal_segment_head *next,
                                    struct err *err)
{
    _cleanup_(freep) char *path = wal_segment_path(r->w, number);
    _cleanup_(freep) uint8_t *bytes = NULL;
    uint64_t end, cut;
    size_t len;

    TRY(os_read_file(r->w->os, path, SIZE_MAX - 1, &bytes, &len, err));
    TRY(wal_segment_replay(slice_of(bytes, len), number, next ? next->prev_end : 0, r->fn, r->arg, &end, &cut, err));
    r->last = number;
    r->last_end = end;
    r->cut = cut;
    return ERR_OK;
}

enum err_code wal_read(struct wal *w, uint64_t segment, wal_replay_fn fn, void *arg, struct err *err)
{
    _cleanup_(freep) char *path = wal_segment_path(w, segment), *after = NULL;
    _cleanup_(freep) uint8_t *bytes = NULL;
    uint8_t head[WAL_SEGMENT_HEAD];
    struct wal_segment_head next = {0};
    uint64_t follower = 0, end, cut;
    struct os_file *f;
    size_t len;
    bool live = false;

    os_lock(w->os, w->mu);
    for (size_t i = 0; i < w->live_count; i++) {
        live |= w->live[i].number == segment;
        if (live && !follower && w->live[i].number > segment)
            follower = w->live[i].number;
    }
    os_unlock(w->os, w->mu);
    if (!live)
        return err_set(err, ERR_NOT_FOUND, "no live WAL segment %llu", (unsigned long long)segment);
    after = wal_segment_path(w, follower);
    if (follower && w->os->ops->open(w->os, after, OS_READ, &f, NULL) == ERR_OK) { /* it says where this one ends */
        enum err_code rc = w->os->ops->pread(w->os, f, head, sizeof(head), 0, &len, NULL);
        w->os->ops->close(w->os, f);
        if (rc != ERR_OK || !wal_segment_head_get(slice_of(head, len), &next) || next.prev_number != segment)
            next.prev_end = 0;
    }
    TRY(os_read_file(w->os, path, SIZE_MAX - 1, &bytes, &len, err));
    return wal_segment_replay(slice_of(bytes, len), segment, next.prev_end, fn, arg, &end, &cut, err);
}

/* A file without a valid header was begun and not synced; unless a record in it says otherwise, as the header is synced first. */
static enum err_code check_begun(struct wal *w, const char *path, uint64_t number, struct err *err)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t len;

    TRY(os_read_file(w->os, path, SIZE_MAX - 1, &bytes, &len, err));
    const struct wal_tail tail = wal_tail_scan(slice_of(bytes, len), number, WAL_SEGMENT_HEAD);
    return tail.synced_end ? hole(number, 0, tail.synced_end, err) : ERR_OK;
}

static enum err_code read_head(struct wal *w, uint64_t number, struct wal_segment_head *out, bool *valid,
                               struct err *err)
{
    _cleanup_(freep) char *path = wal_segment_path(w, number);
    uint8_t bytes[WAL_SEGMENT_HEAD];
    struct os_file *f;
    size_t got;

    TRY(w->os->ops->open(w->os, path, OS_READ, &f, err));
    enum err_code rc = w->os->ops->pread(w->os, f, bytes, sizeof(bytes), 0, &got, err);
    w->os->ops->close(w->os, f);
    TRY(rc);
    *valid = wal_segment_head_get(slice_of(bytes, got), out) && out->number == number;
    if (*valid && out->wal_hash != w->wal_hash)
        return err_set(err, ERR_CORRUPT, "WAL segment %s belongs to another log than the header file beside it", path);
    return *valid ? ERR_OK : check_begun(w, path, number, err);
}

/* What was read from the page cache of a killed process may not be on disk yet, and if a sync of it failed then no later sync
 * brings it there, although reads still show it: written again, it is dirty again. */
static enum err_code sync_segment(struct wal *w, uint64_t number, uint64_t end, struct err *err)
{
    _cleanup_(freep) char *path = wal_segment_path(w, number);
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct os_file *f;
    size_t len;

    TRY(os_read_file(w->os, path, SIZE_MAX - 1, &bytes, &len, err));
    const struct os_iov iov = {bytes, MIN((size_t)end, len)};
    TRY(w->os->ops->open(w->os, path, OS_READ | OS_WRITE, &f, err));
    enum err_code rc = w->os->ops->pwritev(w->os, f, &iov, 1, 0, err);
    if (rc == ERR_OK)
        rc = w->os->ops->sync(w->os, f, err);
    w->os->ops->close(w->os, f);
    return rc;
}

static enum err_code replay_chain(struct wal *w, struct found *f, uint64_t committed, struct replay *r, struct err *err)
{
    struct wal_segment_head *heads = mem_zalloc((f->count + 1) * sizeof(*heads));
    size_t n = 0;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < f->count && rc == ERR_OK; i++) {
        struct wal_segment_head h;
        bool valid = false;
        if (f->numbers[i] <= committed)
            continue;
        rc = read_head(w, f->numbers[i], &h, &valid, err);
        if (rc != ERR_OK || !valid)
            continue;
        while (n && heads[n - 1].number > h.prev_number)
            n--; /* begun, but its successor does not count on it: poisoned before anything in it was acknowledged */
        heads[n++] = h;
    }
    for (size_t i = 0; i < n && rc == ERR_OK; i++)
        if (heads[i].prev_number > committed && heads[i].prev_number != (i ? heads[i - 1].number : 0))
            rc = err_set(err, ERR_CORRUPT,
                         "WAL segment %llu in %s is missing or its header is damaged: acknowledged rows are in there",
                         (unsigned long long)heads[i].prev_number, w->dir);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct live_segment *s = ARRAY_PUSH(w->live, w->live_count, w->live_cap);
        s->number = heads[i].number;
        rc = replay_segment(r, heads[i].number, i + 1 < n ? &heads[i + 1] : NULL, err);
        s->bytes = r->last_end;
        w->live_bytes += s->bytes;
    }
    free(heads);
    return rc;
}

static void found_done(struct found *f)
{
    for (size_t i = 0; i < f->others_count; i++)
        free(f->others[i]);
    free(f->others);
    free(f->numbers);
}

static bool is_live(const struct wal *w, uint64_t number)
{
    for (size_t i = 0; i < w->live_count; i++)
        if (w->live[i].number == number)
            return true;
    return false;
}

enum err_code wal_recover(struct wal *w, uint64_t committed, wal_replay_fn fn, void *arg, uint64_t *bytes_cut,
                          struct err *err)
{
    _cleanup_(found_done) struct found f = {0};
    struct replay r = {.w = w, .fn = fn, .arg = arg};
    uint64_t last = committed;

    TRY(w->os->ops->list(w->os, w->dir, find_file, &f, err));
    if (f.count)
        qsort(f.numbers, f.count, sizeof(*f.numbers), by_number);
    TRY(replay_chain(w, &f, committed, &r, err));
    if (r.last)
        TRY(sync_segment(w, r.last, r.last_end, err));
    for (size_t i = 0; i < f.count; i++) {
        last = MAX(last, f.numbers[i]);
        if (!is_live(w, f.numbers[i])) /* committed, or begun and never acknowledged */
            wal_segment_recycle(w, f.numbers[i]);
    }
    for (size_t i = 0; i < f.others_count; i++)
        spare_keep(w, mem_fmt("%s/%s", w->dir, f.others[i]));
    w->prev_number = r.last;
    w->prev_end = r.last_end;
    w->segment = last + 1;
    *bytes_cut = r.cut;
    return ERR_OK;
}
