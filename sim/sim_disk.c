#include "sim/sim_disk.h"

#include "base/banned.h"

#define SECTOR 512u

enum name_op_kind { NAME_ADD, NAME_DEL, NAME_MOVE };
struct disk_name_op {
    enum name_op_kind kind;
    struct sim_inode *dir, *to_dir, *inode;
    char *name, *to_name;
};
enum cut { CUT_NONE_KEPT, CUT_ALL_KEPT, CUT_PREFIX_KEPT, CUT_ANY_KEPT };

static enum cut cut_pick(struct rng *r)
{
    static const uint8_t often[] = {CUT_NONE_KEPT,   CUT_NONE_KEPT, CUT_ALL_KEPT, CUT_PREFIX_KEPT,
                                    CUT_PREFIX_KEPT, CUT_ANY_KEPT,  CUT_ANY_KEPT, CUT_ANY_KEPT};
    return (enum cut)often[rng_below(r, sizeof(often))];
}

/* ---- names */
static size_t dir_at(const struct disk_dir *dir, const char *name)
{
    size_t i = 0;
    while (i < dir->count && strcmp(dir->entries[i].name, name) != 0)
        i++;
    return i;
}

struct sim_inode *disk_dir_get(const struct disk_dir *dir, const char *name)
{
    size_t i = dir_at(dir, name);
    return i < dir->count ? dir->entries[i].inode : NULL;
}

static struct sim_inode *dir_set(struct disk_dir *dir, const char *name, struct sim_inode *inode)
{
    size_t i = dir_at(dir, name);
    struct sim_inode *old = NULL;

    if (i < dir->count) {
        old = dir->entries[i].inode;
        dir->entries[i].inode = inode;
    } else {
        *ARRAY_PUSH(dir->entries, dir->count, dir->cap) = (struct disk_entry){mem_str(slice_str(name)), inode};
    }
    return old;
}

static struct sim_inode *dir_del(struct disk_dir *dir, const char *name)
{
    size_t i = dir_at(dir, name);

    if (i == dir->count)
        return NULL;
    struct sim_inode *old = dir->entries[i].inode;
    free(dir->entries[i].name);
    dir->entries[i] = dir->entries[--dir->count];
    return old;
}

struct sim_inode *disk_find(struct sim_disk *d, const char *path)
{
    const char *name;

    if (!strcmp(path, "/") || !*path || !strcmp(path, "."))
        return d->root;
    struct sim_inode *dir = disk_parent(d, path, &name);
    return dir ? (*name ? disk_dir_get(&dir->now, name) : dir) : NULL;
}

struct sim_inode *disk_parent(struct sim_disk *d, const char *path, const char **name)
{
    struct sim_inode *dir = d->root;
    static char part[512];

    for (;;) {
        while (*path == '/')
            path++;
        size_t n = strcspn(path, "/");
        const char *rest = path + n;
        while (*rest == '/')
            rest++;
        if (!*rest) {
            /* A trailing slash is cut; the one static copy is safe as long as nobody waits while using it. */
            ASSERT(n < sizeof(part));
            memcpy(part, path, n);
            part[n] = 0;
            *name = part;
            return dir;
        }
        ASSERT(n < sizeof(part));
        memcpy(part, path, n);
        part[n] = 0;
        dir = disk_dir_get(&dir->now, part);
        if (!dir || !dir->is_dir)
            return NULL;
        path = rest;
    }
}

static void drop_link(struct sim_disk *d, struct sim_inode *inode)
{
    if (inode && --inode->links == 0 && !inode->opens && !inode->is_dir)
        d->bytes_used -= inode->seen.len;
}

void disk_name_add(struct sim_disk *d, struct sim_inode *dir, const char *name, struct sim_inode *inode)
{
    inode->links++;
    drop_link(d, dir_set(&dir->now, name, inode));
    *ARRAY_PUSH(d->name_ops, d->name_ops_count, d->name_ops_cap) =
        (struct disk_name_op){.kind = NAME_ADD, .dir = dir, .inode = inode, .name = mem_str(slice_str(name))};
}

void disk_name_del(struct sim_disk *d, struct sim_inode *dir, const char *name)
{
    struct sim_inode *inode = dir_del(&dir->now, name);

    drop_link(d, inode);
    *ARRAY_PUSH(d->name_ops, d->name_ops_count, d->name_ops_cap) =
        (struct disk_name_op){.kind = NAME_DEL, .dir = dir, .inode = inode, .name = mem_str(slice_str(name))};
}

void disk_name_move(struct sim_disk *d, struct sim_inode *from_dir, const char *from, struct sim_inode *to_dir,
                    const char *to)
{
    struct sim_inode *inode = dir_del(&from_dir->now, from);

    drop_link(d, dir_set(&to_dir->now, to, inode));
    *ARRAY_PUSH(d->name_ops, d->name_ops_count, d->name_ops_cap) =
        (struct disk_name_op){.kind = NAME_MOVE,
                              .dir = from_dir,
                              .to_dir = to_dir,
                              .inode = inode,
                              .name = mem_str(slice_str(from)),
                              .to_name = mem_str(slice_str(to))};
}

static void name_op_apply(const struct disk_name_op *op)
{
    if (op->kind != NAME_ADD)
        (void)dir_del(&op->dir->platter_dir, op->name);
    if (op->kind == NAME_ADD)
        (void)dir_set(&op->dir->platter_dir, op->name, op->inode);
    if (op->kind == NAME_MOVE)
        (void)dir_set(&op->to_dir->platter_dir, op->to_name, op->inode);
}

static void name_op_done(struct disk_name_op *op)
{
    free(op->name);
    free(op->to_name);
}

void disk_names_sync(struct sim_disk *d, const struct sim_inode *dir)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->name_ops_count; i++) {
        struct disk_name_op *op = &d->name_ops[i];
        if (op->dir == dir || op->to_dir == dir) {
            name_op_apply(op);
            name_op_done(op);
        } else {
            d->name_ops[kept++] = *op;
        }
    }
    d->name_ops_count = kept;
}

/* ---- bytes */
static void bytes_resize(struct disk_bytes *b, uint64_t size)
{
    if (size > b->cap) {
        b->cap = size > 4096 ? size + size / 4 : 4096;
        b->ptr = mem_realloc(b->ptr, b->cap);
    }
    if (size > b->len)
        memset(b->ptr + b->len, 0, size - b->len);
    b->len = size;
}

static void bytes_write(struct disk_bytes *b, const uint8_t *p, uint64_t len, uint64_t offset)
{
    if (offset + len > b->len)
        bytes_resize(b, offset + len);
    memcpy(b->ptr + offset, p, len);
}

bool disk_has_room(const struct sim_disk *d, const struct sim_inode *f, uint64_t end)
{
    uint64_t more = end > f->seen.len ? end - f->seen.len : 0;
    return !d->faults.bytes_max || d->bytes_used + more <= d->faults.bytes_max;
}

static void op_push(struct sim_inode *f, struct disk_op op)
{
    *ARRAY_PUSH(f->ops, f->ops_count, f->ops_cap) = op;
}

void disk_write(struct sim_disk *d, struct sim_inode *f, const void *p, size_t len, uint64_t offset)
{
    uint64_t before = f->seen.len;

    if (!len)
        return;
    bytes_write(&f->seen, p, len, offset);
    d->bytes_used += f->seen.len - before;
    uint8_t *copy = mem_alloc(len);
    memcpy(copy, p, len);
    op_push(f, (struct disk_op){offset, len, copy});
}

void disk_resize(struct sim_disk *d, struct sim_inode *f, uint64_t size)
{
    d->bytes_used += size - f->seen.len;
    bytes_resize(&f->seen, size);
    op_push(f, (struct disk_op){.offset = size});
}

static void op_apply(struct sim_inode *f, const struct disk_op *op)
{
    if (op->data)
        bytes_write(&f->platter, op->data, op->len, op->offset);
    else
        bytes_resize(&f->platter, op->offset);
}

/* Some sectors of a write, each by its own coin; a write that is not aligned shares its first and last with others. */
static void op_apply_torn(struct rng *r, struct sim_inode *f, const struct disk_op *op)
{
    if (!op->data) {
        if (rng_chance(r, 500))
            op_apply(f, op);
        return;
    }
    for (uint64_t at = op->offset, end = op->offset + op->len; at < end;) {
        uint64_t next = MIN((at / SECTOR + 1) * SECTOR, end);
        if (rng_chance(r, 500))
            bytes_write(&f->platter, op->data + (at - op->offset), next - at, at);
        at = next;
    }
}

static void ops_drop(struct sim_inode *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(f->ops[i].data);
    if (n)
        memmove(f->ops, f->ops + n, (f->ops_count - n) * sizeof(*f->ops));
    f->ops_count -= n;
    f->ops_gone += n;
}

uint64_t disk_sync_mark(const struct sim_inode *f)
{
    return f->ops_gone + f->ops_count;
}

static size_t ops_below(const struct sim_inode *f, uint64_t mark)
{
    return mark > f->ops_gone ? MIN((size_t)(mark - f->ops_gone), f->ops_count) : 0;
}

void disk_sync(struct sim_inode *f, uint64_t mark)
{
    size_t n = ops_below(f, mark);

    for (size_t i = 0; i < n; i++)
        op_apply(f, &f->ops[i]);
    ops_drop(f, n);
}

void disk_sync_failed(struct sim_disk *d, struct sim_inode *f, uint64_t mark)
{
    size_t n = ops_below(f, mark);

    for (size_t i = 0; i < n; i++)
        op_apply_torn(world_rng(d->world), f, &f->ops[i]);
    ops_drop(f, n);
}

/* ---- crash */
static void resolve_bytes(struct sim_disk *d, struct sim_inode *f, enum cut how)
{
    struct rng *r = world_rng(d->world);
    size_t keep = how == CUT_ALL_KEPT ? f->ops_count : how == CUT_PREFIX_KEPT ? rng_below(r, f->ops_count + 1) : 0;

    for (size_t i = 0; i < f->ops_count; i++) {
        if (how == CUT_ANY_KEPT || (how == CUT_PREFIX_KEPT && i == keep)) /* the write at the edge is torn */
            op_apply_torn(r, f, &f->ops[i]);
        else if (i < keep)
            op_apply(f, &f->ops[i]);
    }
    ops_drop(f, f->ops_count);
    bytes_resize(&f->seen, 0);
    if (f->platter.len)
        bytes_write(&f->seen, f->platter.ptr, f->platter.len, 0);
}

/* Is op `b` about a file or a name that `a` is about too? */
static bool ops_touch(const struct disk_name_op *a, const struct disk_name_op *b)
{
    const struct sim_inode *dirs[2][2] = {{a->dir, a->to_dir}, {b->dir, b->to_dir}};
    const char *names[2][2] = {{a->name, a->to_name}, {b->name, b->to_name}};

    if (a->inode && a->inode == b->inode)
        return true;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++)
            if (dirs[0][i] && dirs[0][i] == dirs[1][k] && !strcmp(names[0][i], names[1][k]))
                return true;
    return false;
}

/* Any subset that a journal could leave: what follows a lost operation on the same file or name is lost with it (a rename whose
 * predecessor is gone would give one file two names). */
static void resolve_any_names(struct sim_disk *d)
{
    struct rng *r = world_rng(d->world);
    bool *lost = mem_zalloc(d->name_ops_count + 1);

    for (size_t i = 0; i < d->name_ops_count; i++) {
        lost[i] = rng_chance(r, 500);
        for (size_t k = 0; k < i && !lost[i]; k++)
            lost[i] = lost[k] && ops_touch(&d->name_ops[k], &d->name_ops[i]);
        if (!lost[i])
            name_op_apply(&d->name_ops[i]);
    }
    free(lost);
}

static void resolve_names(struct sim_disk *d)
{
    struct rng *r = world_rng(d->world);
    enum cut how = cut_pick(r);
    size_t keep = how == CUT_ALL_KEPT      ? d->name_ops_count
                  : how == CUT_PREFIX_KEPT ? rng_below(r, d->name_ops_count + 1)
                                           : 0;

    if (how == CUT_ANY_KEPT)
        resolve_any_names(d);
    for (size_t i = 0; i < d->name_ops_count; i++) {
        if (i < keep)
            name_op_apply(&d->name_ops[i]);
        name_op_done(&d->name_ops[i]);
    }
    d->name_ops_count = 0;
}

static void count_links(struct sim_disk *d, struct sim_inode *dir)
{
    for (size_t i = 0; i < dir->now.count; i++) {
        struct sim_inode *f = dir->now.entries[i].inode;
        if (f->links++ == 0) {
            if (f->is_dir)
                count_links(d, f);
            else
                d->bytes_used += f->seen.len;
        }
    }
}

void sim_disk_kill(struct sim_disk *d)
{
    for (size_t i = 0; i < d->inodes_count; i++) {
        struct sim_inode *f = d->inodes[i];
        if (f->opens && !f->links && !f->is_dir)
            d->bytes_used -= f->seen.len;
        f->opens = 0;
        f->locked_by = NULL;
    }
}

void sim_disk_power_cut(struct sim_disk *d)
{
    struct rng *r = world_rng(d->world);
    enum cut all = cut_pick(r);
    bool one_way = rng_chance(r, 500);

    sim_disk_kill(d);
    resolve_names(d);
    for (size_t i = 0; i < d->inodes_count; i++) {
        struct sim_inode *f = d->inodes[i];
        f->links = 0;
        if (!f->is_dir) {
            resolve_bytes(d, f, one_way ? all : cut_pick(r));
            continue;
        }
        for (size_t k = 0; k < f->now.count; k++)
            free(f->now.entries[k].name);
        f->now.count = 0;
        for (size_t k = 0; k < f->platter_dir.count; k++)
            (void)dir_set(&f->now, f->platter_dir.entries[k].name, f->platter_dir.entries[k].inode);
    }
    d->bytes_used = 0;
    d->root->links = 1;
    count_links(d, d->root);
}

/* ---- life */
struct sim_inode *disk_inode_new(struct sim_disk *d, bool is_dir)
{
    struct sim_inode *f = mem_zalloc(sizeof(*f));

    f->is_dir = is_dir;
    f->mtime_us = world_now(d->world);
    *ARRAY_PUSH(d->inodes, d->inodes_count, d->inodes_cap) = f;
    return f;
}

struct sim_disk *sim_disk_new(struct world *w)
{
    struct sim_disk *d = mem_zalloc(sizeof(*d));

    d->world = w;
    d->root = disk_inode_new(d, true);
    d->root->links = 1;
    return d;
}

static struct sim_inode *inode_clone(struct sim_disk *to, const struct sim_inode *f)
{
    struct sim_inode *copy = disk_inode_new(to, f->is_dir);

    copy->mtime_us = f->mtime_us;
    if (f->platter.len) {
        bytes_write(&copy->platter, f->platter.ptr, f->platter.len, 0);
        bytes_write(&copy->seen, f->platter.ptr, f->platter.len, 0);
    }
    for (size_t i = 0; i < f->platter_dir.count; i++) { /* no file here has two names */
        struct sim_inode *inside = inode_clone(to, f->platter_dir.entries[i].inode);
        (void)dir_set(&copy->platter_dir, f->platter_dir.entries[i].name, inside);
        (void)dir_set(&copy->now, f->platter_dir.entries[i].name, inside);
    }
    return copy;
}

struct sim_disk *sim_disk_clone(const struct sim_disk *d)
{
    struct sim_disk *to = mem_zalloc(sizeof(*to));

    to->world = d->world;
    to->root = inode_clone(to, d->root);
    to->root->links = 1;
    count_links(to, to->root);
    return to;
}

struct sim_disk_faults *sim_disk_faults(struct sim_disk *d)
{
    return &d->faults;
}

void sim_disk_detach(struct sim_disk *d)
{
    d->attached++;
    sim_disk_kill(d);
}
