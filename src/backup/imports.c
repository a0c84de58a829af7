/* imports.c: the lists of what was imported (import/ledger.h) that belong to a cut.
 *
 * A list grows while a backup runs: "files" before the DATA record that commits them, "done" after it. A point whose list has a "done" for what its
 * cut does not hold would keep those files from ever being imported; one that lacks the "files" of what it holds would get them twice. So the lists are looked
 * at before the cut and after it:
 *   I1  what was there before is in the point. A "done" among it is of records that the cut has, as they were committed before.
 *   I2  of what came since, "files" are in it, unless of a lane that the cut does not know; "done" is not. The next import on the restored store finds
 *       a run without an end, and the lane as it was at the cut decides what of it is there (L3).
 * A stream that an import is not known of costs nothing (cut_imported()). */
#include <inttypes.h>

#include "backup/backup_int.h"
#include "base/hash.h"
#include "base/map.h"

#include "base/banned.h"

#define RECORD_BYTES_MAX (UINT64_C(16) << 20) /* ledger.c */

struct list {
    slice dir; /* "<enc-name>/<sid>/_import/" */
    uint64_t *slots;
    size_t count, cap;
};
struct imports {
    struct store *from;
    struct point *point;
    struct map before; /* dir -> number of the last record + 1 */
    struct arena arena;
    size_t cap;
};

static bool list_item(void *arg, const struct store_list_item *item)
{
    struct list *l = arg;
    uint64_t slot;

    if (!item->is_prefix && slot_number(slice_from(item->key, l->dir.len), &slot))
        *ARRAY_PUSH(l->slots, l->count, l->cap) = slot;
    return true;
}

static enum err_code list_read(struct imports *im, const struct cut_stream *s, struct list *out, struct err *err)
{
    struct buf dir = BUF_INIT;

    name_encode(s->name, &dir);
    buf_fmt(&dir, "/%s/_import/", s->sid.text);
    *out = (struct list){.dir = arena_copy(&im->arena, buf_view(&dir))};
    buf_done(&dir);
    enum err_code rc = im->from->ops->list(im->from, out->dir, slice_lit(""), true, list_item, out, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* ---- before the cut */

static enum err_code look_before(struct imports *im, const struct cut *c, struct err *err)
{
    for (size_t i = 0; i < c->streams_count; i++) {
        struct list l = {0};
        if (!cut_imported(c->streams[i].version))
            continue;
        enum err_code rc = list_read(im, &c->streams[i], &l, err);
        if (l.count)
            (void)map_put(&im->before, l.dir, (void *)(uintptr_t)(l.slots[l.count - 1] + 1));
        free(l.slots);
        TRY(rc);
    }
    return ERR_OK;
}

/* ---- after it */

/* What is no record is taken as it is: whoever reads it will say so. */
static bool belongs(const struct imports *im, slice bytes)
{
    json_t *o = json_loadb((const char *)bytes.ptr, bytes.len, JSON_ALLOW_NUL, NULL);
    const struct cut *c = &im->point->cut;
    bool in = !o;
    slice text;

    if (o && json_get_text(o, "type", &text) && slice_eq(text, slice_lit("files")) && json_get_text(o, "lane", &text))
        for (size_t i = 0; i < c->lanes_count; i++)
            in |= slice_eq(slice_str(c->lanes[i].name), text);
    json_decref(o);
    return in;
}

static enum err_code record_add(struct imports *im, const struct list *l, uint64_t slot, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT, bytes = BUF_INIT;
    struct point *p = im->point;
    uint64_t before = (uintptr_t)map_get(&im->before, l->dir);

    slot_key(&key, l->dir, slot);
    TRY(im->from->ops->read(im->from, buf_view(&key), 0, RECORD_BYTES_MAX, &bytes, NULL, err));
    if (slot >= before && !belongs(im, buf_view(&bytes)))
        return ERR_OK;
    *ARRAY_PUSH(p->imports, p->imports_count, im->cap) =
        (struct point_record){arena_copy(&p->cut.arena, buf_view(&key)), bytes.len, crc32c(0, bytes.ptr, bytes.len)};
    return ERR_OK;
}

static enum err_code look_after(struct imports *im, struct err *err)
{
    const struct cut *c = &im->point->cut;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < c->streams_count && rc == ERR_OK; i++) {
        struct list l = {0};
        if (!cut_imported(c->streams[i].version))
            continue;
        rc = list_read(im, &c->streams[i], &l, err);
        for (size_t k = 0; k < l.count && rc == ERR_OK; k++)
            rc = record_add(im, &l, l.slots[k], err);
        free(l.slots);
    }
    return rc;
}

/* One ending for all: the point's arena. */
static void own(struct point *p)
{
    struct point_record *owned = arena_alloc(&p->cut.arena, (p->imports_count + 1) * sizeof(*owned));

    for (size_t i = 0; i < p->imports_count; i++)
        owned[i] = p->imports[i];
    free(p->imports);
    p->imports = owned;
}

static bool any_imported(const struct cut *c)
{
    for (size_t i = 0; i < c->streams_count; i++)
        if (cut_imported(c->streams[i].version))
            return true;
    return false;
}

enum err_code imports_cut(struct catalog *cat, struct store *from, struct point *out, struct err *err)
{
    struct imports im = {.from = from, .point = out};

    TRY(cut_take(cat, &out->cut, err));
    if (!any_imported(&out->cut))
        return ERR_OK;
    enum err_code rc = look_before(&im, &out->cut, err);
    cut_done(&out->cut);
    if (rc == ERR_OK)
        rc = cut_take(cat, &out->cut, err);
    if (rc == ERR_OK)
        rc = look_after(&im, err);
    own(out);
    map_done(&im.before);
    arena_done(&im.arena);
    return rc;
}
