/* query.c: `sluice query`: one statement, printed as a table or passed on in the format asked for.
 *
 * A table is made from the streamed form of the contract (5.1): a line with the names, then lines with arrays of rows, so that memory
 * stays bounded however long the answer is. The query's id is ours: Ctrl-C cancels it by that id, and the progress line finds it. */
#include "cli/cli_int.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/timetext.h"
#include "base/ulid.h"
#include "cli/http.h"
#include "cli/term.h"
#include "codec/json_dom.h"
#include "os/os.h"

#include "base/banned.h"

#define SQL_BYTES_MAX (1u << 20)
#define PROGRESS_AFTER_US 1000000

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_NDJSON, FORMAT_CSV, FORMAT_ARROW };
static const char *const formats[] = {"table", "json", "ndjson", "csv", "arrow"};
static const char *const accepts[] = {
    [FORMAT_TABLE] = "Accept: application/json",
    [FORMAT_JSON] = "Accept: application/json",
    [FORMAT_NDJSON] = "Accept: application/x-ndjson",
    [FORMAT_CSV] = "Accept: text/csv",
    [FORMAT_ARROW] = "Accept: application/vnd.apache.arrow.stream",
};

struct asking {
    const struct cli *cli;
    enum format format;
    char id[ULID_LEN + 1];
    int64_t start_us, shown_us;
    struct buf sql_text;
    /* table */
    struct buf line;
    struct table *table;
    slice *names; /* in names_arena */
    struct cell *cells;
    uint32_t count;
    struct arena names_arena, row_arena;
    uint64_t rows;
    struct err fault; /* of what the server sent or of stdout */
    uint64_t last_received, skipped_files;
    bool last_newline;
    struct http side; /* for progress and cancelling, while the other is busy */
};

/* ---- what is asked */

static enum err_code read_stdin(struct buf *out, struct err *err)
{
    while (out->len <= SQL_BYTES_MAX) {
        buf_reserve(out, 65536);
        ssize_t n = read(STDIN_FILENO, out->ptr + out->len, 65536);
        if (n < 0)
            return err_set(err, ERR_IO, "stdin can not be read");
        if (n == 0)
            return ERR_OK;
        out->len += (size_t)n;
    }
    return err_set(err, ERR_LIMIT, "the SQL is longer than 1 MiB");
}

static enum err_code read_sql(struct asking *a, struct err *err)
{
    const char *path = cli_value(a->cli, "file");
    size_t len;

    if (!path && a->cli->args_count && strcmp(a->cli->args[0], "-") != 0) {
        buf_str(&a->sql_text, a->cli->args[0]);
    } else if (path && strcmp(path, "-") != 0) {
        _cleanup_(freep) uint8_t *bytes = NULL;
        TRY(os_read_file(os_real(), path, SQL_BYTES_MAX, &bytes, &len, err));
        buf_put(&a->sql_text, bytes, len);
    } else {
        if (term_is(stdin))
            (void)fputs("SQL, then Ctrl-D:\n", stderr);
        TRY(read_stdin(&a->sql_text, err));
    }
    slice s = slice_trim(buf_view(&a->sql_text));
    return s.len ? ERR_OK : err_set(err, ERR_INVALID, "the SQL is empty");
}

/* A bound as an instant; false: it is neither a time nor a date nor a duration before `now_us`. */
static bool instant_of(slice s, int64_t now_us, int64_t *out)
{
    uint64_t before;
    int64_t days;
    struct err err;

    if (slice_eq(s, slice_lit("now"))) {
        *out = now_us;
        return true;
    }
    if (time_parse_rfc3339(s, false, out))
        return true;
    if (time_parse_date(s, &days)) {
        *out = days * INT64_C(86400000000);
        return true;
    }
    if (parse_duration(s, 0, &before, &err) != ERR_OK || before > INT64_MAX / 2)
        return false;
    *out = now_us - (int64_t)before;
    return true;
}

/* The server takes a duration with `now`, or two instants: other pairs are made into instants here. */
static enum err_code bounds(const struct asking *a, struct buf *start, struct buf *end, struct err *err)
{
    const char *s = cli_value(a->cli, "start"), *e = cli_value(a->cli, "end");
    int64_t now_us = os_wall_us(os_real()), from = 0, to = 0;
    uint64_t ignored;
    char text[TIME_TEXT_MAX];

    s = s ? s : "1d";
    e = e ? e : "now";
    if (strcmp(e, "now") == 0 && parse_duration(slice_str(s), 0, &ignored, err) == ERR_OK) {
        buf_str(start, s);
        buf_str(end, e);
        return ERR_OK;
    }
    if (!instant_of(slice_str(e), now_us, &to))
        return err_set(err, ERR_INVALID,
                       "--end '%s' is no time: write now, 10m (before now), 2026-01-31 or 2026-01-31T12:00:00Z", e);
    if (!instant_of(slice_str(s), now_us, &from))
        return err_set(err, ERR_INVALID,
                       "--start '%s' is no time: write 10m, 7d (before now), 2026-01-31 or 2026-01-31T12:00:00Z", s);
    if (from > to)
        return err_set(err, ERR_INVALID, "--start is after --end");
    buf_put(start, text, time_format_rfc3339(text, from));
    buf_put(end, text, time_format_rfc3339(text, to));
    return ERR_OK;
}

static enum err_code body_of(const struct asking *a, struct buf *out, struct err *err)
{
    _cleanup_(buf_done) struct buf start = BUF_INIT, end = BUF_INIT;

    TRY(bounds(a, &start, &end, err));
    buf_str(out, "{\"query\":");
    buf_json_str(out, buf_view(&a->sql_text));
    buf_str(out, ",\"startTime\":");
    buf_json_str(out, buf_view(&start));
    buf_str(out, ",\"endTime\":");
    buf_json_str(out, buf_view(&end));
    buf_byte(out, '}');
    return ERR_OK;
}

/* ---- table */

static bool bad_answer(struct asking *a)
{
    (void)err_set(&a->fault, ERR_CORRUPT,
                  "the server's answer is not what it should be: does it have the version of this command?");
    return false;
}

static bool take_names(struct asking *a, const struct json_value *line)
{
    const struct json_value *fields = json_dom_get(line, "fields");

    if (!fields || fields->kind != DOM_ARRAY)
        return bad_answer(a);
    a->count = fields->count;
    a->names = arena_zalloc(&a->names_arena, sizeof(*a->names) * (a->count + 1u));
    a->cells = arena_zalloc(&a->names_arena, sizeof(*a->cells) * (a->count + 1u));
    for (uint32_t i = 0; i < a->count; i++) {
        if (fields->items[i].kind != DOM_STRING)
            return bad_answer(a);
        a->names[i] = arena_copy(&a->names_arena, fields->items[i].string);
    }
    a->table = table_new(stdout, cli_on(a->cli, "wide") ? 0 : term_width(stdout), a->names, a->count);
    return true;
}

static struct cell cell_of(const struct json_value *v)
{
    switch (v->kind) {
    case DOM_NULL: return (struct cell){CELL_NULL, {NULL, 0}};
    case DOM_NUMBER: return (struct cell){CELL_NUMBER, v->raw};
    case DOM_STRING: return (struct cell){CELL_TEXT, v->string};
    default: return (struct cell){CELL_TEXT, v->raw};
    }
}

/* Members come in the order of the names, nulls left out: one walk. A name out of order starts the search again from the first. */
static bool take_row(struct asking *a, const struct json_value *row)
{
    uint32_t at = 0;

    if (row->kind != DOM_OBJECT)
        return bad_answer(a);
    memset(a->cells, 0, sizeof(*a->cells) * a->count);
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t tried = 0;
        while (tried < a->count && !slice_eq(a->names[at], row->members[i].key)) {
            at = at + 1 < a->count ? at + 1 : 0;
            tried++;
        }
        if (tried < a->count)
            a->cells[at] = cell_of(&row->members[i].value);
    }
    table_row(a->table, a->cells);
    a->rows++;
    return true;
}

static bool take_line(struct asking *a, slice line)
{
    struct json_value v;
    struct err err;

    arena_reset(&a->row_arena);
    if (json_dom_parse(line, &a->row_arena, &v, &err) != ERR_OK)
        return bad_answer(a);
    if (!a->table)
        return take_names(a, &v);
    if (v.kind != DOM_ARRAY)
        return bad_answer(a);
    for (uint32_t i = 0; i < v.count; i++)
        if (!take_row(a, &v.items[i]))
            return false;
    return true;
}

static bool on_table_data(void *arg, slice bytes)
{
    struct asking *a = arg;

    progress_clear();
    while (bytes.len) {
        const uint8_t *nl = memchr(bytes.ptr, '\n', bytes.len);
        if (!nl) {
            buf_slice(&a->line, bytes);
            return true;
        }
        buf_put(&a->line, bytes.ptr, (size_t)(nl - bytes.ptr));
        bytes = slice_from(bytes, (size_t)(nl - bytes.ptr) + 1);
        if (slice_trim(buf_view(&a->line)).len && !take_line(a, buf_view(&a->line)))
            return false;
        a->line.len = 0;
    }
    return true;
}

static bool on_data(void *arg, slice bytes)
{
    struct asking *a = arg;

    progress_clear();
    if (bytes.len)
        a->last_newline = bytes.ptr[bytes.len - 1] == '\n';
    if (fwrite(bytes.ptr, 1, bytes.len, stdout) == bytes.len)
        return true;
    (void)output_failed(&a->fault);
    return false;
}

/* ---- progress and cancelling, on a second connection */

static void cancel_on_server(struct asking *a)
{
    _cleanup_(freep) char *path = mem_fmt("/api/v1/queries/%s", a->id);
    const struct http_call call = {.method = "DELETE", .path = path};
    struct http_reply reply;
    struct err err;

    /* The flag of Ctrl-C would stop this call as well. Where it fails the broken connection cancels the query, only later. */
    interrupt_clear();
    if (http_call(&a->side, &call, &reply, &err) == ERR_OK && reply.status == 200)
        (void)fputs("sluice: the server stopped the query\n", stderr);
    http_reply_done(&reply);
}

static double progress_of(struct asking *a, slice list)
{
    struct arena arena = ARENA_INIT;
    struct json_value v;
    struct err err;
    double progress = -1;

    if (json_dom_parse(list, &arena, &v, &err) == ERR_OK && v.kind == DOM_ARRAY)
        for (uint32_t i = 0; i < v.count; i++) {
            const struct json_value *id = json_dom_get(&v.items[i], "id"), *p = json_dom_get(&v.items[i], "progress");
            if (id && p && id->kind == DOM_STRING && p->kind == DOM_NUMBER && slice_eq(id->string, slice_str(a->id))) {
                _cleanup_(freep) char *text = mem_str(p->raw);
                progress = strtod(text, NULL);
            }
        }
    arena_done(&arena);
    return progress;
}

static bool on_tick(void *arg, uint64_t received)
{
    struct asking *a = arg;
    int64_t now = os_mono_us(os_real());
    const struct http_call call = {.method = "GET", .path = "/api/v1/queries"};
    struct http_reply reply;
    struct err err;

    if (!term_is(stderr) || received || now - a->start_us < PROGRESS_AFTER_US ||
        now - a->shown_us < PROGRESS_AFTER_US / 2)
        return true;
    a->shown_us = now;
    double p = http_call(&a->side, &call, &reply, &err) == ERR_OK && reply.status == 200
                   ? progress_of(a, buf_view(&reply.body))
                   : -1;
    http_reply_done(&reply);
    double s = (double)(now - a->start_us) / 1e6;
    if (p > 0)
        progress_show("%.0f s, %.0f %% done", s, p * 100);
    else
        progress_show("%.0f s", s);
    return true;
}

/* ---- all of it */

static enum err_code ask(struct asking *a, struct http *h, struct err *err)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    _cleanup_(freep) char *id = mem_fmt("X-Query-Id: %s", a->id);
    const char *const headers[] = {"Content-Type: application/json", accepts[a->format], id, NULL};
    struct http_call call = {
        .method = "POST",
        .path = a->format == FORMAT_TABLE ? "/api/v1/query?streaming=true&fields=true" : "/api/v1/query",
        .headers = headers,
        .data = a->format == FORMAT_TABLE ? on_table_data : on_data,
        .tick = on_tick,
        .arg = a,
    };
    struct http_reply reply = {0};

    TRY(body_of(a, &body, err));
    call.body = buf_view(&body);
    enum err_code rc = http_ok(h, &call, &reply, err);
    a->skipped_files = reply.skipped_files;
    http_reply_done(&reply);
    return rc;
}

static void print_summary(const struct asking *a)
{
    _cleanup_(buf_done) struct buf rows = BUF_INIT;

    print_rows(&rows, a->rows);
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s row%s in %.3f s\n", buf_cstr(&rows), a->rows == 1 ? "" : "s",
                  (double)(os_mono_us(os_real()) - a->start_us) / 1e6);
}

static int finish(struct asking *a, enum err_code rc, const struct err *err)
{
    progress_clear();
    table_end(a->table);
    a->table = NULL;
    if (a->format != FORMAT_ARROW && a->format != FORMAT_TABLE && !a->last_newline)
        (void)fputc('\n', stdout);
    if (rc == ERR_OK) {
        if (a->format == FORMAT_TABLE)
            print_summary(a);
        if (a->skipped_files)
            (void)fprintf(
                stderr, "sluice: rows are missing, as %" PRIu64 " file%s damaged: `sluice catalog verify` names them\n",
                a->skipped_files, a->skipped_files == 1 ? " is" : "s are");
        return EXIT_DONE;
    }
    if (interrupted()) {
        (void)cli_fail("cancelled");
        cancel_on_server(a);
        return EXIT_INTERRUPTED;
    }
    return cli_fail("%s", a->fault.msg[0] ? a->fault.msg : err->msg);
}

int run_query(struct cli *cli)
{
    struct asking a = {.cli = cli, .start_us = os_mono_us(os_real()), .last_newline = true};
    struct http h = {0};
    struct err err = {0};
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return EXIT_USAGE;
    if (!cli_value(cli, "output") && !term_is(stdout))
        format = FORMAT_NDJSON;
    a.format = (enum format)format;
    if (a.format == FORMAT_ARROW && term_is(stdout))
        return cli_usage(cli, "Arrow is no text for a terminal: send it to a file or a program");
    if (cli_value(cli, "file") && cli->args_count)
        return cli_usage(cli, "the SQL is given twice: as an argument and with --file");
    uint8_t random[10];
    os_real()->ops->random(os_real(), random, sizeof(random));
    struct ulid id = ulid_make(os_wall_us(os_real()) / 1000, random);
    memcpy(a.id, id.text, sizeof(a.id));
    enum err_code rc = read_sql(&a, &err);
    if (rc == ERR_OK)
        rc = http_open(&cli->config, &h, &err);
    if (rc == ERR_OK)
        rc = http_open(&cli->config, &a.side, &err);
    interrupt_catch();
    if (rc == ERR_OK)
        rc = ask(&a, &h, &err);
    int exit_code = finish(&a, rc, &err);
    http_close(&h);
    http_close(&a.side);
    buf_done(&a.sql_text);
    buf_done(&a.line);
    arena_done(&a.names_arena);
    arena_done(&a.row_arena);
    return exit_code;
}
