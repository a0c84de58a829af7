#include "catalog/append.h"

#include <inttypes.h>

#include "base/mutant.h"

#include "base/banned.h"

#define BACKOFF_US_MIN 50000
#define BACKOFF_US_MAX 10000000
#define GIVE_UP_US 30000000 /* while nothing can have happened */

void seq_nonce(const struct seq_io *io, struct nonce *out)
{
    io->os->ops->random(io->os, out->bytes, sizeof(out->bytes));
}

struct tail_scan {
    slice seq;
    uint64_t tail;
};

static bool tail_item(void *arg, const struct store_list_item *item)
{
    struct tail_scan *scan = arg;
    uint64_t slot;

    if (!item->is_prefix && slot_number(slice_from(item->key, scan->seq.len), &slot))
        scan->tail = slot; /* byte order of 20 digits is the order of numbers */
    return true;
}

/* Mutant 15: a tail found by GET stops at the first hole that the collector left. */
static enum err_code probe_tail(const struct seq_io *io, slice seq, uint64_t after, uint64_t *out, struct err *err)
{
    uint64_t tail = SLOT_NONE;

    for (uint64_t slot = after + 1;; slot++) { /* SLOT_NONE + 1 is 0 */
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        struct store_meta meta;
        slot_key(&key, seq, slot);
        enum err_code rc = io->store->ops->stat(io->store, buf_view(&key), &meta, err);
        if (rc == ERR_NOT_FOUND)
            break;
        TRY(rc);
        tail = slot;
    }
    *out = tail;
    return ERR_OK;
}

enum err_code seq_find_tail(const struct seq_io *io, slice seq, uint64_t after, uint64_t *out, struct err *err)
{
    struct tail_scan scan = {seq, SLOT_NONE};
    _cleanup_(buf_done) struct buf from = BUF_INIT;

    if (MUTANT(15))
        return probe_tail(io, seq, after, out, err);
    if (after != SLOT_NONE)
        slot_key(&from, seq, after);
    TRY(io->store->ops->list(io->store, seq, buf_view(&from), true, tail_item, &scan, err));
    *out = scan.tail;
    return ERR_OK;
}

enum err_code seq_read(const struct seq_io *io, slice seq, enum slot_type type, uint64_t slot, struct slot *out,
                       struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    slot_key(&key, seq, slot);
    TRY(io->store->ops->read(io->store, buf_view(&key), 0, UINT64_MAX, &bytes, NULL, err));
    enum err_code rc = slot_decode(buf_view(&bytes), type, slot, out, err);
    if (rc != ERR_OK)
        (void)err_wrap(err, "%s", buf_cstr(&key));
    return rc;
}

enum err_code seq_read_tail(const struct seq_io *io, slice seq, enum slot_type type, struct slot *out, struct err *err)
{
    bool of_object;

    return seq_read_tail_at(io, seq, type, SLOT_NONE, out, &of_object, err);
}

enum err_code seq_read_tail_at(const struct seq_io *io, slice seq, enum slot_type type, uint64_t listed,
                               struct slot *out, bool *of_object, struct err *err)
{
    uint64_t tail = listed;

    *of_object = false;
    for (int tries = 0;; tries++) {
        if (tries || listed == SLOT_NONE)
            TRY(seq_find_tail(io, seq, SLOT_NONE, &tail, err));
        if (tail == SLOT_NONE) {
            *out = (struct slot){.type = type, .seq = SLOT_NONE};
            return ERR_OK;
        }
        enum err_code rc = seq_read(io, seq, type, tail, out, err);
        *of_object = rc != ERR_OK;
        if (rc != ERR_NOT_FOUND || tries == 3) /* between LIST and GET it may stop being the tail and go */
            return rc;
        *of_object = false;
    }
}

/* Does slot `slot` hold our nonce (or, for the slot after ours, name it as its predecessor)? */
static enum err_code look(const struct seq_io *io, const struct append *a, uint64_t slot, bool as_prev, bool *mine,
                          struct err *err)
{
    struct slot s;

    *mine = false;
    enum err_code rc = seq_read(io, a->seq, a->type, slot, &s, err);
    if (rc == ERR_NOT_FOUND)
        return ERR_OK;
    TRY(rc);
    *mine = nonce_eq(as_prev ? &s.prev : &s.nonce, &a->nonce);
    slot_done(&s);
    return ERR_OK;
}

/* The tail is above our slot: is our record on the chain that leads to it? What `carried` of the tail says is no answer: another session
 * of the same WAL (the disk moved, this process does not know) may have committed our segment, in files of its own. Nor is our nonce
 * in our slot: that may be a ghost. */
static enum err_code decide_below(const struct seq_io *io, const struct append *a, uint64_t slot, bool *ours,
                                  struct err *err)
{
    *ours = false;
    switch (a->kind) {
    case APPEND_NAME: return look(io, a, slot, false, ours, err);
    case APPEND_OPEN: return ERR_OK;
    case APPEND_DATA:
    case APPEND_OTHER: return look(io, a, slot + 1, true, ours, err);
    }
    return ERR_OK;
}

/* LIST decides (R2). *again: nothing is there, PUT once more. */
static enum err_code decide(const struct seq_io *io, const struct append *a, uint64_t slot, bool created, bool *again,
                            bool *ours, struct err *err)
{
    uint64_t tail;

    *again = *ours = false;
    TRY(seq_find_tail(io, a->seq, a->tail.slot, &tail, err));
    if (tail == SLOT_NONE) {
        *again = true;
        return ERR_OK;
    }
    if (tail > slot)
        return decide_below(io, a, slot, ours, err);
    *ours = created;
    return created ? ERR_OK : look(io, a, slot, false, ours, err);
}

static bool transient(enum err_code rc)
{
    return rc == ERR_UNAVAILABLE || rc == ERR_UNKNOWN || rc == ERR_TIMEOUT || rc == ERR_NOT_FOUND;
}

static void back_off(const struct seq_io *io, int64_t *span)
{
    uint64_t r;

    io->os->ops->random(io->os, &r, sizeof(r)); /* full jitter */
    io->os->ops->sleep_us(io->os, 1000 + (int64_t)(r % (uint64_t)*span));
    *span = MIN(*span * 2, BACKOFF_US_MAX);
}

/* Repeats until the store answered 2xx or 412 (*created says which), or nothing can have happened for too long. */
static enum err_code put(const struct seq_io *io, const struct append *a, slice key, slice bytes, bool *undecided,
                         bool *created, struct err *err)
{
    int64_t span = BACKOFF_US_MIN, until = os_mono_us(io->os) + GIVE_UP_US;

    for (;;) {
        enum err_code rc = io->store->ops->create(io->store, key, bytes, err);
        *created = rc == ERR_OK;
        if (rc == ERR_OK || rc == ERR_CONFLICT)
            return ERR_OK;
        *undecided |= rc == ERR_UNKNOWN || rc == ERR_TIMEOUT;
        if (MUTANT(2) && a->kind == APPEND_DATA && *undecided)
            return rc;
        if (!transient(rc) && !(rc == ERR_LIMIT && *undecided))
            return rc;
        if (!*undecided && os_mono_us(io->os) > until)
            return rc;
        back_off(io, &span);
    }
}

enum err_code seq_append(const struct seq_io *io, const struct append *a, struct err *err)
{
    uint64_t slot = a->tail.slot + 1; /* SLOT_NONE + 1 is 0 */
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    bool undecided = false, created, again, ours;
    int64_t span = BACKOFF_US_MIN;

    if (a->body.len > SLOT_BODY_BYTES_MAX)
        return err_set(err, ERR_LIMIT, SLICE_FMT ": a slot body of %zu bytes", SLICE_ARG(a->seq), a->body.len);
    slot_key(&key, a->seq, slot);
    slot_encode(a->type, slot, &a->nonce, a->tail.slot == SLOT_NONE ? NULL : &a->tail.nonce, a->body, &bytes);
    for (;;) {
        TRY(put(io, a, buf_view(&key), buf_view(&bytes), &undecided, &created, err));
        undecided = true;
        if (MUTANT(1) && created)
            return ERR_OK;
        if (MUTANT(14) && !created && look(io, a, slot, false, &ours, err) == ERR_OK && ours)
            return ERR_OK;
        enum err_code rc;
        while ((rc = decide(io, a, slot, created, &again, &ours, err)) != ERR_OK) {
            if (!transient(rc) && rc != ERR_LIMIT) /* no descriptor is free, say */
                return rc;
            back_off(io, &span);
        }
        if (again) {
            back_off(io, &span);
            continue;
        }
        return ours ? ERR_OK : err_set(err, ERR_CONFLICT, "%s: another writer was first", buf_cstr(&key));
    }
}
