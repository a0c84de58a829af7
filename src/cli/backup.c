/* backup.c: `sluice backup ...` and `sluice restore`: the command line over src/backup. Before a point is taken, servers are asked to flush. */
#include <inttypes.h>
#include <jansson.h>

#include "backup/backup.h"
#include "base/timetext.h"
#include "cli/cli_int.h"
#include "cli/http.h"
#include "cli/term.h"

#include "base/banned.h"

#define SERVERS_MAX 64
#define PLACE_CONFIG_BYTES_MAX (1u << 20)
#define POINTS_MAX 1000 /* of one removal */
#define FLUSH_PATH "/api/v1/cluster/flush"

/* ---- common */

struct task {
    struct cli *cli;
    struct backup_env env;
    struct backup_totals totals;
    int64_t start_us, shown_us;
    bool table;
    struct config place; /* settings of PLACE, where they are not those of the command */
};

static const char *source_place(const struct cli *cli)
{
    return config_text(&cli->config, SET_STORE);
}

static void show_bytes(const struct backup_progress *p, double seconds)
{
    _cleanup_(buf_done) struct buf bar = BUF_INIT, rate = BUF_INIT;
    double part =
        p->bytes_total ? (double)p->bytes / (double)p->bytes_total : (double)p->files / (double)p->files_total;

    term_bar(&bar, part);
    print_amount(&rate, seconds > 0 ? (double)p->bytes / seconds : 0, "B/s");
    long left = part > 0.01 ? (long)(seconds / part - seconds + 0.5) : -1;
    if (left >= 0)
        progress_show("%s: %s %3.0f %%  %" PRIu64 " of %" PRIu64 " objects  %s  %ld:%02ld left", p->what,
                      buf_cstr(&bar), part * 100, p->files, p->files_total, buf_cstr(&rate), left / 60, left % 60);
    else
        progress_show("%s: %s %3.0f %%  %" PRIu64 " of %" PRIu64 " objects  %s", p->what, buf_cstr(&bar), part * 100,
                      p->files, p->files_total, buf_cstr(&rate));
}

static bool show(void *arg, const struct backup_progress *p)
{
    struct task *t = arg;
    int64_t now = os_mono_us(t->env.os);

    if (p->files_total == 0) { /* a step without a measure; the rate is that of what comes after it */
        t->start_us = now;
        progress_show("%s", p->what);
    } else if (now - t->start_us >= 500000 && now - t->shown_us >= 200000) {
        t->shown_us = now;
        show_bytes(p, (double)(now - t->start_us) / 1e6);
    }
    return !interrupted();
}

/* False: a usage error was printed. */
static bool task_init(struct task *t, struct cli *cli)
{
    static const char *const formats[] = {"table", "json"};
    bool parallel =
        cli->command->run == run_backup || cli->command->run == run_restore || cli->command->run == run_backup_verify;
    const char *text = parallel ? cli_value(cli, "parallel") : NULL;
    uint64_t n = BACKUP_PARALLEL;
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return false;
    if (text && (!slice_u64(slice_str(text), &n) || n == 0 || n > BACKUP_PARALLEL_MAX)) {
        (void)cli_usage(cli, "--parallel '%s' is no number from 1 to %u", text, BACKUP_PARALLEL_MAX);
        return false;
    }
    *t = (struct task){.cli = cli, .env = {.os = os_real(), .parallel = (unsigned)n, .progress = show}};
    t->table = cli_value(cli, "output") ? format == 0 : term_is(stdout);
    t->env.arg = t;
    t->start_us = os_mono_us(t->env.os);
    interrupt_catch();
    return true;
}

static void task_done(struct task *t)
{
    config_done(&t->place);
}

/* Settings of a place on another server than the store: a file, and nothing else. */
static enum err_code place_settings(struct task *t, const char *path, struct err *err)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t len;

    config_init(&t->place);
    TRY(os_read_file(t->env.os, path, PLACE_CONFIG_BYTES_MAX, &bytes, &len, err));
    TRY(config_yaml(&t->place, path, slice_of(bytes, len), err));
    return config_finish(&t->place, err);
}

/* Is `place` below the folder that it is a backup of, or for? `below` need not exist yet. */
static bool is_inside(const char *place, const char *store)
{
    _cleanup_(freep) char *at = mem_str(slice_str(place));
    _cleanup_(freep) char *real = NULL, *real_store = realpath(store, NULL);

    if (strstr(place, "://") || strstr(store, "://") || !real_store)
        return false;
    while (!(real = realpath(at, NULL))) { /* the nearest parent that is there */
        char *slash = strrchr(at, '/');
        if (!slash) {
            real = realpath(".", NULL);
            break;
        }
        *(slash == at ? slash + 1 : slash) = 0;
    }
    size_t len = strlen(real_store);
    return real && strncmp(real, real_store, len) == 0 &&
           (real[len] == '/' || (real[len] == 0 && strcmp(at, place) != 0));
}

/* The argument: a place of backups. */
static enum err_code place_open(struct task *t, bool to_read, struct store **out, struct err *err)
{
    bool copies = t->cli->command->run == run_backup || t->cli->command->run == run_restore;
    const char *file = copies ? cli_value(t->cli, "place-config") : NULL, *place = t->cli->args[0];

    if (copies && is_inside(place, source_place(t->cli)))
        return err_set(err, ERR_INVALID, "%s is inside of the store %s: a backup belongs somewhere else", place,
                       source_place(t->cli));
    if (file)
        TRY(place_settings(t, file, err));
    return cli_store_open(file ? &t->place : &t->cli->config, place, to_read, out, err);
}

/* To remove from. Opened to write, a folder that is not there would be made. */
static enum err_code place_open_existing(struct task *t, struct store **out, struct err *err)
{
    _cleanup_(store_freep) struct store *look = NULL;

    TRY(place_open(t, true, &look, err));
    return place_open(t, false, out, err);
}

static bool point_option(struct cli *cli, uint64_t *out)
{
    const char *text = cli_value(cli, "point");

    *out = SLOT_NONE;
    if (!text || (slice_u64(slice_str(text), out) && *out != SLOT_NONE))
        return true;
    (void)cli_usage(cli, "--point '%s' is no number: `sluice backup ls` shows them", text);
    return false;
}

static int failed(enum err_code rc, const struct err *err)
{
    progress_clear();
    (void)cli_fail("%s", err->msg);
    return rc == ERR_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
}

static void time_put(struct buf *out, int64_t us)
{
    char text[TIME_TEXT_MAX];
    buf_put(out, text, time_format(text, us));
}

static void texts_put(struct buf *out, const char *key, const slice *texts, size_t count)
{
    buf_fmt(out, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        buf_json_str(out, texts[i]);
    }
    buf_byte(out, ']');
}

static void point_put(struct buf *out, const struct point *p)
{
    buf_fmt(out, "{\"point\":%" PRIu64 ",\"taken\":\"", p->number);
    time_put(out, p->taken_us);
    buf_fmt(out, "\",\"streams\":%zu,\"rows\":%" PRIu64 ",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64,
            p->cut.streams_count, p->rows, p->files, p->bytes);
    texts_put(out, "damaged", p->cut.damaged, p->cut.damaged_count);
    texts_put(out, "unasked", p->unasked, p->unasked_count);
}

static void totals_put(struct buf *out, const struct task *t)
{
    const struct backup_totals *n = &t->totals;

    buf_fmt(out,
            ",\"copied\":%" PRIu64 ",\"copied_bytes\":%" PRIu64 ",\"slots\":%" PRIu64 ",\"slots_copied\":%" PRIu64
            ",\"mended\":%" PRIu64 ",\"passes\":%u}",
            n->copied, n->copied_bytes, n->slots, n->slots_copied, n->mended, n->passes);
}

static void print_done(const struct task *t, const struct point *p, const char *what)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT, rows = BUF_INIT, bytes = BUF_INIT, copied = BUF_INIT;

    if (!t->table) {
        point_put(&b, p);
        totals_put(&b, t);
        printf("%s\n", buf_cstr(&b));
        return;
    }
    print_rows(&rows, p->rows);
    print_amount(&bytes, (double)t->totals.bytes, "B");
    print_amount(&copied, (double)t->totals.copied_bytes, "B");
    printf("point %" PRIu64 " %s: %s rows in %" PRIu64 " files (%s); %" PRIu64 " of them (%s) copied now\n", p->number,
           what, buf_cstr(&rows), t->totals.files, buf_cstr(&bytes), t->totals.copied, buf_cstr(&copied));
}

/* ---- asking servers to flush */

struct asking {
    struct backup_position positions[SERVERS_MAX];
    slice nodes[SERVERS_MAX];
    struct arena arena;
    size_t count;
};

static bool put_text(const json_t *o, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(o, key));

    if (!text || strlen(text) >= size)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static enum err_code answer_read(struct asking *a, const struct http_reply *reply, struct err *err)
{
    struct backup_position *p = &a->positions[a->count];
    json_t *o = json_loadb((const char *)reply->body.ptr, reply->body.len, 0, NULL);
    const char *node = json_string_value(json_object_get(o, "node_id"));
    const json_t *slot = json_object_get(o, "slot");
    bool good = o && node && put_text(o, "cluster", p->cluster, sizeof(p->cluster)) &&
                put_text(o, "lane", p->lane, sizeof(p->lane)) && json_is_integer(slot);

    if (good) {
        p->slot = (uint64_t)json_integer_value(slot);
        a->nodes[a->count++] = arena_copy(&a->arena, slice_str(node));
    }
    json_decref(o);
    return good ? ERR_OK : err_set(err, ERR_INVALID, "its answer is none of a Sluice server of this version");
}

static enum err_code ask(struct asking *a, const struct config *c, const char *server, struct err *err)
{
    struct config one = *c; /* borrows all of it */
    struct http_reply reply = {0};
    struct http http;

    if (a->count == SERVERS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d servers", SERVERS_MAX);
    one.values[SET_SERVER].text = server;
    TRY(http_open(&one, &http, err));
    progress_show("asking %s to flush", server);
    const struct http_call call = {.method = "POST", .path = FLUSH_PATH};
    enum err_code rc = http_ok(&http, &call, &reply, err);
    if (rc == ERR_OK)
        rc = answer_read(a, &reply, err);
    progress_clear();
    http_reply_done(&reply);
    http_close(&http);
    if (rc != ERR_OK)
        (void)err_wrap(err, "asking %s to flush", server);
    return rc;
}

static enum err_code ask_all(struct asking *a, const struct config *c, struct err *err)
{
    slice rest = slice_str(config_text(c, SET_SERVER));

    while (rest.len) {
        const uint8_t *comma = memchr(rest.ptr, ',', rest.len);
        slice one = slice_trim(slice_head(rest, comma ? (size_t)(comma - rest.ptr) : rest.len));
        rest = comma ? slice_from(rest, (size_t)(comma - rest.ptr) + 1) : (slice){0};
        if (one.len)
            TRY(ask(a, c, arena_str(&a->arena, one), err));
    }
    return ERR_OK;
}

/* Does a server of this machine hold the data folder whose store is to be backed up? */
static bool is_served(const struct config *c)
{
    struct os *os = os_real();
    _cleanup_(freep) char *path = mem_fmt("%s/lock", config_text(c, SET_DATA));
    struct os_file *lock = NULL;
    bool served = false;

    if (c->values[SET_STORE].source != SOURCE_DEFAULT)
        return false;
    if (os->ops->open(os, path, OS_READ | OS_WRITE, &lock, NULL) == ERR_OK)
        served = os->ops->lock_file(os, lock, NULL) == ERR_CONFLICT;
    os->ops->close(os, lock);
    return served;
}

/* Servers that were named must answer. One that nobody named is asked where it runs: then it must, if it has this data folder. */
static enum err_code ask_servers(struct task *t, struct asking *a, struct err *err)
{
    const struct config *c = &t->cli->config;
    bool named = c->values[SET_SERVER].source != SOURCE_DEFAULT;

    if (cli_on(t->cli, "committed") || (!named && !is_served(c)))
        return ERR_OK;
    enum err_code rc = ask_all(a, c, err);
    if (rc != ERR_OK)
        (void)err_wrap(err, "rows that a server has not flushed would be missing (--server says which to ask, a comma "
                            "between several; --committed takes what is in the store)");
    return rc;
}

/* ---- backup */

static void warn_point(const struct point *p)
{
    for (size_t i = 0; i < p->unasked_count; i++)
        (void)cli_fail("warning: server " SLICE_FMT " was not asked to flush: of its rows, the backup has what was "
                       "committed (name its address with --server)",
                       SLICE_ARG(p->unasked[i]));
    for (size_t i = 0; i < p->cut.damaged_count; i++)
        (void)cli_fail("warning: stream " SLICE_FMT " is out of service and not in the backup: see "
                       "`sluice catalog verify`",
                       SLICE_ARG(p->cut.damaged[i]));
}

static enum err_code take(struct task *t, struct store *from, struct store *to, struct asking *a, struct point *out,
                          struct err *err)
{
    TRY(ask_servers(t, a, err));
    const struct backup_run run = {
        .positions = a->positions, .positions_count = a->count, .asked = a->nodes, .asked_count = a->count};
    return backup_take(&t->env, from, to, &run, out, &t->totals, err);
}

int run_backup(struct cli *cli)
{
    _cleanup_(task_done) struct task t = {0};
    _cleanup_(store_freep) struct store *from = NULL, *to = NULL;
    _cleanup_(point_done) struct point p = {0};
    struct asking *a = mem_zalloc(sizeof(*a));
    struct err err = {0};

    enum err_code rc = ERR_INVALID;
    int exit_code = EXIT_USAGE;
    if (task_init(&t, cli)) {
        rc = cli_store_open(&cli->config, source_place(cli), true, &from, &err);
        if (rc == ERR_OK)
            rc = place_open(&t, false, &to, &err);
        if (rc == ERR_OK)
            rc = take(&t, from, to, a, &p, &err);
        exit_code = rc == ERR_OK ? EXIT_DONE : failed(rc, &err);
    }
    if (rc == ERR_OK) {
        progress_clear();
        warn_point(&p);
        print_done(&t, &p, "taken");
    }
    arena_done(&a->arena);
    free(a);
    return exit_code;
}

/* ---- restore */

static size_t split_names(slice text, slice *out, size_t max)
{
    size_t n = 0;

    while (text.len && n < max) {
        const uint8_t *comma = memchr(text.ptr, ',', text.len);
        out[n] = slice_trim(slice_head(text, comma ? (size_t)(comma - text.ptr) : text.len));
        text = comma ? slice_from(text, (size_t)(comma - text.ptr) + 1) : (slice){0};
        n += out[n].len > 0;
    }
    return n;
}

int run_restore(struct cli *cli)
{
    _cleanup_(task_done) struct task t = {0};
    _cleanup_(store_freep) struct store *from = NULL, *to = NULL;
    _cleanup_(point_done) struct point p = {0};
    slice names[256];
    struct err err = {0};
    struct restore_run run = {.streams = names};

    if (!task_init(&t, cli) || !point_option(cli, &run.point))
        return EXIT_USAGE;
    if (cli_value(cli, "stream")) {
        run.streams_count = split_names(slice_str(cli_value(cli, "stream")), names, ARRAY_LEN(names));
        if (run.streams_count == 0)
            return cli_usage(cli, "--stream names no stream");
    }
    enum err_code rc = place_open(&t, true, &from, &err);
    if (rc == ERR_OK)
        rc = cli_store_open(&cli->config, source_place(cli), false, &to, &err);
    if (rc == ERR_OK)
        rc = backup_restore(&t.env, from, to, &run, &p, &t.totals, &err);
    if (rc != ERR_OK)
        return failed(rc, &err);
    progress_clear();
    print_done(&t, &p, "restored");
    return EXIT_DONE;
}

/* ---- ls, verify */

struct listing {
    bool table;
    struct table *t;
    struct buf json;
    size_t count;
};

static void row_put(struct listing *l, const struct point *p, uint64_t number, const struct err *why)
{
    _cleanup_(buf_done) struct buf n = BUF_INIT, when = BUF_INIT, streams = BUF_INIT, rows = BUF_INIT, files = BUF_INIT,
                                   bytes = BUF_INIT, note = BUF_INIT;

    buf_fmt(&n, "%" PRIu64, number);
    if (!why) {
        time_put(&when, p->taken_us);
        buf_fmt(&streams, "%zu", p->cut.streams_count);
        buf_fmt(&rows, "%" PRIu64, p->rows);
        buf_fmt(&files, "%" PRIu64, p->files);
        buf_fmt(&bytes, "%" PRIu64, p->bytes);
        if (p->unasked_count)
            buf_fmt(&note, "%zu servers not asked ", p->unasked_count);
        if (p->cut.damaged_count)
            buf_fmt(&note, "%zu streams out of service", p->cut.damaged_count);
    } else {
        buf_str(&note, why->msg);
    }
    const struct cell cells[] = {{CELL_NUMBER, buf_view(&n)},       {CELL_TEXT, buf_view(&when)},
                                 {CELL_NUMBER, buf_view(&streams)}, {CELL_NUMBER, buf_view(&rows)},
                                 {CELL_NUMBER, buf_view(&files)},   {CELL_NUMBER, buf_view(&bytes)},
                                 {CELL_TEXT, buf_view(&note)}};
    table_row(l->t, cells);
}

static void list_point(void *arg, const struct point *p, uint64_t number, const struct err *why)
{
    struct listing *l = arg;

    if (l->table) {
        row_put(l, p, number, why);
        return;
    }
    buf_str(&l->json, l->count++ ? ",\n" : "");
    if (!why) {
        point_put(&l->json, p);
        buf_byte(&l->json, '}');
        return;
    }
    buf_fmt(&l->json, "{\"point\":%" PRIu64 ",\"problem\":", number);
    buf_json_str(&l->json, slice_str(why->msg));
    buf_byte(&l->json, '}');
}

int run_backup_ls(struct cli *cli)
{
    _cleanup_(task_done) struct task t = {0};
    const slice columns[] = {slice_lit("point"), slice_lit("taken"), slice_lit("streams"), slice_lit("rows"),
                             slice_lit("files"), slice_lit("bytes"), slice_lit("note")};
    _cleanup_(store_freep) struct store *place = NULL;
    struct listing l = {0};
    struct err err = {0};

    if (!task_init(&t, cli))
        return EXIT_USAGE;
    l.table = t.table;
    enum err_code rc = place_open(&t, true, &place, &err);
    if (rc == ERR_OK && l.table)
        l.t = table_new(stdout, term_width(stdout), columns, ARRAY_LEN(columns));
    if (rc == ERR_OK)
        rc = backup_list(&t.env, place, list_point, &l, &err);
    if (l.t)
        table_end(l.t);
    else if (rc == ERR_OK)
        printf("[%s]\n", buf_cstr(&l.json));
    buf_done(&l.json);
    return rc == ERR_OK ? EXIT_DONE : failed(rc, &err);
}

struct bad_list {
    struct arena arena;
    struct {
        slice key, why;
    } * items;
    size_t count, cap;
};

static void keep_bad(void *arg, slice key, const char *why)
{
    struct bad_list *b = arg;
    slice k = arena_copy(&b->arena, key), w = arena_copy(&b->arena, slice_str(why));

    ARRAY_PUSH(b->items, b->count, b->cap)->key = k;
    b->items[b->count - 1].why = w;
}

static void print_verify(const struct task *t, const struct bad_list *bad)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT, size = BUF_INIT;

    if (!t->table) {
        buf_fmt(&b, "{\"slots\":%" PRIu64 ",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"damaged\":[", t->totals.slots,
                t->totals.files, t->totals.bytes);
        for (size_t i = 0; i < bad->count; i++) {
            buf_str(&b, i ? ",{\"key\":" : "{\"key\":");
            buf_json_str(&b, bad->items[i].key);
            buf_str(&b, ",\"why\":");
            buf_json_str(&b, bad->items[i].why);
            buf_byte(&b, '}');
        }
        printf("%s]}\n", buf_cstr(&b));
        return;
    }
    for (size_t i = 0; i < bad->count; i++) {
        b.len = 0;
        (void)term_text(&b, bad->items[i].key, 0);
        buf_str(&b, ": ");
        (void)term_text(&b, bad->items[i].why, 0);
        printf("damaged  %s\n", buf_cstr(&b));
    }
    print_amount(&size, (double)t->totals.bytes, "B");
    printf("%" PRIu64 " slots, %" PRIu64 " files (%s): %zu damaged\n", t->totals.slots, t->totals.files,
           buf_cstr(&size), bad->count);
}

int run_backup_verify(struct cli *cli)
{
    _cleanup_(task_done) struct task t = {0};
    _cleanup_(store_freep) struct store *place = NULL;
    struct bad_list bad = {0};
    struct err err = {0};
    uint64_t point;

    if (!task_init(&t, cli) || !point_option(cli, &point))
        return EXIT_USAGE;
    enum err_code rc = place_open(&t, true, &place, &err);
    if (rc == ERR_OK)
        rc = backup_verify(&t.env, place, point, keep_bad, &bad, &t.totals, &err);
    int exit_code = rc == ERR_OK ? bad.count ? EXIT_FAILED : EXIT_DONE : failed(rc, &err);
    progress_clear();
    if (rc == ERR_OK)
        print_verify(&t, &bad);
    free(bad.items);
    arena_done(&bad.arena);
    return exit_code;
}

/* ---- rm */

int run_backup_rm(struct cli *cli)
{
    _cleanup_(task_done) struct task t = {0};
    const char *keep = cli_value(cli, "keep");
    _cleanup_(store_freep) struct store *place = NULL;
    uint64_t numbers[POINTS_MAX], removed = 0;
    struct backup_removal what = {.points = numbers, .points_count = cli->args_count - 1, .keep = SLOT_NONE};
    _cleanup_(buf_done) struct buf size = BUF_INIT;
    struct err err = {0};

    if (!task_init(&t, cli))
        return EXIT_USAGE;
    if (keep && (!slice_u64(slice_str(keep), &what.keep) || what.keep == 0 || what.keep == SLOT_NONE))
        return cli_usage(cli, "--keep '%s' is no number from 1", keep);
    for (size_t i = 0; i < what.points_count; i++)
        if (!slice_u64(slice_str(cli->args[i + 1]), &numbers[i]))
            return cli_usage(cli, "'%s' is no number of a point: `sluice backup ls` shows them", cli->args[i + 1]);
    enum err_code rc = place_open_existing(&t, &place, &err);
    if (rc == ERR_OK)
        rc = backup_remove(&t.env, place, &what, &removed, &t.totals, &err);
    if (rc != ERR_OK)
        return failed(rc, &err);
    progress_clear();
    print_amount(&size, (double)t.totals.bytes, "B");
    if (t.table)
        printf("%" PRIu64 " point%s removed, and %" PRIu64 " object%s (%s) that no other names\n", removed,
               removed == 1 ? "" : "s", t.totals.files, t.totals.files == 1 ? "" : "s", buf_cstr(&size));
    else
        printf("{\"points\":%" PRIu64 ",\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n", removed, t.totals.files,
               t.totals.bytes);
    return EXIT_DONE;
}
