#include <inttypes.h>

#include "backup/backup_int.h"

#include "base/banned.h"

#define LOOK_TRIES_MAX 10
#define LOOK_PAUSE_US 300000

/* ---- what a place is */

static void text_copy(const json_t *o, const char *key, char *out, size_t size)
{
    slice text;

    if (!json_get_text(o, key, &text) || text.len >= size)
        return;
    memcpy(out, text.ptr, text.len);
    out[text.len] = 0;
}

enum err_code place_look(const struct seq_io *io, struct place *out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};

    *out = (struct place){.tail = SLOT_NONE};
    seq_cluster(&seq);
    enum err_code rc = seq_read_tail(io, buf_view(&seq), SLOT_CLUSTER, &slot, err);
    if (rc == ERR_NOT_FOUND || (rc == ERR_OK && slot.seq == SLOT_NONE))
        return ERR_OK;
    TRY(rc);
    out->tail = slot.seq;
    out->nonce = slot.nonce;
    out->done = json_object_get(slot.body, CLUSTER_CLOSED) == NULL;
    text_copy(slot.body, "backup_of", out->backup_of, sizeof(out->backup_of));
    text_copy(slot.body, "restore_of", out->restore_of, sizeof(out->restore_of));
    json_t *streams = json_object_get(slot.body, "streams");
    if (streams)
        json_put(&out->streams, streams);
    return ERR_OK;
}

void place_done(struct place *p)
{
    buf_done(&p->streams);
}

/* What a probe of the place left, when it was killed, is nothing. */
static bool first_key(void *arg, const struct store_list_item *item)
{
    if (slice_starts(item->key, slice_lit(".sluice/probe/")))
        return true;
    buf_slice(arg, item->key);
    return false;
}

enum err_code place_empty(struct store *s, const char *what, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    enum err_code rc = s->ops->list(s, slice_lit(""), slice_lit(""), false, first_key, &key, err);

    if (rc == ERR_OK && key.len)
        return err_set(err, ERR_INVALID, "%s, and this one is not: there is %s", what, buf_cstr(&key));
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

enum err_code place_append(const struct seq_io *io, const struct place *p, slice body, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct append a = {.kind = APPEND_NAME, .type = SLOT_CLUSTER, .tail = {p->tail, p->nonce}, .body = body};

    seq_cluster(&seq);
    a.seq = buf_view(&seq);
    seq_nonce(io, &a.nonce);
    return seq_append(io, &a, err);
}

/* ---- catalogs */

enum err_code look_open(struct os *os, struct store *s, catalog_damage_fn bad, void *arg, struct catalog **out,
                        struct err *err)
{
    const struct catalog_options opt = {.shards = 4, .endpoint = "", .on_damage = bad, .damage_arg = arg};

    for (int tries = 1;; tries++) {
        enum err_code rc = catalog_open(os, s, &opt, out, err);
        if (rc != ERR_UNAVAILABLE || tries == LOOK_TRIES_MAX) /* folders were too fast */
            return rc;
        os->ops->sleep_us(os, LOOK_PAUSE_US);
    }
}

/* ---- points */

void seq_points(struct buf *out)
{
    buf_str(out, ".sluice/backup/");
}

enum err_code points_append(const struct seq_io *io, const struct seq_tail *tail, slice body, struct nonce *nonce,
                            struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct append a = {.kind = APPEND_NAME, .type = SLOT_POINT, .tail = *tail, .body = body};

    seq_points(&seq);
    a.seq = buf_view(&seq);
    seq_nonce(io, nonce);
    a.nonce = *nonce;
    return seq_append(io, &a, err);
}

static enum err_code tail_read(const struct seq_io *io, struct seq_tail *out, enum note *note, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};

    seq_points(&seq);
    enum err_code rc = seq_read_tail(io, buf_view(&seq), SLOT_POINT, &slot, err);
    if (rc == ERR_NOT_FOUND) /* a folder without that folder */
        slot.seq = SLOT_NONE;
    else
        TRY(rc);
    *note = slot.seq == SLOT_NONE ? NOTE_NONE : point_note(&slot);
    *out = (struct seq_tail){slot.seq, slot.nonce};
    return ERR_OK;
}

enum err_code points_tail(const struct seq_io *io, struct seq_tail *out, struct err *err)
{
    enum note note;

    TRY(tail_read(io, out, &note, err));
    return note == NOTE_BEGIN
               ? err_set(err, ERR_CONFLICT,
                         "a removal of points is going on there, or was interrupted: wait for it, or run "
                         "`sluice backup rm PLACE`, which ends it")
               : ERR_OK;
}

enum err_code points_since(const struct seq_io *io, struct seq_tail *tail, bool *removed, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct seq_tail now;
    enum note note;

    seq_points(&seq);
    TRY(tail_read(io, &now, &note, err));
    *removed = now.slot == SLOT_NONE;
    for (uint64_t n = tail->slot + 1; !*removed && n <= now.slot; n++) { /* SLOT_NONE + 1 is 0 */
        _cleanup_(slot_done) struct slot slot = {0};
        enum err_code rc = seq_read(io, buf_view(&seq), SLOT_POINT, n, &slot, err);
        *removed = rc == ERR_NOT_FOUND || (rc == ERR_OK && point_note(&slot) != NOTE_NONE);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND)
            return rc;
    }
    *tail = now;
    return ERR_OK;
}

struct numbers {
    size_t prefix;
    uint64_t *items;
    size_t count, cap;
};

static bool number_item(void *arg, const struct store_list_item *item)
{
    struct numbers *n = arg;
    uint64_t number;

    if (!item->is_prefix && slot_number(slice_from(item->key, n->prefix), &number))
        *ARRAY_PUSH(n->items, n->count, n->cap) = number;
    return true;
}

/* Notes leave the list. One that cannot be read stays: whoever reads it says so. */
static enum err_code notes_drop(const struct seq_io *io, slice seq, struct numbers *n, struct err *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < n->count; i++) {
        _cleanup_(slot_done) struct slot slot = {0};
        enum err_code rc = seq_read(io, seq, SLOT_POINT, n->items[i], &slot, err);
        if (rc == ERR_NOT_FOUND || (rc == ERR_OK && point_note(&slot) != NOTE_NONE))
            continue;
        if (rc != ERR_OK && rc != ERR_CORRUPT && rc != ERR_INVALID)
            return rc;
        n->items[kept++] = n->items[i];
    }
    n->count = kept;
    return ERR_OK;
}

enum err_code points_list(const struct seq_io *io, uint64_t **out, size_t *count, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(place_done) struct place place;
    struct numbers n = {0};

    TRY(place_look(io, &place, err));
    if (!place.backup_of[0])
        return err_set(err, ERR_INVALID, "there are no backups: name the place that `sluice backup` was given");
    seq_points(&seq);
    n.prefix = seq.len;
    enum err_code rc = io->store->ops->list(io->store, buf_view(&seq), slice_lit(""), true, number_item, &n, err);
    if (rc == ERR_NOT_FOUND)
        rc = ERR_OK;
    if (rc == ERR_OK)
        rc = notes_drop(io, buf_view(&seq), &n, err);
    if (rc != ERR_OK) {
        free(n.items);
        return rc;
    }
    *out = n.items;
    *count = n.count;
    return ERR_OK;
}

static enum err_code point_choose(const struct seq_io *io, uint64_t number, uint64_t *out, struct err *err)
{
    _cleanup_(freep) uint64_t *all = NULL;
    size_t count = 0;

    TRY(points_list(io, &all, &count, err));
    if (!all || count == 0)
        return err_set(err, ERR_NOT_FOUND, "no backup was finished here: run `sluice backup` again, it goes on");
    for (size_t i = 0; i < count; i++)
        if (all[i] == number || (number == SLOT_NONE && i == count - 1)) {
            *out = all[i];
            return ERR_OK;
        }
    return err_set(err, ERR_NOT_FOUND, "there is no point %" PRIu64 ": `sluice backup ls` lists them", number);
}

enum err_code point_read(const struct seq_io *io, uint64_t number, struct point *out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};

    if (number == SLOT_NONE)
        TRY(point_choose(io, number, &number, err));
    seq_points(&seq);
    enum err_code rc = seq_read(io, buf_view(&seq), SLOT_POINT, number, &slot, err);
    if (rc == ERR_NOT_FOUND) /* says it better, or that there are no backups */
        TRY(point_choose(io, number, &number, err));
    TRY(rc);
    rc = point_decode(&slot, out, err);
    if (rc != ERR_OK)
        (void)err_wrap(err, "%s%020" PRIu64, buf_cstr(&seq), number);
    return rc;
}

enum err_code point_open(struct os *os, struct store *place, struct point *p, catalog_damage_fn bad, void *arg,
                         struct store **view, struct catalog **cat, struct err *err)
{
    *view = point_view_new(place, p);
    TRY(look_open(os, *view, bad, arg, cat, err));
    for (size_t i = 0; i < p->cut.streams_count; i++) {
        struct cut_stream *s = &p->cut.streams[i];
        enum err_code rc = catalog_by_sid(*cat, &s->sid, &s->version, err);
        if (rc != ERR_OK) {
            (void)err_wrap(err, "stream " SLICE_FMT " of point %" PRIu64, SLICE_ARG(s->name), p->number);
            return rc;
        }
    }
    return ERR_OK;
}
