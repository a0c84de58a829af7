/* input.c: see input.h. */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "codec/json_reader.h"

#include "base/banned.h"

#define BLOCK_BYTES (256u << 10)

enum packing { PACKED_UNKNOWN, PACKED_NOT, PACKED_GZIP, PACKED_ZSTD };
enum form { FORM_UNKNOWN, FORM_LINES, FORM_VALUES };

struct input {
    int fd;
    bool waits, eof, all; /* eof: of the file; all: of the text */
    uint64_t size, bytes;
    enum packing packing;
    uint8_t *block; /* [BLOCK_BYTES] as read; PACKED_NOT reads into text */
    size_t block_at, block_len;
    z_stream gzip;
    ZSTD_DStream *zstd;
    bool between; /* members or frames: the file may end here */

    enum form form;
    struct buf text;
    size_t at;     /* first byte not given out */
    size_t scan;   /* bytes from `at` that were looked at and do not end the row */
    uint64_t line; /* of the byte at `at`, from 1 */
    /* FORM_VALUES */
    bool in_array, need_comma, in_string, escaped;
    unsigned depth;
    struct json_reader reader;
};

enum err_code input_open(const char *path, struct input **out, struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
                       errno == ENOENT ? "there is no such file" : strerror(errno));
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        if (!is_stdin)
            (void)close(fd);
        return err_set(err, ERR_INVALID, "%s is a folder: name the files in it", path);
    }
    struct input *in = mem_zalloc(sizeof(*in));
    in->fd = fd;
    in->waits = !S_ISREG(st.st_mode);
    in->size = S_ISREG(st.st_mode) && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    in->block = mem_alloc(BLOCK_BYTES);
    in->line = 1;
    in->between = true;
    *out = in;
    return ERR_OK;
}

void input_close(struct input *in)
{
    if (!in)
        return;
    if (in->packing == PACKED_GZIP)
        (void)inflateEnd(&in->gzip);
    if (in->zstd)
        (void)ZSTD_freeDStream(in->zstd);
    if (in->fd != STDIN_FILENO)
        (void)close(in->fd);
    json_reader_done(&in->reader);
    buf_done(&in->text);
    free(in->block);
    free(in);
}

int input_fd(const struct input *in)
{
    return in->fd;
}

bool input_waits(const struct input *in)
{
    return in->waits;
}

uint64_t input_size(const struct input *in)
{
    return in->size;
}

uint64_t input_bytes(const struct input *in)
{
    return in->bytes;
}

/* ---- bytes of the file -> text */

enum filled { FILLED, FILL_WAIT, FILL_END, FILL_FAIL };

static enum filled read_block(struct input *in, struct err *err)
{
    struct pollfd p = {.fd = in->fd, .events = POLLIN};

    if (in->block_at < in->block_len)
        return FILLED;
    if (in->eof)
        return FILL_END;
    if (in->waits && poll(&p, 1, 0) == 0)
        return FILL_WAIT;
    ssize_t n = read(in->fd, in->block, BLOCK_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return FILL_WAIT;
    if (n < 0) {
        (void)err_set(err, ERR_IO, "can not be read: %s", strerror(errno));
        return FILL_FAIL;
    }
    in->eof = n == 0;
    in->bytes += (size_t)n;
    in->block_at = 0;
    in->block_len = (size_t)n;
    return n ? FILLED : FILL_END;
}

static void tell_packing(struct input *in)
{
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    slice s = slice_of(in->block, in->block_len);

    in->packing = PACKED_NOT;
    if (slice_starts(s, slice_of(gzip, sizeof(gzip)))) {
        in->packing = PACKED_GZIP;
        ASSERT(inflateInit2(&in->gzip, 15 + 16) == Z_OK);
    } else if (slice_starts(s, slice_of(zstd, sizeof(zstd)))) {
        in->packing = PACKED_ZSTD;
        in->zstd = ZSTD_createDStream();
        ASSERT(in->zstd);
    }
}

static enum filled unpack_gzip(struct input *in, struct err *err)
{
    buf_reserve(&in->text, BLOCK_BYTES);
    if (in->between && in->block_at < in->block_len)
        (void)inflateReset(&in->gzip);
    in->gzip.next_in = in->block + in->block_at;
    in->gzip.avail_in = (uInt)(in->block_len - in->block_at);
    in->gzip.next_out = in->text.ptr + in->text.len;
    in->gzip.avail_out = BLOCK_BYTES;
    int rc = inflate(&in->gzip, Z_NO_FLUSH);
    in->block_at = in->block_len - in->gzip.avail_in;
    in->text.len += BLOCK_BYTES - in->gzip.avail_out;
    in->between = rc == Z_STREAM_END;
    if (rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR)
        return FILLED;
    (void)err_set(err, ERR_CORRUPT, "the gzip data is damaged at byte %llu: %s",
                  (unsigned long long)(in->bytes - in->gzip.avail_in), in->gzip.msg ? in->gzip.msg : "it is no gzip");
    return FILL_FAIL;
}

static enum filled unpack_zstd(struct input *in, struct err *err)
{
    buf_reserve(&in->text, BLOCK_BYTES);
    ZSTD_inBuffer from = {in->block, in->block_len, in->block_at};
    ZSTD_outBuffer to = {in->text.ptr + in->text.len, BLOCK_BYTES, 0};
    size_t rc = ZSTD_decompressStream(in->zstd, &to, &from);

    in->block_at = from.pos;
    in->text.len += to.pos;
    in->between = rc == 0;
    if (!ZSTD_isError(rc))
        return FILLED;
    (void)err_set(err, ERR_CORRUPT, "the zstd data is damaged near byte %llu: %s",
                  (unsigned long long)(in->bytes - (in->block_len - in->block_at)), ZSTD_getErrorName(rc));
    return FILL_FAIL;
}

/* More text, at least a byte of it where FILLED is returned. */
static enum filled fill(struct input *in, struct err *err)
{
    if (in->at > BLOCK_BYTES && in->at > in->text.len / 2) { /* keep what is not given out yet */
        memmove(in->text.ptr, in->text.ptr + in->at, in->text.len - in->at);
        in->text.len -= in->at;
        in->at = 0;
    }
    for (size_t before = in->text.len; in->text.len == before;) {
        enum filled f = read_block(in, err);
        if (f == FILL_END && in->packing > PACKED_NOT && !in->between) {
            (void)err_set(err, ERR_CORRUPT, "the file ends in the middle of its %s data",
                          in->packing == PACKED_GZIP ? "gzip" : "zstd");
            return FILL_FAIL;
        }
        if (f != FILLED)
            return f;
        if (in->packing == PACKED_UNKNOWN)
            tell_packing(in);
        if (in->packing == PACKED_NOT) {
            buf_put(&in->text, in->block + in->block_at, in->block_len - in->block_at);
            in->block_at = in->block_len;
            continue;
        }
        f = in->packing == PACKED_GZIP ? unpack_gzip(in, err) : unpack_zstd(in, err);
        if (f == FILL_FAIL)
            return f;
    }
    return FILLED;
}

/* ---- text -> rows */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static slice ahead(const struct input *in)
{
    return slice_of(in->text.ptr + in->at, in->text.len - in->at);
}

static void skip_to(struct input *in, size_t n)
{
    const uint8_t *p = in->text.ptr + in->at, *end = p + n;

    while ((p = memchr(p, '\n', (size_t)(end - p)))) {
        in->line++;
        p++;
    }
    in->at += n;
    in->scan = 0;
}

static enum input_event check_row(struct input *in, slice row, struct err *err)
{
    struct json_reader *r = &in->reader;

    json_reader_init(r, row);
    if (json_more(r) && *r->at != '{') {
        (void)err_set(err, ERR_INVALID, "a row must be a JSON object, and this begins with '%c'",
                      *r->at >= ' ' && *r->at < 127 ? *r->at : '?');
        return INPUT_BAD;
    }
    if (json_skip(r) && !json_more(r))
        return INPUT_ROW;
    const uint8_t *at = r->what ? r->what_at : r->at;
    (void)err_set(err, ERR_INVALID, "no JSON: %s at column %zu", r->what ? r->what : "something follows the object",
                  (size_t)(at - row.ptr) + 1);
    return INPUT_BAD;
}

/* Bytes of the row that starts at `at`, up to and with its closing brace; 0: it does not close in what is there. */
static size_t find_close(struct input *in)
{
    slice s = ahead(in);

    for (size_t i = in->scan; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (in->in_string) {
            if (in->escaped)
                in->escaped = false;
            else if (c == '\\')
                in->escaped = true;
            else if (c == '"')
                in->in_string = false;
        } else if (c == '"') {
            in->in_string = true;
        } else if (c == '{' || c == '[') {
            in->depth++;
        } else if ((c == '}' || c == ']') && --in->depth == 0) {
            in->scan = 0;
            return i + 1;
        }
    }
    in->scan = s.len;
    return 0;
}

static enum input_event too_long(struct err *err)
{
    (void)err_set(err, ERR_LIMIT, "a row is longer than 64 MiB");
    return INPUT_FAIL;
}

static enum input_event next_line(struct input *in, slice *row, uint64_t *line, struct err *err)
{
    for (;;) {
        slice s = ahead(in);
        const uint8_t *nl = s.len > in->scan ? memchr(s.ptr + in->scan, '\n', s.len - in->scan) : NULL;
        if (!nl && !in->all) {
            in->scan = s.len;
            if (s.len > INPUT_ROW_BYTES_MAX)
                return too_long(err);
            return INPUT_WAIT;
        }
        size_t n = nl ? (size_t)(nl - s.ptr) : s.len;
        slice text = slice_trim(slice_head(s, n));
        *line = in->line;
        in->at += n + (nl != NULL);
        in->scan = 0;
        in->line += nl != NULL;
        if (text.len) {
            *row = text;
            return check_row(in, text, err);
        }
        if (!nl)
            return INPUT_END;
    }
}

/* At the first byte of a value, or what stands between values. */
static enum input_event next_value(struct input *in, slice *row, uint64_t *line, struct err *err)
{
    for (;;) {
        slice s = ahead(in);
        if (in->depth == 0) {
            size_t n = 0;
            while (n < s.len && is_space(s.ptr[n]))
                n++;
            skip_to(in, n);
            s = ahead(in);
            *line = in->line;
            if (s.len == 0 && in->all && in->in_array) {
                (void)err_set(err, ERR_INVALID, "the file ends inside an array");
                return INPUT_FAIL;
            }
            if (s.len == 0)
                return in->all ? INPUT_END : INPUT_WAIT;
            uint8_t c = s.ptr[0];
            bool opens = !in->in_array && c == '[', closes = in->in_array && c == ']',
                 comma = in->in_array && in->need_comma && c == ',';
            if (opens || closes || comma) {
                in->in_array = opens ? true : closes ? false : in->in_array;
                in->need_comma = false;
                skip_to(in, 1);
                continue;
            }
            if (c != '{' || (in->in_array && in->need_comma)) {
                (void)err_set(err, ERR_INVALID, "no JSON: '%c' where %s should be", c >= ' ' && c < 127 ? c : '?',
                              in->in_array && in->need_comma ? "a comma or ]" : "an object");
                return INPUT_FAIL;
            }
        }
        *line = in->line;
        size_t n = find_close(in);
        if (n) {
            *row = slice_head(s, n);
            enum input_event e = check_row(in, *row, err);
            skip_to(in, n);
            in->need_comma = true;
            return e;
        }
        if (in->all) {
            (void)err_set(err, ERR_INVALID, "the file ends inside the object that begins here");
            return INPUT_FAIL;
        }
        return s.len > INPUT_ROW_BYTES_MAX ? too_long(err) : INPUT_WAIT;
    }
}

/* An array at the start, or an object that is not closed on its first line: values. False: more text is needed to tell. */
static bool tell_form(struct input *in)
{
    const slice bom = slice_lit("\xef\xbb\xbf");
    slice s = ahead(in);
    size_t n = 0;

    if (s.len < bom.len && !in->all)
        return false;
    if (slice_starts(s, bom))
        in->at += bom.len;
    s = ahead(in);
    while (n < s.len && is_space(s.ptr[n]))
        n++;
    if (n == s.len && !in->all)
        return false;
    const uint8_t *nl = n < s.len ? memchr(s.ptr + n, '\n', s.len - n) : NULL;
    if (n < s.len && s.ptr[n] == '[') {
        in->form = FORM_VALUES;
        return true;
    }
    if (!nl && !in->all && s.len < INPUT_ROW_BYTES_MAX)
        return false;
    slice first = slice_trim(slice_of(s.ptr + n, nl ? (size_t)(nl - s.ptr) - n : s.len - n));
    struct input probe = {.text = {.ptr = (uint8_t *)(uintptr_t)first.ptr, .len = first.len}};
    bool open = nl && first.len && first.ptr[0] == '{' && find_close(&probe) == 0 && !probe.in_string;
    in->form = open ? FORM_VALUES : FORM_LINES;
    return true;
}

enum input_event input_next(struct input *in, slice *row, uint64_t *line, struct err *err)
{
    *line = in->line;
    for (;;) {
        enum input_event e = INPUT_WAIT;
        if (in->form != FORM_UNKNOWN || tell_form(in))
            e = in->form == FORM_LINES ? next_line(in, row, line, err) : next_value(in, row, line, err);
        if (e != INPUT_WAIT)
            return e;
        enum filled f = fill(in, err);
        if (f == FILL_FAIL)
            return INPUT_FAIL;
        if (f == FILL_WAIT)
            return INPUT_WAIT;
        in->all = f == FILL_END;
    }
}
