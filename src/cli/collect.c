/* collect.c: `sluice catalog gc`: one round of what a server does in time, now, or only the list of what it would delete. */
#include <inttypes.h>

#include "cli/store_int.h"
#include "cli/term.h"

#include "base/banned.h"

#define SHOWN_AFTER_US 500000
#define SHOWN_EVERY_US 200000

/* Objects of one folder that go for one reason. A round tells of them one after the other, a folder perhaps twice. */
struct group {
    slice folder;
    enum gc_reason why;
    uint64_t objects, bytes;
};
struct collecting {
    struct arena arena;
    struct gc_item *items;
    size_t count, cap;
    struct group *groups;
    size_t groups_count, groups_cap;
    uint64_t bytes;
    int64_t start_us, shown_us;
};

static void show(struct collecting *c, slice folder)
{
    int64_t now = os_mono_us(os_real());
    _cleanup_(buf_done) struct buf at = BUF_INIT;

    if (now - c->start_us < SHOWN_AFTER_US || now - c->shown_us < SHOWN_EVERY_US)
        return;
    c->shown_us = now;
    (void)term_text(&at, folder, 60);
    progress_show("%zu objects; at %s", c->count, buf_cstr(&at));
}

static void at(void *arg, slice folder)
{
    show(arg, folder);
}

static struct group *group_of(struct collecting *c, const struct gc_item *item)
{
    for (size_t i = c->groups_count; i-- > 0 && slice_eq(c->groups[i].folder, item->folder);)
        if (c->groups[i].why == item->why)
            return &c->groups[i];
    struct group *g = ARRAY_PUSH(c->groups, c->groups_count, c->groups_cap);
    *g = (struct group){.folder = item->folder, .why = item->why};
    return g;
}

static void tell(void *arg, const struct gc_item *item)
{
    struct collecting *c = arg;
    struct gc_item *kept = ARRAY_PUSH(c->items, c->count, c->cap);

    *kept = *item;
    kept->key = arena_copy(&c->arena, item->key);
    kept->folder = slice_head(kept->key, item->folder.len); /* which it begins with */
    struct group *g = group_of(c, kept);
    g->objects++;
    g->bytes += item->bytes;
    c->bytes += item->bytes;
    show(c, kept->folder);
}

static void collecting_done(struct collecting *c)
{
    free(c->items);
    free(c->groups);
    arena_done(&c->arena);
}

static void print_table(const struct collecting *c, bool dry_run, bool keys)
{
    const slice names[] = {keys ? slice_lit("key") : slice_lit("folder"), slice_lit("why"),
                           keys ? slice_lit("bytes") : slice_lit("objects"), slice_lit("bytes")};
    struct table *t = table_new(stdout, term_width(stdout), names, keys ? 3 : 4);
    struct arena a = ARENA_INIT;

    for (size_t i = 0; keys && i < c->count; i++) {
        const struct cell cells[] = {{CELL_TEXT, c->items[i].key},
                                     {CELL_TEXT, slice_str(gc_reason_text(c->items[i].why))},
                                     {CELL_NUMBER, slice_str(arena_fmt(&a, "%" PRIu64, c->items[i].bytes))}};
        table_row(t, cells);
    }
    for (size_t i = 0; !keys && i < c->groups_count; i++) {
        const struct group *g = &c->groups[i];
        const struct cell cells[] = {{CELL_TEXT, g->folder},
                                     {CELL_TEXT, slice_str(gc_reason_text(g->why))},
                                     {CELL_NUMBER, slice_str(arena_fmt(&a, "%" PRIu64, g->objects))},
                                     {CELL_NUMBER, slice_str(arena_fmt(&a, "%" PRIu64, g->bytes))}};
        table_row(t, cells);
    }
    table_end(t);
    arena_done(&a);
    printf("%s %zu objects, %" PRIu64 " bytes\n", dry_run ? "would remove" : "removed", c->count, c->bytes);
}

static void put_sums(struct buf *out, uint64_t objects, uint64_t bytes)
{
    buf_fmt(out, "\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64, objects, bytes);
}

static void put_item(struct buf *out, const struct gc_item *item)
{
    buf_str(out, "{\"key\":");
    buf_json_str(out, item->key);
    buf_fmt(out, ",\"bytes\":%" PRIu64 ",\"why\":\"%s\"}", item->bytes, gc_reason_text(item->why));
}

/* One object: {"dry_run":..,"folders":[{"folder":..,"objects":..,"bytes":..,"garbage":[{"key":..,"bytes":..,"why":..}]}],"total":{..}} */
static void print_json(const struct collecting *c, bool dry_run)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT, list = BUF_INIT;

    buf_fmt(&out, "{\"dry_run\":%s,\"folders\":[", dry_run ? "true" : "false");
    for (size_t i = 0; i < c->count;) {
        slice folder = c->items[i].folder;
        uint64_t objects = 0, bytes = 0;
        list.len = 0;
        buf_str(&out, i ? ",{\"folder\":" : "{\"folder\":");
        buf_json_str(&out, folder);
        for (; i < c->count && slice_eq(c->items[i].folder, folder); i++, objects++) {
            buf_str(&list, objects ? "," : "");
            put_item(&list, &c->items[i]);
            bytes += c->items[i].bytes;
        }
        buf_byte(&out, ',');
        put_sums(&out, objects, bytes);
        buf_str(&out, ",\"garbage\":[");
        buf_slice(&out, buf_view(&list));
        buf_str(&out, "]}");
    }
    buf_str(&out, "],\"total\":{");
    put_sums(&out, c->count, c->bytes);
    printf("%s}}\n", buf_cstr(&out));
}

/* As fsck --repair: a reader looks, a writer holds the lock of the data folder. */
static enum err_code collect(struct cli *cli, bool dry_run, struct collecting *c, struct err *err)
{
    const struct gc_options opt = {.dry_run = dry_run, .whole = true, .tell = tell, .at = at, .arg = c};
    _cleanup_(store_freep) struct store *store = NULL;
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    struct catalog_work w = {0};

    TRY(cli_catalog_open(cli, !dry_run, &store, &cat, err));
    return catalog_collect(cat, &opt, &w, err);
}

int run_catalog_gc(struct cli *cli)
{
    struct collecting c = {.start_us = os_mono_us(os_real())};
    struct os_file *lock = NULL;
    struct err err = {0};
    bool table, dry_run = cli_on(cli, "dry-run");

    if (!cli_wants_table(cli, &table))
        return EXIT_USAGE;
    enum err_code rc = dry_run ? ERR_OK : cli_lock_data(cli, &lock, &err);
    if (rc == ERR_OK)
        rc = collect(cli, dry_run, &c, &err);
    progress_clear();
    if (rc == ERR_OK && table)
        print_table(&c, dry_run, cli_on(cli, "keys"));
    else if (rc == ERR_OK)
        print_json(&c, dry_run);
    collecting_done(&c);
    os_real()->ops->close(os_real(), lock);
    return rc == ERR_OK ? EXIT_DONE : cli_fail("%s", err.msg);
}
