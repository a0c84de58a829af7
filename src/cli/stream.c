/* stream.c: `sluice stream ...`: thin over the HTTP routes. */
#include "cli/cli_int.h"

#include <jansson.h>
#include <stdarg.h>
#include <unistd.h>

#include "cli/http.h"
#include "cli/term.h"
#include "os/os.h"

#include "base/banned.h"

#define SCHEMA_BYTES_MAX (1u << 20)

/* ---- calls */

/* One call; the message of an error is printed. */
static bool call(struct cli *cli, struct http *h, const struct http_call *c, struct http_reply *reply)
{
    struct err err;
    (void)cli;

    if (http_ok(h, c, reply, &err) == ERR_OK)
        return true;
    (void)cli_fail("%s", err.msg);
    return false;
}

static bool open_http(struct cli *cli, struct http *h)
{
    struct err err;

    interrupt_catch();
    if (http_open(&cli->config, h, &err) == ERR_OK)
        return true;
    (void)cli_fail("%s", err.msg);
    return false;
}

/* GET of a route of a stream (name NULL: of all) as JSON; NULL: the error is printed. */
static json_t *get_json(struct cli *cli, struct http *h, const char *name, const char *tail)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    struct http_reply reply = {0};
    json_error_t fault;
    json_t *v = NULL;

    http_path(&path, "logstream", name, tail);
    const struct http_call c = {.method = "GET", .path = buf_cstr(&path)};
    if (call(cli, h, &c, &reply)) {
        v = json_loadb((const char *)reply.body.ptr, reply.body.len, 0, &fault);
        if (!v)
            (void)cli_fail("the server's answer is no JSON: is %s a Sluice server?",
                           config_text(&cli->config, SET_SERVER));
    }
    http_reply_done(&reply);
    return v;
}

/* Takes it. */
static int print_json(json_t *v)
{
    int rc = json_dumpf(v, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
    json_decref(v);
    struct err err;
    return rc == 0 || output_failed(&err) == ERR_OK ? EXIT_DONE : cli_fail("%s", err.msg);
}

static bool wants_table(struct cli *cli, bool *table)
{
    static const char *const formats[] = {"table", "json"};
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return false;
    *table = cli_value(cli, "output") ? format == 0 : term_is(stdout);
    return true;
}

/* ---- ls */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int print_names(const json_t *list)
{
    size_t n = json_array_size(list);
    const char **names = mem_zalloc(sizeof(*names) * (n + 1));

    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
        names[i] = name ? name : "?";
    }
    qsort(names, n, sizeof(*names), by_name);
    for (size_t i = 0; i < n; i++) {
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        (void)term_text(&b, slice_str(names[i]), 0);
        printf("%s\n", buf_cstr(&b));
    }
    free(names);
    return EXIT_DONE;
}

int run_stream_ls(struct cli *cli)
{
    struct http h = {0};
    bool table;
    int rc = EXIT_FAILED;

    if (!wants_table(cli, &table))
        return EXIT_USAGE;
    json_t *list = open_http(cli, &h) ? get_json(cli, &h, NULL, "") : NULL;
    if (list && table) {
        rc = print_names(list);
        json_decref(list);
    } else if (list) {
        rc = print_json(list);
    }
    http_close(&h);
    return rc;
}

/* ---- create */

static bool read_schema(const char *path, struct buf *out)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct err err;
    size_t len;
    json_error_t fault;

    if (os_read_file(os_real(), path, SCHEMA_BYTES_MAX, &bytes, &len, &err) != ERR_OK) {
        (void)cli_fail("%s", err.msg);
        return false;
    }
    json_t *v = json_loadb((const char *)bytes, len, 0, &fault);
    if (!v) {
        (void)cli_fail("%s: line %d: %s", path, fault.line, fault.text);
        return false;
    }
    json_decref(v);
    buf_put(out, bytes, len);
    return true;
}

static bool put_retention(struct cli *cli, struct http *h, const char *name, uint64_t days)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT, body = BUF_INIT;
    struct http_reply reply = {0};
    const char *const headers[] = {"Content-Type: application/json", NULL};

    http_path(&path, "logstream", name, "/retention");
    buf_fmt(&body, "[{\"description\":\"\",\"action\":\"delete\",\"duration\":\"%llud\"}]", (unsigned long long)days);
    const struct http_call c = {.method = "PUT", .path = buf_cstr(&path), .headers = headers, .body = buf_view(&body)};
    bool ok = call(cli, h, &c, &reply);
    http_reply_done(&reply);
    return ok;
}

static enum err_code put_stream(struct cli *cli, struct http *h, slice schema, struct err *err)
{
    const char *partition = cli_value(cli, "partition");
    _cleanup_(freep) char *by = mem_fmt("X-P-Custom-Partition: %s", partition ? partition : "");
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    struct http_reply reply = {0};
    const char *headers[4] = {"Content-Type: application/json"};
    size_t n = 1;

    if (partition)
        headers[n++] = by;
    if (schema.len)
        headers[n++] = "X-P-Static-Schema-Flag: true";
    http_path(&path, "logstream", cli->args[0], "");
    const struct http_call c = {.method = "PUT", .path = buf_cstr(&path), .headers = headers, .body = schema};
    enum err_code rc = http_ok(h, &c, &reply, err);
    http_reply_done(&reply);
    return rc;
}

static int create(struct cli *cli, struct http *h, slice schema, uint64_t days)
{
    struct err err;

    if (put_stream(cli, h, schema, &err) != ERR_OK) {
        bool there = strstr(err.msg, "already exists") != NULL;
        if (!there || !cli_on(cli, "if-missing"))
            return cli_fail("%s%s", err.msg, there ? " (--if-missing accepts that)" : "");
        (void)fprintf(stderr, "stream %s is there already\n", cli->args[0]);
        return EXIT_DONE;
    }
    if (days && !put_retention(cli, h, cli->args[0], days))
        return EXIT_FAILED;
    (void)fprintf(stderr, "created stream %s\n", cli->args[0]);
    return EXIT_DONE;
}

int run_stream_create(struct cli *cli)
{
    const char *path = cli_value(cli, "schema"), *retention = cli_value(cli, "retention");
    _cleanup_(buf_done) struct buf schema = BUF_INIT;
    struct http h = {0};
    uint64_t days = 0;

    if (retention) {
        slice s = slice_str(retention);
        s.len -= s.len > 1 && s.ptr[s.len - 1] == 'd';
        if (!slice_u64(s, &days) || days == 0 || days > 36500)
            return cli_usage(cli, "--retention '%s' is no number of days from 1 to 36500", retention);
    }
    if (path && !read_schema(path, &schema))
        return EXIT_FAILED;
    int rc = open_http(cli, &h) ? create(cli, &h, buf_view(&schema), days) : EXIT_FAILED;
    http_close(&h);
    return rc;
}

/* ---- rm */

static bool confirmed(const struct cli *cli)
{
    char answer[16];

    (void)fprintf(stderr, "delete ");
    for (size_t i = 0; i < cli->args_count; i++)
        (void)fprintf(stderr, "%s%s", i ? ", " : "", cli->args[i]);
    (void)fprintf(stderr, " with all rows? [y/N] ");
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool remove_one(struct cli *cli, struct http *h, const char *name)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    struct http_reply reply = {0};
    struct err err;

    http_path(&path, "logstream", name, "");
    const struct http_call c = {.method = "DELETE", .path = buf_cstr(&path)};
    enum err_code rc = http_ok(h, &c, &reply, &err);
    http_reply_done(&reply);
    if (rc == ERR_OK)
        (void)fprintf(stderr, "deleted stream %s\n", name);
    else if (rc == ERR_NOT_FOUND && cli_on(cli, "if-exists"))
        (void)fprintf(stderr, "there is no stream %s\n", name);
    else
        (void)cli_fail("%s: %s", name, err.msg);
    return rc == ERR_OK || (rc == ERR_NOT_FOUND && cli_on(cli, "if-exists"));
}

int run_stream_rm(struct cli *cli)
{
    struct http h = {0};
    bool ok = true;

    if (!cli_on(cli, "yes")) {
        if (!term_is(stdin))
            return cli_usage(cli, "this deletes rows for good: say --yes");
        if (!confirmed(cli))
            return cli_fail("nothing was deleted");
    }
    if (!open_http(cli, &h))
        return EXIT_FAILED;
    for (size_t i = 0; i < cli->args_count; i++)
        ok &= remove_one(cli, &h, cli->args[i]);
    http_close(&h);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

/* ---- info, schema */

static void info_line(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void info_line(const char *name, const char *fmt, ...)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)term_text(&b, slice_str(text), 0);
    printf("%-14s %s\n", name, buf_cstr(&b));
}

static uint64_t number_at(const json_t *v, const char *group, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(json_object_get(v, group), key));
    return n > 0 ? (uint64_t)n : 0;
}

static const char *text_at(const json_t *v, const char *key)
{
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "-";
}

static void print_info(const char *name, const json_t *info, const json_t *stats, const json_t *retention)
{
    _cleanup_(buf_done) struct buf rows = BUF_INIT, in = BUF_INIT, out = BUF_INIT;
    const char *keep = json_string_value(json_object_get(json_array_get(retention, 0), "duration"));

    print_rows(&rows, number_at(stats, "ingestion", "count"));
    print_amount(&in, (double)number_at(stats, "ingestion", "size"), "B");
    print_amount(&out, (double)number_at(stats, "storage", "size"), "B");
    info_line("name", "%s", name);
    info_line("created", "%s", text_at(info, "createdAt"));
    info_line("first row", "%s", text_at(info, "firstEventAt"));
    info_line("latest row", "%s", text_at(info, "latestEventAt"));
    info_line("rows", "%s", buf_cstr(&rows));
    info_line("JSON", "%s", buf_cstr(&in));
    info_line("files", "%s", buf_cstr(&out));
    info_line("retention", "%s", keep ? keep : "for ever");
    info_line("partition", "%s", text_at(info, "customPartition"));
    info_line("static schema", "%s", json_object_get(info, "staticSchemaFlag") ? "yes" : "no");
    info_line("type", "%s, %s", text_at(info, "streamType"), text_at(info, "telemetryType"));
}

int run_stream_info(struct cli *cli)
{
    const char *name = cli->args[0];
    struct http h = {0};
    bool table;
    int rc = EXIT_FAILED;
    json_t *info = NULL, *stats = NULL, *retention = NULL;

    if (!wants_table(cli, &table))
        return EXIT_USAGE;
    if (open_http(cli, &h) && (info = get_json(cli, &h, name, "/info")) && (stats = get_json(cli, &h, name, "/stats")))
        retention = get_json(cli, &h, name, "/retention");
    if (retention && table) {
        print_info(name, info, stats, retention);
        rc = EXIT_DONE;
    } else if (retention) {
        rc = print_json(json_pack("{sssOsOsO}", "name", name, "info", info, "stats", stats, "retention", retention));
    }
    json_decref(info);
    json_decref(stats);
    json_decref(retention);
    http_close(&h);
    return rc;
}

/* "Utf8", {"Timestamp": [...]} as "Timestamp", {"List": {...}} as "List<Float64>" */
static void type_text(const json_t *type, struct buf *out)
{
    const char *key;
    json_t *value;

    if (json_is_string(type)) {
        buf_str(out, json_string_value(type));
        return;
    }
    json_object_foreach ((json_t *)(uintptr_t)type, key, value) {
        buf_str(out, key);
        const json_t *item = json_object_get(value, "data_type");
        if (item) {
            buf_byte(out, '<');
            type_text(item, out);
            buf_byte(out, '>');
        }
    }
}

static int print_schema(const json_t *schema)
{
    const json_t *fields = json_object_get(schema, "fields");
    const slice names[] = {slice_lit("column"), slice_lit("type")};
    struct table *t = table_new(stdout, term_width(stdout), names, 2);

    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        _cleanup_(buf_done) struct buf type = BUF_INIT;
        type_text(json_object_get(field, "data_type"), &type);
        const struct cell cells[] = {{CELL_TEXT, slice_str(text_at(field, "name"))}, {CELL_TEXT, buf_view(&type)}};
        table_row(t, cells);
    }
    table_end(t);
    return EXIT_DONE;
}

int run_stream_schema(struct cli *cli)
{
    struct http h = {0};
    bool table;
    int rc = EXIT_FAILED;

    if (!wants_table(cli, &table))
        return EXIT_USAGE;
    json_t *schema = open_http(cli, &h) ? get_json(cli, &h, cli->args[0], "/schema") : NULL;
    if (schema && table) {
        rc = print_schema(schema);
        json_decref(schema);
    } else if (schema) {
        rc = print_json(schema);
    }
    http_close(&h);
    return rc;
}
