/* catalog.c: `sluice catalog ...`: looks at a store folder without a server. Reading opens the folder as a reader of the catalog protocol,
 * which many may be at one time, so a running server does not mind; only `fsck --repair` and `gc` write, and take the server's lock first. */
#include "cli/store_int.h"

#include <inttypes.h>
#include <jansson.h>

#include "base/hash.h"
#include "catalog/filter.h"
#include "catalog/head.h"
#include "catalog/manifest.h"
#include "catalog/names.h"
#include "catalog/slot.h"
#include "cli/http.h"
#include "cli/term.h"
#include "os/os.h"
#include "store/store.h"

#include "base/banned.h"

#define CHUNK_BYTES (1u << 20)

bool cli_wants_table(const struct cli *cli, bool *table)
{
    static const char *const formats[] = {"table", "json"};
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return false;
    *table = cli_value(cli, "output") ? format == 0 : term_is(stdout);
    return true;
}

static bool found_one(void *arg, const struct store_list_item *item)
{
    (void)item;
    *(bool *)arg = true;
    return false;
}

/* As a reader; a place without `.sluice` is somebody else's. */
static enum err_code open_reader(const struct cli *cli, struct store **out, struct err *err)
{
    _cleanup_(store_freep) struct store *store = NULL;
    bool ours = false;

    enum err_code rc = cli_store_open(&cli->config, config_text(&cli->config, SET_STORE), true, &store, err);
    if (rc == ERR_OK)
        rc = store->ops->list(store, slice_lit(".sluice/"), (slice){0}, false, found_one, &ours, err);
    if (rc == ERR_NOT_FOUND || (rc == ERR_OK && !ours))
        return err_set(err, ERR_NOT_FOUND,
                       "%s is no store of Sluice: name the folder of a server with --data, or its store with --store",
                       config_text(&cli->config, SET_STORE));
    TRY(rc);
    *out = store;
    store = NULL;
    return ERR_OK;
}

static void tell_damage(void *arg, slice stream, enum catalog_damage kind, const char *why)
{
    (void)arg;
    if (kind != DAMAGE_OVER)
        (void)cli_fail("stream " SLICE_FMT "%s: %s", SLICE_ARG(stream),
                       kind == DAMAGE_STREAM ? " is out of service" : "", why);
}

static enum err_code open_catalog(struct store *store, struct catalog **out, struct err *err)
{
    const struct catalog_options opt = {
        .shards = 4, .snapshot_retention_us = INT64_C(3600000000), .endpoint = "", .on_damage = tell_damage};
    return catalog_open(os_real(), store, &opt, out, err);
}

enum err_code cli_catalog_open(const struct cli *cli, bool to_write, struct store **store, struct catalog **out,
                               struct err *err)
{
    _cleanup_(store_freep) struct store *reader = NULL, *writer = NULL;

    TRY(open_reader(cli, &reader, err)); /* a writer makes a store where there is none */
    if (to_write)
        TRY(cli_store_open(&cli->config, config_text(&cli->config, SET_STORE), false, &writer, err));
    TRY(open_catalog(to_write ? writer : reader, out, err));
    *store = to_write ? move_ptr(writer) : move_ptr(reader);
    return ERR_OK;
}

/* ---- what a key names */

enum object_kind { KIND_SLOT, KIND_MANIFEST, KIND_FILTERS, KIND_DATA, KIND_OTHER };
struct object_name {
    enum object_kind kind;
    enum slot_type type;
    uint64_t seq;
};

static slice last_element(slice key)
{
    const uint8_t *slash = key.len ? memrchr(key.ptr, '/', key.len) : NULL;
    return slash ? slice_from(key, (size_t)(slash - key.ptr) + 1) : key;
}

static bool has(slice key, const char *part)
{
    return key.len && memmem(key.ptr, key.len, part, strlen(part)) != NULL;
}

static struct object_name object_of(slice key)
{
    struct object_name o = {.kind = KIND_OTHER};
    static const struct {
        const char *prefix;
        enum slot_type type;
    } prefixes[] = {{".sluice/cluster/", SLOT_CLUSTER},
                    {".sluice/names/", SLOT_NAME},
                    {".sluice/lanes/", SLOT_LANE},
                    {".sluice/shards/", SLOT_CHECKPOINT}};

    if (slice_ends(key, slice_lit(".slm")))
        o.kind = KIND_MANIFEST;
    else if (slice_ends(key, slice_lit(".slf")))
        o.kind = KIND_FILTERS;
    else if (slice_ends(key, slice_lit(".parquet")))
        o.kind = KIND_DATA;
    if (!slot_number(last_element(key), &o.seq))
        return o;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (slice_starts(key, slice_str(prefixes[i].prefix))) {
            o.kind = KIND_SLOT;
            o.type = has(key, "/lease/") ? SLOT_LEASE : prefixes[i].type;
        }
    if (has(key, "/_head/")) {
        o.kind = KIND_SLOT;
        o.type = SLOT_HEAD;
    }
    return o;
}

static const char *kind_text(const struct object_name *o)
{
    static const char *const slots[] = {"?",         "cluster slot",    "name slot",  "head slot",
                                        "lane slot", "checkpoint slot", "lease slot", "backup point"};

    switch (o->kind) {
    case KIND_SLOT: return slots[o->type];
    case KIND_MANIFEST: return "manifest";
    case KIND_FILTERS: return "filters";
    case KIND_DATA: return "data file";
    default: return "other";
    }
}

/* ---- list of keys */

struct keys {
    struct arena arena;
    struct key {
        slice key;
        uint64_t size;
    } * items;
    size_t count, cap;
};

static bool add_key(void *arg, const struct store_list_item *item)
{
    struct keys *k = arg;

    *ARRAY_PUSH(k->items, k->count, k->cap) = (struct key){arena_copy(&k->arena, item->key), item->meta.size};
    return !interrupted();
}

static enum err_code keys_all(struct store *store, struct keys *out, struct err *err)
{
    ASSERT(store);
    return store->ops->list(store, slice_lit(""), slice_lit(""), false, add_key, out, err);
}

static void keys_done(struct keys *k)
{
    free(k->items);
    arena_done(&k->arena);
}

static enum err_code print_keys(struct store *store, bool table, struct err *err)
{
    _cleanup_(keys_done) struct keys keys = {0};
    const slice names[] = {slice_lit("key"), slice_lit("what"), slice_lit("bytes")};

    TRY(keys_all(store, &keys, err));
    struct table *t = table ? table_new(stdout, term_width(stdout), names, 3) : NULL;
    for (size_t i = 0; i < keys.count; i++) {
        struct object_name o = object_of(keys.items[i].key);
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        if (table) {
            buf_fmt(&b, "%" PRIu64, keys.items[i].size);
            const struct cell cells[] = {
                {CELL_TEXT, keys.items[i].key}, {CELL_TEXT, slice_str(kind_text(&o))}, {CELL_NUMBER, buf_view(&b)}};
            table_row(t, cells);
            continue;
        }
        buf_str(&b, "{\"key\":");
        buf_json_str(&b, keys.items[i].key);
        buf_fmt(&b, ",\"what\":\"%s\",\"bytes\":%" PRIu64 "}\n", kind_text(&o), keys.items[i].size);
        (void)fwrite(b.ptr, 1, b.len, stdout);
    }
    table_end(t);
    return ERR_OK;
}

/* ---- one object */

static enum err_code put_slot(slice bytes, const struct object_name *o, struct buf *out, struct err *err)
{
    _cleanup_(slot_done) struct slot slot = {0};
    char nonce[33], prev[33];

    TRY(slot_decode(bytes, o->type, o->seq, &slot, err));
    nonce_hex(&slot.nonce, nonce);
    nonce_hex(&slot.prev, prev);
    buf_fmt(out, "{\"what\":\"%s\",\"slot\":%" PRIu64 ",\"version\":%u,\"nonce\":\"%s\",\"prev\":\"%s\",\"body\":",
            kind_text(o), slot.seq, slot.version, nonce, prev);
    json_put(out, slot.body);
    buf_byte(out, '}');
    return ERR_OK;
}

static enum err_code put_manifest(slice bytes, struct buf *out, struct err *err)
{
    struct slm m;

    TRY(slm_decode(bytes, &m, err));
    buf_fmt(out,
            "{\"what\":\"manifest\",\"head_slot\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64
            ",\"tmin\":%" PRId64 ",\"tmax\":%" PRId64 ",\"files\":[",
            m.head_slot, m.rows, m.bytes, m.tmin_us, m.tmax_us);
    for (uint32_t i = 0; i < m.count; i++) {
        _cleanup_(entry_unrefp) struct entry *e = slm_entry(&m, i);
        buf_str(out, i ? "," : "");
        entry_put(out, e, NULL, (slice){NULL, 0});
    }
    buf_str(out, "]}");
    return ERR_OK;
}

static enum err_code put_filters(slice bytes, struct buf *out, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct slf s;

    TRY(slf_check(bytes, err));
    TRY(slf_decode(slice_head(bytes, le32_get(bytes.ptr + 8)), &arena, &s, err));
    buf_fmt(out, "{\"what\":\"filters\",\"head_slot\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"groups\":[", s.head_slot,
            s.file_len);
    for (uint32_t i = 0; i < s.groups_count; i++)
        buf_fmt(out, "%s{\"field\":%" PRIu32 ",\"filter_bytes\":%" PRIu64 ",\"files\":%" PRIu32 "}", i ? "," : "",
                s.groups[i].field_id, (uint64_t)s.groups[i].blocks * 32, s.groups[i].members);
    buf_str(out, "],\"files\":[");
    for (uint32_t i = 0; i < s.files; i++) {
        buf_str(out, i ? "," : "");
        buf_json_str(out, slf_path(&s, i));
    }
    buf_str(out, "]}");
    return ERR_OK;
}

static int print_pretty(const struct buf *json)
{
    json_error_t fault;
    json_t *v = json_loadb((const char *)json->ptr, json->len, JSON_ALLOW_NUL, &fault);

    if (!v) { /* deeper or odder than this library takes: as it is */
        (void)fwrite(json->ptr, 1, json->len, stdout);
        (void)fputc('\n', stdout);
        return EXIT_DONE;
    }
    (void)json_dumpf(v, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
    json_decref(v);
    return EXIT_DONE;
}

static enum err_code print_object(struct store *store, slice key, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT, out = BUF_INIT;
    struct object_name o = object_of(key);

    ASSERT(store);
    TRY(store->ops->read(store, key, 0, UINT64_MAX, &bytes, NULL, err));
    if (o.kind == KIND_SLOT) {
        TRY(put_slot(buf_view(&bytes), &o, &out, err));
    } else if (o.kind == KIND_MANIFEST) {
        TRY(put_manifest(buf_view(&bytes), &out, err));
    } else if (o.kind == KIND_FILTERS) {
        TRY(put_filters(buf_view(&bytes), &out, err));
    } else if (o.kind == KIND_DATA) {
        return err_set(err, ERR_INVALID,
                       SLICE_FMT " is a Parquet file: read it with sluice query, or with any Parquet reader",
                       SLICE_ARG(key));
    } else if (slice_ends(key, slice_lit(".json"))) {
        buf_slice(&out, buf_view(&bytes));
    } else {
        return err_set(err, ERR_INVALID, SLICE_FMT " is no object of the catalog", SLICE_ARG(key));
    }
    (void)print_pretty(&out);
    return ERR_OK;
}

int run_catalog_cat(struct cli *cli)
{
    _cleanup_(store_freep) struct store *store = NULL;
    struct err err = {0};
    bool table;

    if (!cli_wants_table(cli, &table))
        return EXIT_USAGE;
    enum err_code rc = open_reader(cli, &store, &err);
    if (rc == ERR_OK)
        rc = cli->args_count ? print_object(store, slice_str(cli->args[0]), &err) : print_keys(store, table, &err);
    return rc == ERR_OK ? EXIT_DONE : cli_fail("%s", err.msg);
}

/* ---- verify */

struct damage {
    slice key, why;
};
struct verifying {
    struct store *store;
    struct arena arena;
    struct damage *bad;
    size_t bad_count, bad_cap;
    uint64_t slots, manifests, filters, files, bytes, bytes_total;
    int64_t start_us, shown_us;
};

static void found_bad(struct verifying *v, slice key, const char *why)
{
    *ARRAY_PUSH(v->bad, v->bad_count, v->bad_cap) =
        (struct damage){arena_copy(&v->arena, key), arena_copy(&v->arena, slice_str(why))};
}

static void show_verify(struct verifying *v, const char *what)
{
    int64_t now = os_mono_us(os_real());
    _cleanup_(buf_done) struct buf done = BUF_INIT, total = BUF_INIT;

    if (now - v->start_us < 500000 || now - v->shown_us < 200000)
        return;
    v->shown_us = now;
    print_amount(&done, (double)v->bytes, "B");
    print_amount(&total, (double)v->bytes_total, "B");
    if (v->bytes_total)
        progress_show("%s: %s of %s", what, buf_cstr(&done), buf_cstr(&total));
    else
        progress_show("%s: %" PRIu64, what, v->slots + v->manifests + v->filters);
}

/* Objects of the catalog check themselves; one that is gone by now was collected by a server. */
static enum err_code verify_object(struct verifying *v, slice key, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT, out = BUF_INIT;
    struct object_name o = object_of(key);
    struct err why = {0};

    if (o.kind != KIND_SLOT && o.kind != KIND_MANIFEST && o.kind != KIND_FILTERS)
        return ERR_OK;
    enum err_code rc = v->store->ops->read(v->store, key, 0, UINT64_MAX, &bytes, NULL, err);
    if (rc == ERR_NOT_FOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    if ((o.kind == KIND_SLOT      ? put_slot(buf_view(&bytes), &o, &out, &why)
         : o.kind == KIND_FILTERS ? put_filters(buf_view(&bytes), &out, &why)
                                  : put_manifest(buf_view(&bytes), &out, &why)) != ERR_OK)
        found_bad(v, key, why.msg);
    v->slots += o.kind == KIND_SLOT;
    v->manifests += o.kind == KIND_MANIFEST;
    v->filters += o.kind == KIND_FILTERS;
    show_verify(v, "objects");
    return interrupted() ? err_set(err, ERR_CANCELLED, "interrupted") : ERR_OK;
}

static enum err_code verify_file(struct verifying *v, const struct plan_file *f, struct err *err)
{
    _cleanup_(buf_done) struct buf chunk = BUF_INIT;
    uint64_t size = 0;
    uint32_t crc = 0;

    do {
        chunk.len = 0;
        enum err_code rc = v->store->ops->read(v->store, f->key, size, CHUNK_BYTES, &chunk, NULL, err);
        if (rc == ERR_NOT_FOUND) {
            found_bad(v, f->key, "it is missing");
            return ERR_OK;
        }
        if (rc != ERR_OK) {
            found_bad(v, f->key, err->msg);
            return ERR_OK;
        }
        crc = crc32c(crc, chunk.ptr, chunk.len);
        size += chunk.len;
        v->bytes += chunk.len;
        show_verify(v, "data files");
        if (interrupted())
            return err_set(err, ERR_CANCELLED, "interrupted");
    } while (chunk.len == CHUNK_BYTES);
    v->files++;
    if (size != f->bytes)
        found_bad(v, f->key, "its length is not what the catalog says");
    else if (crc != f->crc32c)
        found_bad(v, f->key, "its checksum is not what the catalog says");
    return ERR_OK;
}

struct versions {
    struct stream_version **items;
    size_t count, cap;
};

static bool add_version(void *arg, struct stream_version *version)
{
    struct versions *v = arg;
    *ARRAY_PUSH(v->items, v->count, v->cap) = stream_version_ref(version);
    return true;
}

static enum err_code each_plan(struct verifying *v, const struct versions *all, bool count_only, struct err *err)
{
    for (size_t i = 0; i < all->count; i++) {
        struct plan plan;
        enum err_code rc = stream_version_plan(all->items[i], INT64_MIN, INT64_MAX, NULL, 0, &plan, err);
        for (size_t k = 0; rc == ERR_OK && k < plan.count; k++) {
            if (count_only)
                v->bytes_total += plan.files[k].bytes;
            else
                rc = verify_file(v, &plan.files[k], err);
        }
        plan_done(&plan);
        TRY(rc);
    }
    return ERR_OK;
}

static enum err_code verify_files(struct verifying *v, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    struct versions all = {0};

    TRY(open_catalog(v->store, &cat, err));
    enum err_code rc = catalog_list(cat, add_version, &all, err);
    if (rc == ERR_OK)
        rc = each_plan(v, &all, true, err);
    if (rc == ERR_OK)
        rc = each_plan(v, &all, false, err);
    for (size_t i = 0; i < all.count; i++)
        stream_version_unref(all.items[i]);
    free(all.items);
    return rc;
}

/* The catalog's own objects first: without them nobody knows which files there should be. */
static enum err_code verify(struct verifying *v, struct err *err)
{
    _cleanup_(keys_done) struct keys keys = {0};

    TRY(keys_all(v->store, &keys, err));
    for (size_t i = 0; i < keys.count; i++)
        TRY(verify_object(v, keys.items[i].key, err));
    enum err_code rc = verify_files(v, err);
    if (rc == ERR_OK || rc == ERR_CANCELLED || v->bad_count == 0)
        return rc;
    progress_clear();
    (void)cli_fail("data files were not all checked: %s", err->msg);
    return ERR_OK; /* the damage that is the cause is reported */
}

static void print_verify(const struct verifying *v, bool table)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT, size = BUF_INIT;

    if (table) {
        for (size_t i = 0; i < v->bad_count; i++) {
            b.len = 0;
            (void)term_text(&b, v->bad[i].key, 0);
            buf_str(&b, ": ");
            (void)term_text(&b, v->bad[i].why, 0);
            printf("damaged  %s\n", buf_cstr(&b));
        }
        print_amount(&size, (double)v->bytes, "B");
        printf("%" PRIu64 " slots, %" PRIu64 " manifests, %" PRIu64 " packs of filters, %" PRIu64
               " data files (%s): %zu damaged\n",
               v->slots, v->manifests, v->filters, v->files, buf_cstr(&size), v->bad_count);
        return;
    }
    buf_fmt(&b,
            "{\"slots\":%" PRIu64 ",\"manifests\":%" PRIu64 ",\"filters\":%" PRIu64 ",\"files\":%" PRIu64
            ",\"bytes\":%" PRIu64 ",\"damaged\":[",
            v->slots, v->manifests, v->filters, v->files, v->bytes);
    for (size_t i = 0; i < v->bad_count; i++) {
        buf_str(&b, i ? ",{\"key\":" : "{\"key\":");
        buf_json_str(&b, v->bad[i].key);
        buf_str(&b, ",\"why\":");
        buf_json_str(&b, v->bad[i].why);
        buf_byte(&b, '}');
    }
    buf_str(&b, "]}");
    (void)print_pretty(&b);
}

int run_catalog_verify(struct cli *cli)
{
    _cleanup_(store_freep) struct store *store = NULL;
    struct verifying v = {.start_us = os_mono_us(os_real())};
    struct err err = {0};
    bool table;

    if (!cli_wants_table(cli, &table))
        return EXIT_USAGE;
    interrupt_catch();
    enum err_code rc = open_reader(cli, &store, &err);
    v.store = store;
    if (rc == ERR_OK)
        rc = verify(&v, &err);
    progress_clear();
    int exit_code = EXIT_FAILED;
    if (rc == ERR_OK) {
        print_verify(&v, table);
        exit_code = v.bad_count ? EXIT_FAILED : EXIT_DONE;
    } else {
        (void)cli_fail("%s", err.msg);
        exit_code = rc == ERR_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    free(v.bad);
    arena_done(&v.arena);
    return exit_code;
}

/* ---- fsck */

static struct cell number_cell(struct arena *a, const json_t *of, const char *class, const char *what)
{
    json_int_t n = json_integer_value(json_object_get(json_object_get(of, class), what));
    return (struct cell){CELL_NUMBER, slice_str(arena_fmt(a, "%" JSON_INTEGER_FORMAT, n))};
}

static void print_report(const json_t *report)
{
    const slice names[] = {slice_lit("folder"),     slice_lit("state"),         slice_lit("live"),
                           slice_lit("live bytes"), slice_lit("retained"),      slice_lit("limbo"),
                           slice_lit("garbage"),    slice_lit("garbage bytes"), slice_lit("unknown")};
    struct table *t = table_new(stdout, term_width(stdout), names, ARRAY_LEN(names));
    const json_t *list = json_object_get(report, "incarnations"), *total = json_object_get(report, "total");
    struct arena a = ARENA_INIT;

    for (size_t i = 0; i <= json_array_size(list); i++) {
        bool last = i == json_array_size(list);
        const json_t *o = last ? total : json_array_get(list, i);
        const struct cell cells[] = {
            {CELL_TEXT, last ? slice_lit("all") : slice_str(json_string_value(json_object_get(o, "prefix")))},
            {CELL_TEXT, last ? slice_lit("") : slice_str(json_string_value(json_object_get(o, "state")))},
            number_cell(&a, o, "live", "objects"),
            number_cell(&a, o, "live", "bytes"),
            number_cell(&a, o, "retained", "objects"),
            number_cell(&a, o, "limbo", "objects"),
            number_cell(&a, o, "garbage", "objects"),
            number_cell(&a, o, "garbage", "bytes"),
            number_cell(&a, o, "unknown", "objects"),
        };
        table_row(t, cells);
    }
    table_end(t);
    arena_done(&a);
}

static enum err_code report(struct store *store, bool table, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    _cleanup_(buf_done) struct buf json = BUF_INIT;
    struct storage_report all;
    json_error_t fault;

    TRY(open_catalog(store, &cat, err));
    TRY(catalog_report(cat, &all, &json, err));
    if (!table) {
        (void)print_pretty(&json);
        return ERR_OK;
    }
    json_t *v = json_loadb((const char *)json.ptr, json.len, 0, &fault);
    if (!v)
        return err_set(err, ERR_CORRUPT, "the report is no JSON: %s", fault.text);
    print_report(v);
    json_decref(v);
    return ERR_OK;
}

enum err_code cli_lock_data(const struct cli *cli, struct os_file **lock, struct err *err)
{
    struct os *os = os_real();
    _cleanup_(freep) char *path = mem_fmt("%s/lock", config_text(&cli->config, SET_DATA));
    struct os_stat st;

    *lock = NULL;
    if (os->ops->stat(os, config_text(&cli->config, SET_DATA), &st, err) != ERR_OK)
        return ERR_OK; /* a store alone, a copy maybe: nobody serves it from this folder */
    TRY(os->ops->open(os, path, OS_READ | OS_WRITE | OS_CREATE, lock, err));
    if (os->ops->lock_file(os, *lock, err) != ERR_OK)
        return err_set(err, ERR_CONFLICT,
                       "a server uses %s: stop it first, or leave the tidying to it (it does that by itself)",
                       config_text(&cli->config, SET_DATA));
    return ERR_OK;
}

static enum err_code repair(const struct cli *cli, bool table, struct err *err)
{
    const struct gc_options opt = {.whole = true};
    _cleanup_(store_freep) struct store *store = NULL;
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    struct catalog_work w = {0};

    TRY(cli_catalog_open(cli, true, &store, &cat, err));
    TRY(catalog_collect(cat, &opt, &w, err));
    if (table)
        printf("removed %" PRIu64 " files and %" PRIu64 " slots, %" PRIu64 " bytes; %" PRIu64
               " deleted streams swept\n",
               w.files_deleted, w.slots_deleted, w.bytes_deleted, w.streams_swept);
    else
        printf("{\"files_deleted\":%" PRIu64 ",\"slots_deleted\":%" PRIu64 ",\"bytes_deleted\":%" PRIu64
               ",\"streams_swept\":%" PRIu64 "}\n",
               w.files_deleted, w.slots_deleted, w.bytes_deleted, w.streams_swept);
    return ERR_OK;
}

int run_catalog_fsck(struct cli *cli)
{
    _cleanup_(store_freep) struct store *store = NULL;
    struct os_file *lock = NULL;
    struct err err = {0};
    bool table;

    if (!cli_wants_table(cli, &table))
        return EXIT_USAGE;
    if (cli_on(cli, "report") && cli_on(cli, "repair"))
        return cli_usage(cli, "--report only looks and --repair changes: say one of them");
    interrupt_catch();
    enum err_code rc = open_reader(cli, &store, &err);
    if (rc == ERR_OK && cli_on(cli, "repair")) {
        rc = cli_lock_data(cli, &lock, &err);
        if (rc == ERR_OK)
            rc = repair(cli, table, &err);
    } else if (rc == ERR_OK) {
        rc = report(store, table, &err);
    }
    os_real()->ops->close(os_real(), lock);
    return rc == ERR_OK ? EXIT_DONE : cli_fail("%s", err.msg);
}
