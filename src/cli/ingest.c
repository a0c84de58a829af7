/* ingest.c: `sluice ingest`: rows of files -> batches -> several requests at a time, until every row is acknowledged or refused.
 *
 * One thread: libcurl's multi interface drives the requests, and while a slot is free the loop reads on. A batch is
 *
 *   reading -> waiting (slot free) -> in flight -> acknowledged
 *                 ^                      |-> 429, 503, 5xx, no connection: waits, is sent again
 *                 |                      |-> 413: cut in two halves, each sent again
 *                 `----------------------'-> 400 that names a row: that one is reported, what is before and after it is sent again
 *
 * A bad row ends the reading (unless --skip-bad), not the sending: in the end every row up to the last one read is there, except those
 * that were reported, and the summary names that place.
 * The server keeps nothing of a request that it refuses, so nothing is doubled by that. Only a connection that breaks after the request
 * was sent leaves it open whether the rows are there: they are sent again and counted as maybe twice.
 * BOUNDS  (parallel + 1) batches and one row in memory; a batch is given up after RETRY_US_MAX without success. */
#include "cli/cli_int.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/http.h"
#include "cli/input.h"
#include "cli/term.h"
#include "os/os.h"

#include "base/banned.h"

#define PARALLEL_MAX 64
#define BATCH_ROWS_MAX 100000
#define BATCH_AGE_US 500000 /* of a pipe: what came is sent after this time even if there is room */
#define RETRY_US_MAX INT64_C(300000000)
#define WAIT_US_MIN 100000
#define WAIT_US_MAX INT64_C(5000000)
#define BAD_SHOWN_MAX 20
#define PROGRESS_US 200000

struct row {
    size_t at, len; /* in the batch's text */
    uint64_t line;
};
struct batch {
    struct batch *next; /* in the list of those that wait */
    const char *file, *stream;
    struct buf text; /* "[{...},{...}" and, once it is sent, "]" */
    struct row *rows;
    size_t rows_count, rows_cap;
    int64_t since_us;  /* first row read */
    int64_t failed_us; /* first failure; 0 none */
    int64_t not_before_us;
    unsigned tries;
    bool maybe_twice;
};
struct slot {
    struct http http;
    struct batch *batch; /* NULL: free */
    struct http_call call;
    struct http_reply reply;
    struct curl_slist *headers;
    char *stream_header;
};
struct sending {
    struct cli *cli;
    CURLM *multi;
    struct slot slots[PARALLEL_MAX];
    size_t slots_count, busy;
    struct batch *waiting;
    struct batch *reading; /* not full yet */
    size_t batch_bytes;
    const char *source_header;
    bool skip_bad, quiet;

    size_t file_at; /* in cli->args */
    struct input *input;
    char *stream;  /* of the file */
    uint64_t line; /* of the row read last */
    bool read_all; /* nothing more will be read */
    bool early;    /* ... though there was more */
    bool stop;     /* nothing more will be sent */
    bool ever;     /* the server acknowledged something */

    uint64_t rows, bytes, bad, retries, maybe_twice,
        lost;                       /* rows acknowledged, their JSON bytes; bad rows; ... ; rows not acknowledged */
    uint64_t size_total, size_done; /* of files, as on disk */
    bool size_known;
    int64_t start_us, shown_us;
};

static int64_t now_us(void)
{
    return os_mono_us(os_real());
}

/* ---- batches */

static struct batch *batch_new(const char *file, const char *stream)
{
    struct batch *b = mem_zalloc(sizeof(*b));
    b->file = file;
    b->stream = mem_str(slice_str(stream));
    b->since_us = now_us();
    return b;
}

static void batch_free(struct batch *b)
{
    if (!b)
        return;
    buf_done(&b->text);
    free(b->rows);
    free((char *)(uintptr_t)b->stream);
    free(b);
}

static void batch_add(struct batch *b, slice row, uint64_t line)
{
    struct row *r = ARRAY_PUSH(b->rows, b->rows_count, b->rows_cap);

    buf_byte(&b->text, b->rows_count == 1 ? '[' : ',');
    *r = (struct row){b->text.len, row.len, line};
    buf_slice(&b->text, row);
}

/* A batch of rows [from, to) of another. */
static struct batch *batch_part(const struct batch *b, size_t from, size_t to)
{
    struct batch *part = batch_new(b->file, b->stream);

    part->maybe_twice = b->maybe_twice;
    for (size_t i = from; i < to; i++)
        batch_add(part, slice_of(b->text.ptr + b->rows[i].at, b->rows[i].len), b->rows[i].line);
    return part;
}

static uint64_t batch_bytes(const struct batch *b)
{
    uint64_t n = 0;

    for (size_t i = 0; i < b->rows_count; i++)
        n += b->rows[i].len;
    return n;
}

static void put_back(struct sending *s, struct batch *b)
{
    if (b->rows_count == 0) {
        batch_free(b);
        return;
    }
    b->next = s->waiting;
    s->waiting = b;
}

/* The first that may be sent now. */
static struct batch *take_waiting(struct sending *s, int64_t now)
{
    for (struct batch **at = &s->waiting; *at; at = &(*at)->next)
        if ((*at)->not_before_us <= now) {
            struct batch *b = *at;
            *at = b->next;
            b->next = NULL;
            return b;
        }
    return NULL;
}

/* ---- what goes wrong */

static void report(struct sending *s, const char *file, uint64_t line, const char *what)
{
    progress_clear();
    if (!s->skip_bad || s->bad <= BAD_SHOWN_MAX)
        (void)cli_fail("%s:%" PRIu64 ": %s", file, line, what);
    if (s->skip_bad && s->bad == BAD_SHOWN_MAX)
        (void)cli_fail("more bad rows are only counted");
}

static void bad_row(struct sending *s, const char *file, uint64_t line, const char *what)
{
    s->bad++;
    report(s, file, line, what);
    if (s->skip_bad)
        return;
    s->early = true;
    if (s->bad >= BAD_SHOWN_MAX) {
        (void)cli_fail("too many bad rows");
        s->stop = true;
    }
}

static void give_up(struct sending *s, struct batch *b, const char *what)
{
    progress_clear();
    if (!s->stop)
        (void)cli_fail("%s, lines %" PRIu64 " to %" PRIu64 ": %s", b->file, b->rows[0].line,
                       b->rows[b->rows_count - 1].line, what);
    s->stop = true;
    s->lost += b->rows_count;
    batch_free(b);
}

/* "... (row 12)" at the end of a server's message, from 1; 0: it names none. */
static uint64_t named_row(slice message)
{
    const slice mark = slice_lit("(row ");
    slice s = slice_trim(message);
    uint64_t n;

    if (s.len == 0 || s.ptr[s.len - 1] != ')')
        return 0;
    for (size_t i = s.len; i-- > mark.len;)
        if (slice_starts(slice_from(s, i - mark.len), mark))
            return slice_u64(slice_of(s.ptr + i, s.len - 1 - i), &n) ? n : 0;
    return 0;
}

static void again_later(struct sending *s, struct batch *b, long retry_after_s, const char *why)
{
    int64_t now = now_us(), wait = WAIT_US_MIN << MIN(b->tries, 10u);
    uint32_t spread;

    os_real()->ops->random(os_real(), &spread, sizeof(spread));
    wait = MIN(wait, WAIT_US_MAX);
    wait = wait / 2 + spread % (wait / 2);
    wait = MAX(wait, (int64_t)retry_after_s * 1000000);
    b->failed_us = b->failed_us ? b->failed_us : now;
    if (s->stop || interrupted() || now + wait - b->failed_us > RETRY_US_MAX) {
        give_up(s, b, why);
        return;
    }
    b->tries++;
    b->not_before_us = now + wait;
    s->retries++;
    put_back(s, b);
}

static void put_back_halves(struct sending *s, const struct batch *b, size_t from)
{
    size_t half = from + (b->rows_count - from) / 2;

    put_back(s, batch_part(b, half, b->rows_count));
    put_back(s, batch_part(b, from, half));
}

/* Halves, so that a batch of nothing but bad rows is not sent as often as it has rows. */
static void refused(struct sending *s, struct batch *b, const struct slot *slot, const struct err *err)
{
    uint64_t n = b->rows_count == 1 ? 1 : named_row(buf_view(&slot->reply.body));
    long status = slot->reply.status;

    if (status == 413 && b->rows_count > 1 && n == 0) {
        put_back_halves(s, b, 0);
    } else if ((status == 400 || status == 413) && n > 0 && n <= b->rows_count) {
        bad_row(s, b->file, b->rows[n - 1].line, err->msg);
        put_back_halves(s, b, (size_t)n);
        put_back(s, batch_part(b, 0, (size_t)n - 1));
    } else {
        give_up(s, b, err->msg);
        return;
    }
    batch_free(b);
}

/* ---- requests */

static void slot_start(struct sending *s, struct slot *slot, struct batch *b)
{
    const char *headers[4] = {"Content-Type: application/json"};

    if (b->text.ptr[b->text.len - 1] == '}') /* not yet sent */
        buf_byte(&b->text, ']');
    slot->batch = b;
    slot->stream_header = mem_fmt("X-P-Stream: %s", b->stream);
    headers[1] = slot->stream_header;
    headers[2] = s->source_header;
    slot->call = (struct http_call){
        .method = "POST", .path = "/api/v1/ingest", .headers = headers, .body = buf_view(&b->text), .finish = true};
    memset(&slot->reply, 0, sizeof(slot->reply));
    http_prepare(&slot->http, &slot->call, &slot->reply, &slot->headers);
    slot->call.headers = NULL; /* they were copied */
    (void)curl_easy_setopt(slot->http.curl, CURLOPT_TIMEOUT, 300L);
    ASSERT(curl_multi_add_handle(s->multi, slot->http.curl) == CURLM_OK);
    s->busy++;
}

static void acknowledged(struct sending *s, struct batch *b)
{
    s->ever = true;
    s->rows += b->rows_count;
    s->bytes += batch_bytes(b);
    s->maybe_twice += b->maybe_twice ? b->rows_count : 0;
    batch_free(b);
}

static void slot_end(struct sending *s, struct slot *slot, CURLcode code)
{
    struct batch *b = move_ptr(slot->batch);
    struct err err = {0};

    (void)curl_multi_remove_handle(s->multi, slot->http.curl);
    curl_slist_free_all(slot->headers);
    free(slot->stream_header);
    slot->headers = NULL;
    slot->stream_header = NULL;
    s->busy--;
    enum err_code rc = http_result(&slot->http, code, &slot->reply, &err);
    bool no_server = rc == ERR_UNAVAILABLE && !s->ever && !s->retries;
    b->maybe_twice |= rc == ERR_UNKNOWN;
    if (rc == ERR_OK)
        rc = http_status_error(&slot->http, &slot->reply, &err);
    if (rc == ERR_OK)
        acknowledged(s, b);
    else if (no_server)
        give_up(s, b, err.msg);
    else if (rc == ERR_UNAVAILABLE || rc == ERR_UNKNOWN || rc == ERR_IO)
        again_later(s, b, slot->reply.retry_after_s, err.msg);
    else
        refused(s, b, slot, &err);
    http_reply_done(&slot->reply);
}

static void drive(struct sending *s)
{
    int running, left;
    CURLMsg *m;

    ASSERT(curl_multi_perform(s->multi, &running) == CURLM_OK);
    while ((m = curl_multi_info_read(s->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        for (size_t i = 0; i < s->slots_count; i++)
            if (s->slots[i].batch && s->slots[i].http.curl == m->easy_handle) {
                slot_end(s, &s->slots[i], m->data.result);
                break;
            }
    }
}

static struct slot *free_slot(struct sending *s)
{
    for (size_t i = 0; i < s->slots_count; i++)
        if (!s->slots[i].batch)
            return &s->slots[i];
    return NULL;
}

/* ---- reading */

/* "/var/log/web.json.gz" -> "web" */
static char *stream_of(const struct sending *s, const char *path)
{
    const char *given = cli_value(s->cli, "stream"), *base = strrchr(path, '/');

    if (given)
        return mem_str(slice_str(given));
    base = base ? base + 1 : path;
    return mem_str(slice_of(base, strcspn(base, ".")));
}

static bool open_next(struct sending *s)
{
    const char *path;
    struct err err;

    if (s->file_at >= s->cli->args_count) {
        s->read_all = true;
        return false;
    }
    path = s->cli->args[s->file_at];
    free(s->stream);
    s->stream = stream_of(s, path);
    if (input_open(path, &s->input, &err) == ERR_OK)
        return true;
    (void)cli_fail("%s", err.msg);
    s->early = true;
    return false;
}

static void close_input(struct sending *s)
{
    s->size_done += input_bytes(s->input);
    input_close(s->input);
    s->input = NULL;
    s->file_at++;
}

static void hand_over(struct sending *s)
{
    struct batch *b = move_ptr(s->reading);

    if (b)
        put_back(s, b);
}

static void take_row(struct sending *s, slice row, uint64_t line)
{
    const char *path = s->cli->args[s->file_at];

    s->line = line;
    if (s->reading && s->reading->text.len + row.len > s->batch_bytes)
        hand_over(s);
    if (!s->reading)
        s->reading = batch_new(path, s->stream);
    batch_add(s->reading, row, line);
    if (s->reading->text.len >= s->batch_bytes || s->reading->rows_count >= BATCH_ROWS_MAX)
        hand_over(s);
}

/* Reads until a batch waits. False: there is nothing to read just now. */
static bool read_some(struct sending *s)
{
    struct err err = {0};
    uint64_t line;
    slice row;

    while (!s->waiting && !s->stop && !s->early) {
        if (!s->input && !open_next(s))
            return false;
        const char *path = s->cli->args[s->file_at];
        switch (input_next(s->input, &row, &line, &err)) {
        case INPUT_ROW: take_row(s, row, line); break;
        case INPUT_BAD:
            s->line = line;
            bad_row(s, path, line, err.msg);
            break;
        case INPUT_WAIT: return false;
        case INPUT_END:
            hand_over(s); /* a batch is of one file */
            close_input(s);
            break;
        case INPUT_FAIL:
            bad_row(s, path, line, err.msg);
            hand_over(s);
            if (s->skip_bad)
                close_input(s); /* on with the next file */
            break;
        default: ASSERT(false);
        }
    }
    return true;
}

/* ---- progress */

static void show_bar(const struct sending *s, double seconds)
{
    _cleanup_(buf_done) struct buf bar = BUF_INIT, rate = BUF_INIT, rows = BUF_INIT;
    uint64_t done = s->size_done + (s->input ? input_bytes(s->input) : 0);
    double part = s->size_known && s->size_total ? MIN((double)done / (double)s->size_total, 1) : -1;

    print_amount(&rate, seconds > 0 ? (double)s->bytes / seconds : 0, "B/s");
    print_rows(&rows, s->rows);
    if (part < 0) {
        progress_show("%s rows  %s  %.0f s", buf_cstr(&rows), buf_cstr(&rate), seconds);
        return;
    }
    term_bar(&bar, part);
    long left = part > 0.01 ? (long)(seconds / part - seconds + 0.5) : -1;
    if (left >= 0)
        progress_show("%s %3.0f %%  %s  %s rows  %ld:%02ld left", buf_cstr(&bar), part * 100, buf_cstr(&rate),
                      buf_cstr(&rows), left / 60, left % 60);
    else
        progress_show("%s %3.0f %%  %s  %s rows", buf_cstr(&bar), part * 100, buf_cstr(&rate), buf_cstr(&rows));
}

static void show_progress(struct sending *s)
{
    int64_t now = now_us();

    if (s->quiet || now - s->shown_us < PROGRESS_US || now - s->start_us < PROGRESS_US)
        return;
    s->shown_us = now;
    show_bar(s, (double)(now - s->start_us) / 1e6);
}

/* ---- the loop */

static void wait_for_something(struct sending *s, bool wants_input)
{
    struct curl_waitfd extra = {.fd = s->input ? input_fd(s->input) : -1, .events = CURL_WAIT_POLLIN};
    bool poll_input = wants_input && s->input && input_waits(s->input);
    int ready;

    ASSERT(curl_multi_poll(s->multi, &extra, poll_input, 100, &ready) == CURLM_OK);
}

static void send_waiting(struct sending *s)
{
    struct slot *slot;
    struct batch *b;

    while (!s->stop && (slot = free_slot(s)) && (b = take_waiting(s, now_us())))
        slot_start(s, slot, b);
}

static void run(struct sending *s)
{
    while (!s->stop || s->busy) {
        bool starved = false;
        s->early |= interrupted();
        if (s->early && !s->read_all) {
            hand_over(s);
            s->read_all = true;
        }
        send_waiting(s);
        while (!s->stop && !s->early && free_slot(s) && !s->read_all && !s->waiting) {
            starved = !read_some(s);
            if (starved && s->reading && (s->read_all || now_us() - s->reading->since_us >= BATCH_AGE_US))
                hand_over(s);
            send_waiting(s);
            drive(s); /* reading a large file must not keep the requests waiting */
            if (starved)
                break;
        }
        drive(s);
        show_progress(s);
        if (s->read_all && !s->reading && !s->waiting && !s->busy)
            break;
        if (s->busy || starved || s->waiting)
            wait_for_something(s, starved);
    }
}

static void drop_rest(struct sending *s)
{
    hand_over(s);
    while (s->waiting) {
        struct batch *b = s->waiting;
        s->waiting = b->next;
        s->lost += b->rows_count;
        batch_free(b);
    }
    input_close(s->input);
    s->input = NULL;
}

static bool complete(const struct sending *s)
{
    return s->read_all && !s->early && !s->stop && !s->lost && !s->bad;
}

static void print_summary(const struct sending *s, bool json)
{
    double seconds = (double)(now_us() - s->start_us) / 1e6;
    _cleanup_(buf_done) struct buf rows = BUF_INIT, bytes = BUF_INIT, rate = BUF_INIT;

    if (json) {
        printf("{\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f,\"bad\":%" PRIu64 ",\"retries\":%" PRIu64
               ",\"maybe_twice\":%" PRIu64 ",\"complete\":%s}\n",
               s->rows, s->bytes, seconds, s->bad, s->retries, s->maybe_twice, complete(s) ? "true" : "false");
        return;
    }
    print_rows(&rows, s->rows);
    print_amount(&bytes, (double)s->bytes, "B");
    print_amount(&rate, seconds > 0 ? (double)s->bytes / seconds : 0, "B/s");
    (void)fprintf(stderr, "%s row%s, %s in %.1f s (%s)", buf_cstr(&rows), s->rows == 1 ? "" : "s", buf_cstr(&bytes),
                  seconds, buf_cstr(&rate));
    if (s->bad)
        (void)fprintf(stderr, "; %" PRIu64 " bad row%s left out", s->bad, s->bad == 1 ? "" : "s");
    if (s->retries)
        (void)fprintf(stderr, "; %" PRIu64 " request%s repeated", s->retries, s->retries == 1 ? "" : "s");
    if (s->maybe_twice)
        (void)fprintf(stderr, "; %" PRIu64 " rows may be there twice, a connection broke", s->maybe_twice);
    if (s->lost)
        (void)fprintf(stderr, "; %" PRIu64 " read but not taken", s->lost);
    if (s->early && s->file_at < s->cli->args_count)
        (void)fprintf(stderr, "; stopped after %s line %" PRIu64, s->cli->args[s->file_at], s->line);
    (void)fputc('\n', stderr);
}

/* Before anything is sent: a name that is wrong should cost nothing. */
static bool look_at_files(struct sending *s)
{
    struct stat st;

    s->size_known = true;
    for (size_t i = 0; i < s->cli->args_count; i++) {
        const char *path = s->cli->args[i];
        if (strcmp(path, "-") == 0) {
            s->size_known = false;
        } else if (stat(path, &st) != 0 || access(path, R_OK) != 0) {
            (void)cli_fail("%s: %s", path, errno == ENOENT ? "there is no such file" : strerror(errno));
            return false;
        } else {
            s->size_known &= S_ISREG(st.st_mode);
            s->size_total += st.st_size > 0 ? (uint64_t)st.st_size : 0;
        }
    }
    return true;
}

static int options(struct sending *s)
{
    struct cli *cli = s->cli;
    const char *parallel = cli_value(cli, "parallel"), *batch = cli_value(cli, "batch");
    uint64_t n = 4;
    struct err err;

    if (parallel && (!slice_u64(slice_str(parallel), &n) || n == 0 || n > PARALLEL_MAX))
        return cli_usage(cli, "--parallel '%s' is no number from 1 to %d", parallel, PARALLEL_MAX);
    s->slots_count = (size_t)n;
    n = 4u << 20;
    if (batch && parse_size(slice_str(batch), 0, &n, &err) != ERR_OK)
        return cli_usage(cli, "--batch: %s", err.msg);
    if (n < 1 || n > 100u << 20)
        return cli_usage(cli, "--batch '%s': from 1 B to 100MiB", batch);
    s->batch_bytes = (size_t)n;
    s->skip_bad = cli_on(cli, "skip-bad");
    s->quiet = cli_on(cli, "quiet");
    for (size_t i = 0; i < cli->args_count; i++) {
        _cleanup_(freep) char *stream = stream_of(s, cli->args[i]);
        if (stream[0] == 0 || strcmp(stream, "-") == 0)
            return cli_usage(cli, "'%s' has no name to take the stream's from: say --stream NAME", cli->args[i]);
        if (strpbrk(stream, "\r\n"))
            return cli_usage(cli, "the name of a stream can not hold a line break");
    }
    return EXIT_DONE;
}

static bool open_slots(struct sending *s)
{
    struct err err;

    for (size_t i = 0; i < s->slots_count; i++)
        if (http_open(&s->cli->config, &s->slots[i].http, &err) != ERR_OK) {
            (void)cli_fail("%s", err.msg);
            return false;
        }
    s->multi = curl_multi_init();
    ASSERT(s->multi);
    return true;
}

int run_ingest(struct cli *cli)
{
    static const char *const formats[] = {"text", "json"};
    struct sending *s = mem_zalloc(sizeof(*s));
    const char *source = cli_value(cli, "source");
    _cleanup_(freep) char *source_header = source ? mem_fmt("X-P-Log-Source: %s", source) : NULL;
    size_t format;

    s->cli = cli;
    s->source_header = source_header;
    s->start_us = now_us();
    int rc = cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format) ? options(s) : EXIT_USAGE;
    if (rc == EXIT_DONE) {
        interrupt_catch();
        rc = EXIT_FAILED;
        if (look_at_files(s) && open_slots(s)) {
            run(s);
            drop_rest(s);
            progress_clear();
            if (!s->quiet)
                print_summary(s, format == 1);
            rc = complete(s) ? EXIT_DONE : interrupted() ? EXIT_INTERRUPTED : EXIT_FAILED;
        }
    }
    for (size_t i = 0; i < s->slots_count; i++)
        http_close(&s->slots[i].http);
    if (s->multi)
        (void)curl_multi_cleanup(s->multi);
    free(s->stream);
    free(s);
    return rc;
}
