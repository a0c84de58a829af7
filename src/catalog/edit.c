#include "catalog/edit.h"

#include "base/banned.h"

struct removal {
    struct catalog *cat;
    struct head *h;
    int64_t from_us, to_us;
    file_match_fn match;
    void *arg;
    struct entry_list *removed;
};

static bool goes(const struct removal *r, const struct entry *e)
{
    return e->tmax_us >= r->from_us && e->tmin_us <= r->to_us && r->match(r->arg, e);
}

static void remove_inline(const struct removal *r)
{
    struct entry_list *l = &r->h->files;
    size_t kept = 0;

    for (size_t i = 0; i < l->count; i++) {
        struct entry *e = l->items[i];
        if (goes(r, e))
            entry_list_add(r->removed, e);
        else
            l->items[kept++] = e;
    }
    l->count = kept;
}

/* *touched: some file of it goes; then the others are inline now and the manifest leaves the head. */
static enum err_code remove_in_manifest(const struct removal *r, struct manifest *ref, bool *touched, struct err *err)
{
    struct entry_list kept = {0};
    size_t before = r->removed->count;
    const struct slm *m;
    bool whole;

    *touched = false;
    if (ref->tmax_us < r->from_us || ref->tmin_us > r->to_us)
        return ERR_OK;
    TRY(manifest_try(r->cat, r->h, ref, &m, &whole, err));
    for (uint32_t i = 0; whole && i < m->count; i++) {
        struct entry *e = slm_entry(m, i);
        entry_list_add(goes(r, e) ? r->removed : &kept, e);
    }
    *touched = r->removed->count > before;
    for (size_t i = 0; i < kept.count && *touched; i++)
        entry_list_add(&r->h->files, entry_ref(kept.items[i]));
    entry_list_done(&kept);
    return ERR_OK;
}

enum err_code head_remove(struct catalog *cat, struct head *h, int64_t from_us, int64_t to_us, file_match_fn match,
                          void *arg, struct entry_list *removed, struct err *err)
{
    struct removal r = {cat, h, from_us, to_us, match, arg, removed};
    size_t kept = 0;
    enum err_code rc = ERR_OK;

    remove_inline(&r);
    for (size_t i = 0; i < h->manifests_count; i++) {
        bool touched = false;
        if (rc == ERR_OK)
            rc = remove_in_manifest(&r, h->manifests[i], &touched, err);
        if (touched)
            manifest_unref(h->manifests[i]);
        else
            h->manifests[kept++] = h->manifests[i];
    }
    h->manifests_count = kept;
    return rc; /* after an error the copy of the head is thrown away */
}

enum err_code head_each(struct catalog *cat, struct head *h,
                        enum err_code (*fn)(void *arg, struct entry *e, struct err *err), void *arg, struct err *err)
{
    const struct slm *m;
    bool whole;

    for (size_t i = 0; i < h->files.count; i++)
        TRY(fn(arg, h->files.items[i], err));
    for (size_t i = 0; i < h->manifests_count; i++) {
        TRY(manifest_try(cat, h, h->manifests[i], &m, &whole, err));
        for (uint32_t k = 0; whole && k < m->count; k++) {
            _cleanup_(entry_unrefp) struct entry *e = slm_entry(m, k);
            TRY(fn(arg, e, err));
        }
    }
    return ERR_OK;
}
