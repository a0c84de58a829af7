#include "catalog/sweep.h"

#include "base/mutant.h"

#include "base/banned.h"

struct sweep {
    struct catalog *cat;
    slice name;
    const struct sid *sid;
    struct buf dir;
    const struct classify_options *opt;
    struct objects *out;
    struct map by_path;  /* data files and manifests still without a class -> struct object index + 1 */
    uint64_t head_first; /* those below were looked at, or are gone */
    uint64_t *heads;     /* slots of heads, ascending */
    size_t heads_count, heads_cap;
    struct map manifests; /* paths already looked into, tail's ones first */
};

void objects_done(struct objects *o)
{
    free(o->items);
    arena_done(&o->arena);
    *o = (struct objects){0};
}

static bool is_data(slice path)
{
    struct file_name f;
    return slice_starts(path, slice_lit("date=")) && file_name_parse(path, &f);
}

/* A manifest or a pack of filters: heads alone name them. */
static bool is_meta(slice path, uint64_t *head_slot)
{
    return slice_starts(path, slice_lit("_meta/")) &&
           (manifest_name_parse(slice_from(path, 6), head_slot) || filter_name_parse(slice_from(path, 6), head_slot));
}

/* ---- 1 candidates */

static bool note(void *arg, const struct store_list_item *item)
{
    struct sweep *w = arg;
    slice path = slice_from(item->key, w->dir.len);
    uint64_t slot;

    if (w->opt->skip && map_get(w->opt->skip, path))
        return true;
    struct object *o = ARRAY_PUSH(w->out->items, w->out->count, w->out->cap);
    *o = (struct object){arena_copy(&w->out->arena, path), item->meta.size, item->meta.modified_us, OBJECT_UNKNOWN};
    if (is_data(path) || is_meta(path, &slot))
        o->class = OBJECT_GARBAGE; /* until something names it */
    else if (slice_starts(path, slice_lit("_import/")) && slot_number(slice_from(path, 8), &slot))
        o->class = OBJECT_LIVE; /* what was imported: it goes with the stream */
    else if (slice_starts(path, slice_lit("_head/")) && slot_number(slice_from(path, 6), &slot))
        o->class = OBJECT_RETAINED; /* the tail is found below */
    return true;
}

static void index_paths(struct sweep *w)
{
    for (size_t i = 0; i < w->out->count; i++)
        if (w->out->items[i].class == OBJECT_GARBAGE)
            map_put(&w->by_path, w->out->items[i].path, (void *)(uintptr_t)(i + 1));
}

static struct object *object_at(struct sweep *w, slice path)
{
    uintptr_t i = (uintptr_t)map_get(&w->by_path, path);
    return i ? &w->out->items[i - 1] : NULL;
}

/* ---- 2 lanes: a file's name says which slot may name it */

/* What a dry run pretends of a lane. */
static const struct lane_gc *lane_after(const struct sweep *w, slice lane)
{
    for (size_t i = 0; w->opt->lanes && i < w->opt->lanes->count; i++)
        if (slice_eq(slice_str(w->opt->lanes->items[i].name), lane))
            return &w->opt->lanes->items[i];
    return NULL;
}

static enum err_code lane_tail(struct sweep *w, slice lane, uint64_t *tail, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    const struct lane_gc *after = lane_after(w, lane);

    seq_lane(&seq, lane);
    TRY(seq_find_tail(&w->cat->io, buf_view(&seq), SLOT_NONE, tail, err));
    if (after && after->sealed && *tail != SLOT_NONE)
        ++*tail;
    return ERR_OK;
}

static enum err_code lane_names(struct sweep *w, slice lane, uint64_t slot, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot s = {0};
    slice sid, path;
    json_t *o;
    size_t i;

    const struct lane_gc *after = lane_after(w, lane);
    if (after && slot < after->first)
        return ERR_OK;
    seq_lane(&seq, lane);
    enum err_code rc = seq_read(&w->cat->io, buf_view(&seq), SLOT_LANE, slot, &s, err);
    if (rc == ERR_NOT_FOUND) /* collected: heads have it, or nobody */
        return ERR_OK;
    TRY(rc);
    json_array_foreach (json_object_get(s.body, "files"), i, o) {
        if (!json_get_text(o, "sid", &sid) || !json_get_text(o, "path", &path) || !slice_eq(sid, sid_slice(w->sid)))
            continue;
        struct object *have = object_at(w, path);
        if (have && have->class == OBJECT_GARBAGE)
            have->class = OBJECT_LIVE;
    }
    return ERR_OK;
}

struct candidate {
    struct file_name name;
    struct object *object;
};

static int by_lane(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int c = slice_cmp(x->name.lane, y->name.lane);
    return c ? c : (x->name.slot > y->name.slot) - (x->name.slot < y->name.slot);
}

static enum err_code look_at_lanes(struct sweep *w, struct err *err)
{
    _cleanup_(freep) struct candidate *c = mem_alloc((w->out->count + 1) * sizeof(*c));
    size_t n = 0;
    uint64_t tail = SLOT_NONE;

    for (size_t i = 0; i < w->out->count; i++)
        if (w->out->items[i].class == OBJECT_GARBAGE && file_name_parse(w->out->items[i].path, &c[n].name) &&
            c[n].name.lane.len)
            c[n++].object = &w->out->items[i];
    if (n)
        qsort(c, n, sizeof(*c), by_lane);
    for (size_t i = 0; i < n; i++) {
        bool first = i == 0 || !slice_eq(c[i].name.lane, c[i - 1].name.lane);
        if (first)
            TRY(lane_tail(w, c[i].name.lane, &tail, err));
        if (tail == SLOT_NONE || c[i].name.slot > tail) {
            if (!MUTANT(9))
                c[i].object->class = OBJECT_LIMBO; /* R7 */
            continue;
        }
        if (first || c[i].name.slot != c[i - 1].name.slot)
            TRY(lane_names(w, c[i].name.lane, c[i].name.slot, err));
    }
    return ERR_OK;
}

/* ---- 3 heads */

static bool head_item(void *arg, const struct store_list_item *item)
{
    struct sweep *w = arg;
    uint64_t slot;

    if (slot_number(slice_from(item->key, w->dir.len + 6), &slot) && slot >= w->head_first)
        *ARRAY_PUSH(w->heads, w->heads_count, w->heads_cap) = slot;
    return true;
}

static void named(struct sweep *w, slice path, bool tail)
{
    struct object *o = object_at(w, path);

    if (o && (o->class == OBJECT_GARBAGE || (tail && o->class != OBJECT_LIVE)))
        o->class = tail ? OBJECT_LIVE : OBJECT_RETAINED;
}

static enum err_code manifest_names(struct sweep *w, struct manifest *ref, bool tail, struct err *err)
{
    const struct slm *m;

    named(w, ref->path, tail);
    if (map_get(&w->manifests, ref->path))
        return ERR_OK;
    TRY(manifest_load(w->cat->store, buf_view(&w->dir), ref, &m, err));
    for (uint32_t i = 0; i < m->count; i++) {
        _cleanup_(buf_done) struct buf path = BUF_INIT;
        slm_path(m, i, &path);
        named(w, buf_view(&path), tail);
    }
    map_put(&w->manifests, arena_copy(&w->out->arena, ref->path), w);
    return ERR_OK;
}

/* *out NULL: collected meanwhile, and all below it. */
static enum err_code head_names(struct sweep *w, uint64_t slot, bool tail, struct head **out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot s = {0};
    _cleanup_(head_unrefp) struct head *h = NULL;

    *out = NULL;
    seq_head(&seq, w->name, w->sid);
    enum err_code rc = seq_read(&w->cat->io, buf_view(&seq), SLOT_HEAD, slot, &s, err);
    if (rc == ERR_NOT_FOUND && !tail)
        return ERR_OK;
    TRY(rc);
    TRY(head_decode(&s, NULL, &h, err));
    for (size_t i = 0; i < h->files.count; i++)
        named(w, h->files.items[i]->path, tail);
    for (size_t i = 0; i < h->manifests_count; i++)
        TRY(manifest_names(w, h->manifests[i], tail, err));
    for (size_t i = 0; i < h->filters_count && !MUTANT(36); i++)
        named(w, h->filters[i]->path, tail);
    *out = move_ptr(h);
    return ERR_OK;
}

static bool claim_is_active(const struct head *h, uint64_t slot)
{
    for (size_t i = 0; i < h->claims_count; i++)
        if (h->claims[i].slot == slot)
            return true;
    return false;
}

/* Head `h` does not name it: can only an older head have named it, as its record was folded by then, its claim over, its manifest's head
 * decided? Else only a younger one can. */
static bool came_before(const struct object *o, const struct head *h)
{
    struct file_name f;
    uint64_t slot;

    if (MUTANT(34))
        return true;
    if (is_meta(o->path, &slot))
        return slot <= h->slot;
    if (!file_name_parse(o->path, &f))
        return true;
    if (f.lane.len == 0)
        return f.slot < h->slot && !claim_is_active(h, f.slot);
    uint64_t wm = head_wm_get(h, f.lane);
    return wm != SLOT_NONE && f.slot <= wm;
}

static size_t still_open(struct object **o, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (o[i]->class == OBJECT_GARBAGE)
            o[kept++] = o[i];
    return kept;
}

/* Those that came before `h` first; how many they are. */
static size_t divide(struct object **o, size_t n, const struct head *h)
{
    size_t before = 0;

    for (size_t i = 0; i < n; i++)
        if (came_before(o[i], h)) {
            struct object *swap = o[before];
            o[before++] = o[i];
            o[i] = swap;
        }
    return before;
}

/* Which of `o` do the heads [lo, hi) name? The heads that name an object follow one another, as nothing is listed again once it was taken out:
 * a head that does not name it says on which side of it to look. Reading all of an hour's heads would cost hundreds of requests a stream. */
static enum err_code look_between(struct sweep *w, struct object **o, size_t n, size_t lo, size_t hi, struct err *err)
{
    while (n && lo < hi) {
        _cleanup_(head_unrefp) struct head *h = NULL;
        size_t mid = lo + (hi - lo) / 2, before = 0;
        TRY(head_names(w, w->heads[mid], false, &h, err));
        if (h) {
            n = still_open(o, n);
            before = divide(o, n, h);
            TRY(look_between(w, o, before, lo, mid, err));
        }
        o += before;
        n -= before;
        lo = mid + 1;
    }
    return ERR_OK;
}

/* Outputs of claims that are active, manifests of heads that are not decided, the tail head itself. */
static void spare_undecided(struct sweep *w, const struct head *head)
{
    uint64_t tail = head ? head->slot : SLOT_NONE, slot;
    struct file_name f;

    for (size_t i = 0; i < w->out->count; i++) {
        struct object *o = &w->out->items[i];
        if (o->class == OBJECT_RETAINED && slice_starts(o->path, slice_lit("_head/")) &&
            slot_number(slice_from(o->path, 6), &slot))
            o->class = slot == tail ? OBJECT_LIVE : OBJECT_RETAINED;
        if (o->class != OBJECT_GARBAGE)
            continue;
        if (is_meta(o->path, &slot)) {
            if (tail == SLOT_NONE || slot > tail)
                o->class = OBJECT_LIMBO;
            continue;
        }
        if (!file_name_parse(o->path, &f) || f.lane.len)
            continue;
        bool active = !head || f.slot > tail || claim_is_active(head, f.slot);
        if (active)
            o->class = OBJECT_LIMBO;
    }
}

/* A second look is at the heads that were made since: an object that no older one names can come in these alone. */
static enum err_code look_at_heads(struct sweep *w, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(freep) struct object **open = mem_alloc((w->out->count + 1) * sizeof(*open));
    _cleanup_(head_unrefp) struct head *tail = NULL;

    seq_head(&seq, w->name, w->sid);
    w->heads_count = 0;
    TRY(w->cat->store->ops->list(w->cat->store, buf_view(&seq), slice_lit(""), true, head_item, w, err));
    if (w->heads_count == 0 && w->head_first > w->opt->head_first)
        return ERR_OK;
    if (w->heads_count)
        TRY(head_names(w, w->heads[w->heads_count - 1], true, &tail, err));
    spare_undecided(w, tail);
    if (!tail)
        return ERR_OK;
    w->head_first = tail->slot + 1;
    for (size_t i = 0; i < w->out->count; i++)
        open[i] = &w->out->items[i];
    size_t n = divide(open, still_open(open, w->out->count), tail);
    return look_between(w, open, n, 0, w->heads_count - 1, err);
}

static bool any_open(const struct sweep *w)
{
    for (size_t i = 0; i < w->out->count; i++)
        if (w->out->items[i].class == OBJECT_GARBAGE)
            return true;
    return false;
}

/* Lanes, then heads (R6). What heads name already when we come is spared before that: records are many, one for each flush of an hour. */
static enum err_code classify(struct sweep *w, struct err *err)
{
    struct store *store = w->cat->store;

    TRY(store->ops->list(store, buf_view(&w->dir), slice_lit(""), false, note, w, err));
    if (w->opt->skip && !any_open(w))
        return ERR_OK;
    index_paths(w);
    TRY(look_at_heads(w, err));
    if (any_open(w))
        TRY(look_at_lanes(w, err));
    if (any_open(w) && !MUTANT(8))
        TRY(look_at_heads(w, err));
    return ERR_OK;
}

enum err_code objects_classify(struct catalog *cat, slice name, const struct sid *sid,
                               const struct classify_options *opt, struct objects *out, struct err *err)
{
    struct sweep w = {.cat = cat, .name = name, .sid = sid, .opt = opt, .out = out, .head_first = opt->head_first};

    *out = (struct objects){0};
    stream_dir_put(&w.dir, name, sid);
    enum err_code rc = classify(&w, err);
    buf_done(&w.dir);
    map_done(&w.by_path);
    map_done(&w.manifests);
    free(w.heads);
    if (rc != ERR_OK)
        objects_done(out);
    return rc;
}
