/* tail.c: `sluice tail`: server-sent events (WHATWG HTML section 9.2) -> lines on stdout.
 *
 * The id of the last event printed is what the next connection begins after, so a broken connection or a restarted server loses no row
 * and repeats none. Where the first connection breaks before any row came, the tail goes on from the present. */
#include "cli/cli_int.h"

#include "cli/http.h"
#include "cli/term.h"
#include "codec/json_dom.h"
#include "os/os.h"

#include "base/banned.h"

#define WAIT_US_MIN 200000
#define WAIT_US_MAX 5000000
#define LINE_BYTES_MAX (64u << 20)

struct following {
    const struct cli *cli;
    bool text, ids;
    uint64_t left;    /* rows to print before the end; UINT64_MAX: no end */
    char last_id[32]; /* of the last row printed; "" none */
    struct buf line, data;
    char id[32], event[32]; /* of the event that is being read */
    struct arena arena;
    struct buf out;
    struct err fault;
    bool connected, ended; /* rows or heartbeats came; all rows asked for were printed */
};

/* ---- one row */

static const struct json_value *first_of(const struct json_value *row, const char *const *names)
{
    for (; *names; names++) {
        const struct json_value *v = json_dom_get(row, *names);
        if (v)
            return v;
    }
    return NULL;
}

static void put_value(struct buf *out, const struct json_value *v)
{
    (void)term_text(out, v->kind == DOM_STRING ? v->string : v->raw, 0);
}

/* time, level, message, then name=value of the rest */
static void put_text(struct following *f, const struct json_value *row)
{
    static const char *const times[] = {"p_timestamp", NULL};
    static const char *const levels[] = {"level", "severity", "severity_text", "lvl", NULL};
    static const char *const messages[] = {"message", "msg", "log", "body", NULL};
    const struct json_value *const head[] = {first_of(row, times), first_of(row, levels), first_of(row, messages)};

    for (size_t i = 0; i < ARRAY_LEN(head); i++)
        if (head[i]) {
            buf_str(&f->out, f->out.len && f->out.ptr[f->out.len - 1] != '\t' ? " " : "");
            put_value(&f->out, head[i]);
        }
    for (uint32_t i = 0; i < row->count; i++) {
        const struct json_value *v = &row->members[i].value;
        if (v == head[0] || v == head[1] || v == head[2] || v->kind == DOM_NULL)
            continue;
        buf_str(&f->out, f->out.len ? " " : "");
        (void)term_text(&f->out, row->members[i].key, 0);
        buf_byte(&f->out, '=');
        put_value(&f->out, v);
    }
}

static bool print_row(struct following *f)
{
    struct json_value row;
    struct err err;

    f->out.len = 0;
    if (f->ids)
        buf_fmt(&f->out, "%s\t", f->id);
    arena_reset(&f->arena);
    if (f->text && json_dom_parse(buf_view(&f->data), &f->arena, &row, &err) == ERR_OK && row.kind == DOM_OBJECT)
        put_text(f, &row);
    else
        buf_slice(&f->out, buf_view(&f->data));
    buf_byte(&f->out, '\n');
    if (fwrite(f->out.ptr, 1, f->out.len, stdout) != f->out.len || fflush(stdout) != 0) {
        (void)output_failed(&f->fault);
        return false;
    }
    if (f->id[0])
        memcpy(f->last_id, f->id, sizeof(f->last_id));
    if (f->left != UINT64_MAX && --f->left == 0)
        f->ended = true;
    return !f->ended;
}

/* ---- the event stream */

static bool end_event(struct following *f)
{
    bool go_on = true;

    if (f->data.len && strcmp(f->event, "error") == 0) {
        (void)err_set(&f->fault, ERR_INVALID, "the server ended the tail: " SLICE_FMT, SLICE_ARG(buf_view(&f->data)));
        go_on = false;
    } else if (f->data.len && strcmp(f->event, "skipped") == 0) {
        (void)fprintf(stderr, "tail: rows are missing, as files are damaged: " SLICE_FMT "\n",
                      SLICE_ARG(buf_view(&f->data)));
    } else if (f->data.len && !f->event[0]) { /* of a kind that a newer server has: not ours */
        go_on = print_row(f);
    }
    f->data.len = 0;
    f->event[0] = 0;
    return go_on;
}

static void set_field(char *out, size_t size, slice value)
{
    if (value.len < size) {
        memcpy(out, value.ptr, value.len);
        out[value.len] = 0;
    }
}

static bool take_line(struct following *f, slice line)
{
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0)
        return end_event(f);
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    slice field = slice_head(line, colon ? (size_t)(colon - line.ptr) : line.len),
          value = slice_from(line, field.len + 1);
    if (value.len && value.ptr[0] == ' ')
        value = slice_from(value, 1);
    if (slice_eq(field, slice_lit("data"))) {
        if (f->data.len)
            buf_byte(&f->data, '\n');
        buf_slice(&f->data, value);
    } else if (slice_eq(field, slice_lit("id"))) {
        set_field(f->id, sizeof(f->id), value);
    } else if (slice_eq(field, slice_lit("event"))) {
        set_field(f->event, sizeof(f->event), value);
    }
    return true;
}

static bool on_data(void *arg, slice bytes)
{
    struct following *f = arg;

    f->connected = true;
    progress_clear();
    while (bytes.len) {
        const uint8_t *nl = memchr(bytes.ptr, '\n', bytes.len);
        size_t n = nl ? (size_t)(nl - bytes.ptr) : bytes.len;
        if (f->line.len + n > LINE_BYTES_MAX) {
            (void)err_set(&f->fault, ERR_CORRUPT, "the server sends a line that never ends");
            return false;
        }
        buf_put(&f->line, bytes.ptr, n);
        if (!nl)
            return true;
        bytes = slice_from(bytes, n + 1);
        bool go_on = take_line(f, buf_view(&f->line));
        f->line.len = 0;
        if (!go_on)
            return false;
    }
    return true;
}

/* ---- connections, one after the other */

static enum err_code follow_once(struct following *f, struct http *h, const char *path, struct err *err)
{
    _cleanup_(freep) char *last = mem_fmt("Last-Event-ID: %s", f->last_id);
    const char *const headers[] = {"Accept: text/event-stream", f->last_id[0] ? last : NULL, NULL};
    const struct http_call call = {.method = "GET", .path = path, .headers = headers, .data = on_data, .arg = f};
    struct http_reply reply;

    f->line.len = f->data.len = 0;
    f->connected = false;
    enum err_code rc = http_ok(h, &call, &reply, err);
    http_reply_done(&reply);
    return rc;
}

static bool wait_a_little(int64_t us)
{
    for (int64_t done = 0; done < us && !interrupted(); done += 100000)
        os_real()->ops->sleep_us(os_real(), 100000);
    return !interrupted();
}

/* A first connection that fails is an error; a later one is tried again: the server may be starting. */
static enum err_code follow(struct following *f, struct http *h, const char *path, struct err *err)
{
    int64_t wait_us = WAIT_US_MIN;
    bool ever = false;

    for (;;) {
        enum err_code rc = follow_once(f, h, path, err);
        ever |= f->connected;
        if (f->ended || interrupted())
            return ERR_OK;
        if (f->fault.msg[0])
            return err_set(err, f->fault.code, "%s", f->fault.msg);
        if (rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_NOT_FOUND || (rc != ERR_OK && !ever))
            return rc;
        progress_show("%s; trying again", rc == ERR_OK ? "the server ended the tail" : err->msg);
        wait_us = f->connected ? WAIT_US_MIN : MIN(wait_us * 2, WAIT_US_MAX);
        if (!wait_a_little(wait_us))
            return ERR_OK;
    }
}

static int options(struct cli *cli, struct following *f)
{
    static const char *const formats[] = {"json", "text"};
    const char *count = cli_value(cli, "count"), *after = cli_value(cli, "after");
    uint64_t id;
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return EXIT_USAGE;
    f->text = format == 1;
    f->ids = cli_on(cli, "ids");
    f->left = UINT64_MAX;
    if (count && (!slice_u64(slice_str(count), &f->left) || f->left == 0))
        return cli_usage(cli, "--count '%s' is no number of rows", count);
    if (after && (!slice_u64(slice_str(after), &id) || strlen(after) >= sizeof(f->last_id)))
        return cli_usage(cli, "--after '%s' is no row id: --ids shows them", after);
    if (after)
        set_field(f->last_id, sizeof(f->last_id), slice_str(after));
    return EXIT_DONE;
}

int run_tail(struct cli *cli)
{
    struct following f = {.cli = cli};
    struct http h = {0};
    struct err err = {0};
    const char *where = cli_value(cli, "where");
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    if (options(cli, &f) != EXIT_DONE)
        return EXIT_USAGE;
    http_path(&path, "logstream", cli->args[0], "/tail");
    if (where) {
        buf_str(&path, "?where=");
        percent_encode(&path, slice_str(where));
    }
    interrupt_catch();
    enum err_code rc = http_open(&cli->config, &h, &err);
    if (rc == ERR_OK)
        rc = follow(&f, &h, buf_cstr(&path), &err);
    progress_clear();
    http_close(&h);
    buf_done(&f.line);
    buf_done(&f.data);
    buf_done(&f.out);
    arena_done(&f.arena);
    if (rc != ERR_OK)
        return cli_fail("%s", err.msg);
    return EXIT_DONE; /* Ctrl-C is how one leaves a tail */
}
