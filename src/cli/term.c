/* term.c: see term.h. Widths are those of wcwidth() in the C.UTF-8 locale (cli_main sets it). */
#include "cli/term.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/banned.h"

bool term_is(FILE *f)
{
    return isatty(fileno(f)) == 1;
}

unsigned term_width(FILE *f)
{
    struct winsize w;
    const char *columns = getenv("COLUMNS");
    uint64_t n;

    if (!term_is(f))
        return 0;
    if (columns && slice_u64(slice_str(columns), &n) && n >= 20 && n <= 10000)
        return (unsigned)n;
    return ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 80;
}

/* One character at the start of `s`: its bytes, columns, and whether it may be shown as it is. */
static size_t next_char(slice s, unsigned *columns, bool *shown)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t n = mbrtowc(&c, (const char *)s.ptr, s.len, &state);

    if (n == 0 || n == (size_t)-1 || n == (size_t)-2) {
        *shown = false;
        return 1;
    }
    int w = wcwidth(c);
    /* Marks that turn the direction of text are printable to wcwidth, yet they let a log line disguise itself. */
    bool turns = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f;
    *shown = w >= 0 && !turns;
    *columns = w >= 0 ? (unsigned)w : 0;
    return n;
}

static unsigned put_escape(char out[16], slice s)
{
    static const char hex[] = "0123456789abcdef";
    unsigned n = 0;

    if (s.len == 1 && (s.ptr[0] == '\n' || s.ptr[0] == '\t' || s.ptr[0] == '\r')) {
        out[0] = '\\';
        out[1] = s.ptr[0] == '\n' ? 'n' : s.ptr[0] == '\t' ? 't' : 'r';
        return 2;
    }
    for (size_t i = 0; i < s.len && i < 4; i++) {
        out[n++] = '\\';
        out[n++] = 'x';
        out[n++] = hex[s.ptr[i] >> 4];
        out[n++] = hex[s.ptr[i] & 15];
    }
    return n;
}

unsigned term_text(struct buf *out, slice s, unsigned width)
{
    unsigned used = 0, columns;
    size_t cut_at = out->len; /* where an ellipsis would still fit */
    unsigned cut_used = 0;
    bool shown;

    while (s.len) {
        char escape[16];
        size_t n = next_char(s, &columns, &shown);
        if (!shown)
            columns = put_escape(escape, slice_head(s, n));
        if (width && used + columns > width) {
            out->len = cut_at;
            buf_str(out, "…");
            return cut_used + 1;
        }
        if (shown)
            buf_put(out, s.ptr, n);
        else
            buf_put(out, escape, columns);
        used += columns;
        if (used < width) {
            cut_at = out->len;
            cut_used = used;
        }
        s = slice_from(s, n);
    }
    return used;
}

unsigned term_columns(slice s)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;
    return term_text(&b, s, 0);
}

/* ---- table */

#define BAR_COLUMNS 24
#define COLUMN_MIN 6 /* a column is cut to no less, unless its values are shorter */

struct table {
    FILE *to;
    unsigned width;
    uint32_t count;
    char **names;
    unsigned *widths;   /* of columns, as printed */
    unsigned *natural;  /* widest of the sample */
    bool *number;       /* right-aligned */
    bool *some;         /* has a value that is no null */
    struct arena arena; /* cells of the sample */
    struct cell *cells; /* [rows * count] */
    size_t cells_count, cells_cap;
    uint64_t rows;
    bool started, vertical;
    struct buf line;
};

struct table *table_new(FILE *to, unsigned width, const slice *names, uint32_t count)
{
    struct table *t = mem_zalloc(sizeof(*t));

    t->to = to;
    t->width = width;
    t->count = count;
    t->names = mem_zalloc(sizeof(*t->names) * (count + 1u));
    t->widths = mem_zalloc(sizeof(*t->widths) * (count + 1u));
    t->natural = mem_zalloc(sizeof(*t->natural) * (count + 1u));
    t->number = mem_zalloc(count + 1u);
    t->some = mem_zalloc(count + 1u);
    for (uint32_t i = 0; i < count; i++) {
        t->names[i] = mem_str(names[i]);
        t->natural[i] = MAX(term_columns(names[i]), 1u);
        t->number[i] = true;
    }
    return t;
}

static unsigned total_width(const struct table *t)
{
    unsigned sum = 0;

    for (uint32_t i = 0; i < t->count; i++)
        sum += t->widths[i] + (i ? 3u : 2u); /* " a │ b " */
    return sum;
}

/* Takes from the widest columns until the row fits. False: even the smallest widths do not. */
static bool fit(struct table *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        t->widths[i] = t->natural[i];
    while (t->width && total_width(t) > t->width) {
        unsigned widest = 0, second = 0, at_widest = 0;
        for (uint32_t i = 0; i < t->count; i++)
            widest = MAX(widest, t->widths[i]);
        for (uint32_t i = 0; i < t->count; i++) {
            at_widest += t->widths[i] == widest;
            if (t->widths[i] < widest)
                second = MAX(second, t->widths[i]);
        }
        unsigned floor = MAX(second, (unsigned)COLUMN_MIN);
        if (widest <= COLUMN_MIN)
            return false;
        unsigned over = total_width(t) - t->width, each = MAX(over / at_widest, 1u);
        for (uint32_t i = 0; i < t->count && total_width(t) > t->width; i++)
            if (t->widths[i] == widest)
                t->widths[i] = widest - MIN(each, widest - floor ? widest - floor : 1u);
    }
    return true;
}

static void put_padded(struct table *t, slice text, unsigned width, bool right, bool last)
{
    _cleanup_(buf_done) struct buf cell = BUF_INIT;
    unsigned used = term_text(&cell, text, width), pad = width - MIN(used, width);

    for (unsigned i = 0; right && i < pad; i++)
        buf_byte(&t->line, ' ');
    buf_slice(&t->line, buf_view(&cell));
    for (unsigned i = 0; !right && !last && i < pad; i++)
        buf_byte(&t->line, ' ');
}

static void end_line(struct table *t)
{
    buf_byte(&t->line, '\n');
    (void)fwrite(t->line.ptr, 1, t->line.len, t->to);
    t->line.len = 0;
}

static void print_head(struct table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        buf_str(&t->line, i ? " │ " : " ");
        put_padded(t, slice_str(t->names[i]), t->widths[i], t->number[i], i + 1 == t->count);
    }
    end_line(t);
    for (uint32_t i = 0; i < t->count; i++) {
        buf_str(&t->line, i ? "─┼─" : "─");
        for (unsigned k = 0; k < t->widths[i]; k++)
            buf_str(&t->line, "─");
    }
    buf_str(&t->line, "─");
    end_line(t);
}

static void print_vertical(struct table *t, const struct cell *cells)
{
    unsigned name_width = 0;

    for (uint32_t i = 0; i < t->count; i++)
        name_width = MAX(name_width, MIN(term_columns(slice_str(t->names[i])), 30u));
    buf_fmt(&t->line, "── row %" PRIu64 " ──", t->rows + 1);
    end_line(t);
    for (uint32_t i = 0; i < t->count; i++) {
        if (cells[i].kind == CELL_NULL)
            continue;
        put_padded(t, slice_str(t->names[i]), name_width, false, false);
        buf_str(&t->line, "  ");
        (void)term_text(&t->line, cells[i].text, t->width > name_width + 10 ? t->width - name_width - 2 : 0);
        end_line(t);
    }
}

static void print_cells(struct table *t, const struct cell *cells)
{
    if (t->vertical) {
        print_vertical(t, cells);
    } else {
        for (uint32_t i = 0; i < t->count; i++) {
            buf_str(&t->line, i ? " │ " : " ");
            put_padded(t, cells[i].kind == CELL_NULL ? (slice){NULL, 0} : cells[i].text, t->widths[i], t->number[i],
                       i + 1 == t->count);
        }
        end_line(t);
    }
    t->rows++;
}

static void begin(struct table *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        t->number[i] = t->number[i] && t->some[i];
    t->started = true;
    t->vertical = !fit(t);
    if (!t->vertical && t->count)
        print_head(t);
    for (size_t i = 0; t->count && i < t->cells_count; i += t->count)
        print_cells(t, t->cells + i);
    free(t->cells);
    t->cells = NULL;
    arena_done(&t->arena);
}

void table_row(struct table *t, const struct cell *cells)
{
    if (t->started) {
        print_cells(t, cells);
        return;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        struct cell *c = ARRAY_PUSH(t->cells, t->cells_count, t->cells_cap);
        *c = (struct cell){cells[i].kind, arena_copy(&t->arena, cells[i].text)};
        if (c->kind == CELL_NULL)
            continue;
        t->some[i] = true;
        t->number[i] &= c->kind == CELL_NUMBER;
        t->natural[i] = MAX(t->natural[i], MIN(term_columns(c->text), 2000u));
    }
    if (t->count && t->cells_count / t->count >= TABLE_SAMPLE)
        begin(t);
}

void table_end(struct table *t)
{
    if (!t)
        return;
    if (!t->started)
        begin(t);
    for (uint32_t i = 0; i < t->count; i++)
        free(t->names[i]);
    free(t->names);
    free(t->widths);
    free(t->natural);
    free(t->number);
    free(t->some);
    buf_done(&t->line);
    free(t);
}

/* ---- progress */

static bool shown_progress;

void progress_show(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    unsigned width = term_width(stderr);
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    if (!width)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_str(&b, "\r\x1b[K");
    (void)term_text(&b, slice_str(text), width - 1);
    (void)fwrite(b.ptr, 1, b.len, stderr);
    (void)fflush(stderr);
    shown_progress = true;
}

void term_bar(struct buf *out, double part)
{
    for (int i = 0; i < BAR_COLUMNS; i++)
        buf_str(out, part * BAR_COLUMNS >= i + 1 ? "█" : part * BAR_COLUMNS >= i + 0.5 ? "▌" : "░");
}

void progress_clear(void)
{
    if (!shown_progress)
        return;
    (void)fputs("\r\x1b[K", stderr);
    (void)fflush(stderr);
    shown_progress = false;
}

void print_amount(struct buf *out, double n, const char *unit)
{
    static const char *const steps[] = {"", "k", "M", "G", "T", "P"};
    size_t i = 0;

    while (n >= 1000 && i + 1 < ARRAY_LEN(steps)) {
        n /= 1000;
        i++;
    }
    buf_fmt(out, i && n < 100 ? "%.1f %s%s" : "%.0f %s%s", n, steps[i], unit);
}

void print_rows(struct buf *out, uint64_t n)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%" PRIu64, n);

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_byte(out, ',');
        buf_byte(out, (uint8_t)text[i]);
    }
}
