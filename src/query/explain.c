/* explain.c: the engine's drawing of a plan without what is no user's business: the statement that we wrote (a line that is no part of a box) and where
 * files lie ("Filename(s):" and what follows it in its box, up to an empty line). Boxes stand side by side, so a cell is known by its place in the line. */
#include "query/query_int.h"

#include "base/banned.h"

#define LINE_CELLS_MAX 4096 /* characters of a line that are looked at; a longer one is cut */

static const char bar[] = "\xe2\x94\x82"; /* U+2502 */

struct cleaning {
    bool hidden[LINE_CELLS_MAX]; /* by the place of a cell's first character */
    struct buf *out;
};

static bool is_blank(slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != ' ')
            return false;
    return true;
}

static size_t characters(slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += (s.ptr[i] & 0xc0) != 0x80;
    return n;
}

static void put_cell(struct cleaning *c, slice cell, size_t place)
{
    bool *hidden = &c->hidden[place];

    if (memmem(cell.ptr, cell.len, "Filename(s)", 11))
        *hidden = true;
    else if (is_blank(cell) || cell.ptr[0] == 0xe2) /* the box ends: another drawing character */
        *hidden = false;
    if (!*hidden) {
        buf_slice(c->out, cell);
        return;
    }
    for (size_t i = characters(cell); i > 0; i--)
        buf_byte(c->out, ' ');
}

static void put_line(struct cleaning *c, slice line)
{
    size_t place = 0;

    while (line.len && place < LINE_CELLS_MAX) {
        const uint8_t *at = memmem(line.ptr, line.len, bar, 3);
        slice cell = {line.ptr, at ? (size_t)(at - line.ptr) : line.len};
        if (cell.len)
            put_cell(c, cell, place);
        place += characters(cell) + 1;
        if (at)
            buf_str(c->out, bar);
        line = slice_from(line, cell.len + (at ? 3 : 0));
    }
    buf_byte(c->out, '\n');
}

void explain_clean(slice text, struct buf *out)
{
    _cleanup_(freep) struct cleaning *c = mem_zalloc(sizeof(*c));

    c->out = out;
    while (text.len) {
        const uint8_t *at = memchr(text.ptr, '\n', text.len);
        slice line = {text.ptr, at ? (size_t)(at - text.ptr) : text.len};
        if (slice_starts(line, slice_lit("\xe2\x94")))
            put_line(c, line);
        text = slice_from(text, line.len + 1);
    }
}
