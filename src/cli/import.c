/* import.c: `sluice import parseable`: adopts the streams of another store into the store that --data or --store names (import/import.h). */
#include "cli/cli_int.h"

#include <inttypes.h>

#include "base/arena.h"
#include "cli/http.h"
#include "cli/term.h"
#include "import/import.h"

#include "base/banned.h"

#define SHOW_US 200000

struct showing {
    int64_t last_us;
};

static bool stop(void *arg)
{
    (void)arg;
    return interrupted();
}

static void show(void *arg, const struct import_progress *p)
{
    struct showing *s = arg;
    int64_t now = os_mono_us(os_real());
    _cleanup_(buf_done) struct buf text = BUF_INIT;

    if (now - s->last_us < SHOW_US)
        return;
    s->last_us = now;
    (void)term_text(&text, p->stream, 40);
    buf_str(&text, ": file ");
    print_rows(&text, p->files);
    buf_str(&text, " of ");
    print_rows(&text, p->files_total);
    buf_str(&text, ", ");
    print_amount(&text, (double)p->bytes, "B");
    buf_str(&text, " of ");
    print_amount(&text, (double)p->bytes_total, "B");
    progress_show("%s", buf_cstr(&text));
}

static bool is_bucket(const char *place)
{
    return strstr(place, "://") != NULL;
}

static bool anything(void *arg, const struct store_list_item *item)
{
    (void)item;
    *(bool *)arg = true;
    return false;
}

/* A dry run makes nothing: not even the folder. */
static enum err_code open_dest(const struct cli *cli, bool dry, struct store **out, struct store_facts *facts,
                               struct err *err)
{
    const char *place = config_text(&cli->config, SET_STORE);
    bool ours = false;

    *out = NULL;
    if (!dry) { /* it writes as a server does, so the store must be one that a server may start on */
        TRY(cli_store_open(&cli->config, place, false, out, err));
        enum err_code good = store_probe_start(os_real(), *out, 0, facts, err);
        return good == ERR_OK ? ERR_OK : err_wrap(err, "the store %s (try `sluice store check`)", place);
    }
    _cleanup_(store_freep) struct store *store = NULL;
    enum err_code rc = cli_store_open(&cli->config, place, true, &store, err);
    if (rc == ERR_OK)
        rc = store->ops->list(store, slice_lit(".sluice/"), slice_lit(""), false, anything, &ours, err);
    if (rc == ERR_NOT_FOUND || (rc == ERR_OK && !ours))
        return ERR_OK;
    TRY(rc);
    *out = move_ptr(store);
    return ERR_OK;
}

/* ---- what was done */

struct total {
    uint64_t files, rows, bytes, linked, present, skipped, removed;
};

static struct total total_of(const struct import_result *r)
{
    struct total t = {.skipped = r->skips_count};

    for (size_t i = 0; i < r->streams_count; i++) {
        t.files += r->streams[i].files;
        t.rows += r->streams[i].rows;
        t.bytes += r->streams[i].bytes;
        t.linked += r->streams[i].linked;
        t.present += r->streams[i].present;
        t.removed += r->streams[i].removed;
    }
    return t;
}

static void counts_put(struct buf *out, uint64_t files, uint64_t rows, uint64_t bytes, uint64_t linked,
                       uint64_t present, uint64_t skipped, uint64_t removed)
{
    buf_fmt(out,
            "\"files\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"linked\":%" PRIu64
            ",\"present\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"removed\":%" PRIu64,
            files, rows, bytes, linked, present, skipped, removed);
}

static void print_json(const struct import_result *r, bool dry)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    struct total t = total_of(r);

    buf_fmt(&out, "{\"dry_run\":%s,", dry ? "true" : "false");
    counts_put(&out, t.files, t.rows, t.bytes, t.linked, t.present, t.skipped, t.removed);
    buf_str(&out, ",\"streams\":[");
    for (size_t i = 0; i < r->streams_count; i++) {
        const struct import_stream *s = &r->streams[i];
        buf_str(&out, i ? ",{\"name\":" : "{\"name\":");
        buf_json_str(&out, s->name);
        buf_fmt(&out, ",\"created\":%s,", s->created ? "true" : "false");
        counts_put(&out, s->files, s->rows, s->bytes, s->linked, s->present, s->skipped, s->removed);
        if (s->note) {
            buf_str(&out, ",\"note\":");
            buf_json_str(&out, slice_str(s->note));
        }
        buf_byte(&out, '}');
    }
    buf_str(&out, "],\"skips\":[");
    for (size_t i = 0; i < r->skips_count; i++) {
        const struct import_skip *s = &r->skips[i];
        buf_str(&out, i ? ",{\"stream\":" : "{\"stream\":");
        buf_json_str(&out, s->stream);
        if (s->path.len) {
            buf_str(&out, ",\"file\":");
            buf_json_str(&out, s->path);
        }
        buf_str(&out, ",\"why\":");
        buf_json_str(&out, slice_str(s->why));
        buf_byte(&out, '}');
    }
    printf("%s]}\n", buf_cstr(&out));
}

static struct cell number(struct arena *a, uint64_t n)
{
    struct buf b = BUF_INIT;

    print_rows(&b, n);
    slice copy = arena_copy(a, buf_view(&b));
    buf_done(&b);
    return (struct cell){CELL_NUMBER, copy};
}

static void print_table(const struct import_result *r, bool dry)
{
    static const slice names[] = {{(const uint8_t *)"stream", 6}, {(const uint8_t *)"files", 5},
                                  {(const uint8_t *)"rows", 4},   {(const uint8_t *)"bytes", 5},
                                  {(const uint8_t *)"linked", 6}, {(const uint8_t *)"there already", 13},
                                  {(const uint8_t *)"skipped", 7}};
    struct table *t = table_new(stdout, term_width(stdout), names, ARRAY_LEN(names));
    const struct total sum = total_of(r);
    const struct import_stream all = {.name = slice_lit("all"),
                                      .files = sum.files,
                                      .rows = sum.rows,
                                      .bytes = sum.bytes,
                                      .linked = sum.linked,
                                      .present = sum.present,
                                      .skipped = sum.skipped};
    const struct cell unread = {CELL_NUMBER, {(const uint8_t *)"?", 1}}; /* a dry run opens no file */
    struct arena a = ARENA_INIT;

    for (size_t i = 0; i <= r->streams_count; i++) {
        const struct import_stream *s = i < r->streams_count ? &r->streams[i] : &all;
        const struct cell cells[] = {{CELL_TEXT, s->name},  number(&a, s->files),  dry ? unread : number(&a, s->rows),
                                     number(&a, s->bytes),  number(&a, s->linked), number(&a, s->present),
                                     number(&a, s->skipped)};
        table_row(t, cells);
    }
    table_end(t);
    arena_done(&a);
}

/* Names come from the source: what is in them must not drive the terminal. */
static void print_skips(const struct import_result *r)
{
    for (size_t i = 0; i < r->skips_count; i++) {
        _cleanup_(buf_done) struct buf line = BUF_INIT;
        (void)term_text(&line, r->skips[i].stream, 0);
        buf_str(&line, r->skips[i].path.len ? "/" : "");
        (void)term_text(&line, r->skips[i].path, 0);
        buf_str(&line, ": left out: ");
        (void)term_text(&line, slice_str(r->skips[i].why), 0);
        (void)cli_fail("%s", buf_cstr(&line));
    }
    for (size_t i = 0; i < r->streams_count; i++) {
        _cleanup_(buf_done) struct buf line = BUF_INIT;
        if (!r->streams[i].note)
            continue;
        (void)term_text(&line, r->streams[i].name, 0);
        buf_str(&line, ": ");
        (void)term_text(&line, slice_str(r->streams[i].note), 0);
        (void)cli_fail("%s", buf_cstr(&line));
    }
}

static enum err_code run(const struct cli *cli, struct import_options opt, struct import_result *out, struct err *err)
{
    const char *place = cli->args[0], *temp = getenv("TMPDIR");
    _cleanup_(store_freep) struct store *source = NULL, *dest = NULL;
    struct showing showing = {0};
    struct store_facts facts;

    /* a bucket is opened to write when files are to be removed; a folder is somebody else's, and stays as it is but for them */
    TRY(cli_store_open(&cli->config, place, !(opt.remove_source && is_bucket(place)), &source, err));
    TRY(open_dest(cli, opt.dry_run, &dest, &facts, err));
    opt.facts = opt.dry_run ? NULL : &facts;
    opt.os = os_real();
    opt.source = source;
    opt.dest = dest;
    opt.link = !source->remote && dest && !dest->remote;
    opt.temp_dir = temp && *temp ? temp : "/tmp";
    opt.progress = show;
    opt.stop = stop;
    opt.arg = &showing;
    return import_parseable(&opt, out, err);
}

int run_import_parseable(struct cli *cli)
{
    static const char *const formats[] = {"table", "json"};
    const char *only = cli_value(cli, "stream");
    const struct import_options opt = {.only = only ? slice_str(only) : slice_lit(""),
                                       .dry_run = cli_on(cli, "dry-run"),
                                       .remove_source = cli_on(cli, "remove-source")};
    struct import_result result = {0};
    struct err err = {0};
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return EXIT_USAGE;
    if (opt.dry_run && opt.remove_source)
        return cli_usage(cli, "--dry-run only looks and --remove-source removes: say one of them");
    bool text = cli_value(cli, "output") ? format == 0 : term_is(stdout);
    interrupt_catch();
    enum err_code rc = run(cli, opt, &result, &err);
    progress_clear();
    if (text)
        print_table(&result, opt.dry_run);
    else
        print_json(&result, opt.dry_run);
    print_skips(&result);
    bool skips = result.skips_count > 0;
    import_result_done(&result);
    if (rc == ERR_CANCELLED && interrupted()) {
        (void)cli_fail("%s", err.msg);
        return EXIT_INTERRUPTED;
    }
    if (rc != ERR_OK)
        return cli_fail("%s", err.msg);
    return skips ? EXIT_FAILED : EXIT_DONE;
}
