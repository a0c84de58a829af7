#include "import/ledger.h"

#include <inttypes.h>

#include "catalog/names.h"
#include "codec/json_dom.h"

#include "base/banned.h"

#define RECORD_BYTES_MAX (UINT64_C(16) << 20)
#define CREATE_TRIES_MAX 8

struct ledger_record {
    size_t run;
    uint64_t segment;
    slice *paths;
    size_t count;
};

void ledger_done(struct ledger *l)
{
    free(l->dir);
    free(l->runs);
    free(l->records);
    map_done(&l->taken);
    arena_done(&l->arena);
    *l = (struct ledger){0};
}

/* ---- reading */

static slice text_at(const struct json_value *o, const char *key)
{
    const struct json_value *v = json_dom_get(o, key);
    return v && v->kind == DOM_STRING ? v->string : (slice){NULL, 0};
}

static bool number_at(const struct json_value *o, const char *key, uint64_t *out)
{
    const struct json_value *v = json_dom_get(o, key);

    if (!v || v->kind != DOM_NUMBER || v->num.kind != JSON_INT || v->num.i < 0)
        return false;
    *out = (uint64_t)v->num.i;
    return true;
}

static bool copy_text(char *out, size_t size, slice s)
{
    if (s.len == 0 || s.len >= size)
        return false;
    memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    return true;
}

static size_t run_of(struct ledger *l, slice wal_id)
{
    for (size_t i = 0; i < l->runs_count; i++)
        if (slice_eq(slice_str(l->runs[i].id.wal_id), wal_id))
            return i;
    return l->runs_count;
}

static bool take_files(struct ledger *l, const struct json_value *o)
{
    const struct json_value *list = json_dom_get(o, "files");
    struct ledger_run run = {0};
    struct ledger_record r;

    if (!list || list->kind != DOM_ARRAY || !number_at(o, "segment", &r.segment) ||
        !copy_text(run.id.wal_id, sizeof(run.id.wal_id), text_at(o, "wal")) ||
        !copy_text(run.id.lane, sizeof(run.id.lane), text_at(o, "lane")) ||
        !copy_text(run.id.session, sizeof(run.id.session), text_at(o, "session")))
        return false;
    r.run = run_of(l, slice_str(run.id.wal_id));
    if (r.run == l->runs_count)
        *ARRAY_PUSH(l->runs, l->runs_count, l->runs_cap) = run;
    r.count = list->count;
    r.paths = arena_alloc(&l->arena, (r.count + 1) * sizeof(*r.paths));
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != DOM_STRING)
            return false;
        r.paths[i] = arena_copy(&l->arena, list->items[i].string);
    }
    *ARRAY_PUSH(l->records, l->records_count, l->records_cap) = r;
    return true;
}

static bool take_record(struct ledger *l, const struct json_value *o)
{
    slice type = text_at(o, "type");
    uint64_t upto;

    if (slice_eq(type, slice_lit("files")))
        return take_files(l, o);
    size_t run = run_of(l, text_at(o, "wal"));
    if (!slice_eq(type, slice_lit("done")) || !number_at(o, "upto", &upto) || run == l->runs_count)
        return false;
    l->runs[run].done = true;
    l->runs[run].upto = upto;
    return true;
}

static void record_key(const struct ledger *l, uint64_t slot, struct buf *out)
{
    slot_key(out, slice_str(l->dir), slot);
}

static enum err_code read_record(struct ledger *l, uint64_t slot, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT, bytes = BUF_INIT;
    _cleanup_(arena_done) struct arena tree = ARENA_INIT;
    struct json_value o;

    record_key(l, slot, &key);
    TRY(l->store->ops->read(l->store, buf_view(&key), 0, RECORD_BYTES_MAX, &bytes, NULL, err));
    if (json_dom_parse(buf_view(&bytes), &tree, &o, err) != ERR_OK || !take_record(l, &o))
        return err_set(err, ERR_CORRUPT, "%s is no record of an import", buf_cstr(&key));
    return ERR_OK;
}

struct listing {
    struct ledger *ledger;
    uint64_t *slots;
    size_t count, cap;
};

static bool list_item(void *arg, const struct store_list_item *item)
{
    struct listing *l = arg;
    uint64_t slot;

    if (!item->is_prefix && slot_number(slice_from(item->key, strlen(l->ledger->dir)), &slot))
        *ARRAY_PUSH(l->slots, l->count, l->cap) = slot;
    return true;
}

enum err_code ledger_open(struct store *store, slice stream_dir, struct ledger *out, struct err *err)
{
    struct ledger l = {.store = store};
    struct listing found = {.ledger = &l};

    l.dir = mem_fmt(SLICE_FMT "_import/", SLICE_ARG(stream_dir));
    enum err_code rc = store->ops->list(store, slice_str(l.dir), slice_lit(""), true, list_item, &found, err);
    for (size_t i = 0; rc == ERR_OK && i < found.count; i++) {
        rc = read_record(&l, found.slots[i], err);
        l.next = found.slots[i] + 1;
    }
    free(found.slots);
    if (rc != ERR_OK)
        ledger_done(&l);
    else
        *out = l;
    return rc;
}

void ledger_settle(struct ledger *l)
{
    for (size_t i = 0; i < l->records_count; i++) {
        const struct ledger_record *r = &l->records[i];
        if (!l->runs[r->run].done || r->segment > l->runs[r->run].upto)
            continue;
        for (size_t k = 0; k < r->count; k++)
            (void)map_put(&l->taken, r->paths[k], l);
    }
}

/* ---- appending */

/* A create without a clear answer is decided by reading back; the bytes name this run. */
static enum err_code append(struct ledger *l, slice bytes, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    enum err_code rc = ERR_UNAVAILABLE;

    record_key(l, l->next, &key);
    for (int i = 0; i < CREATE_TRIES_MAX && rc != ERR_OK; i++) {
        _cleanup_(buf_done) struct buf found = BUF_INIT;
        rc = l->store->ops->create(l->store, buf_view(&key), bytes, err);
        if (rc != ERR_CONFLICT && rc != ERR_UNKNOWN)
            continue;
        enum err_code look = l->store->ops->read(l->store, buf_view(&key), 0, RECORD_BYTES_MAX, &found, NULL, NULL);
        if (look == ERR_OK && slice_eq(buf_view(&found), bytes))
            rc = ERR_OK;
        else if (look == ERR_OK)
            return err_set(err, ERR_CONFLICT,
                           "another import is at work on this stream: run this again when it has ended");
    }
    TRY(rc);
    l->next++;
    return ERR_OK;
}

enum err_code ledger_files(struct ledger *l, const struct lane_identity *id, uint64_t segment, const slice *paths,
                           size_t count, struct err *err)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    buf_str(&b, "{\"files\":[");
    for (size_t i = 0; i < count; i++) {
        buf_str(&b, i ? "," : "");
        buf_json_str(&b, paths[i]);
    }
    buf_fmt(&b, "],\"lane\":\"%s\",\"segment\":%" PRIu64 ",\"session\":\"%s\",\"type\":\"files\",\"wal\":\"%s\"}",
            id->lane, segment, id->session, id->wal_id);
    return append(l, buf_view(&b), err);
}

enum err_code ledger_end(struct ledger *l, slice wal_id, uint64_t upto, struct err *err)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    buf_fmt(&b, "{\"type\":\"done\",\"upto\":%" PRIu64 ",\"wal\":\"" SLICE_FMT "\"}", upto, SLICE_ARG(wal_id));
    return append(l, buf_view(&b), err);
}
