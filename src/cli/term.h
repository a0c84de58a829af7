/* term.h: what a terminal shows: widths of text, control characters made harmless, tables, one line of progress. */
#pragma once
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"

bool term_is(FILE *f);        /* a terminal */
unsigned term_width(FILE *f); /* columns; 0: no terminal */

/* Appends `s` for the eye: at most `width` columns (0: no limit), cut with an ellipsis; line breaks, tabs, escapes and bytes that are no
 * UTF-8 as \n, \t, \x1b: what is in a log must not drive the terminal. Returns the columns used. */
unsigned term_text(struct buf *out, slice s, unsigned width);
unsigned term_columns(slice s); /* of the whole text */

/* ---- table: rows come one after the other; the first TABLE_SAMPLE of them decide the widths, so memory is bounded */
#define TABLE_SAMPLE 500
struct table;
/* `width` 0: as wide as it is. Columns that do not fit are cut; where not even that helps each row is printed as lines of names and values. */
struct table *table_new(FILE *to, unsigned width, const slice *names, uint32_t count);
enum cell_kind { CELL_NULL, CELL_TEXT, CELL_NUMBER };
struct cell {
    enum cell_kind kind;
    slice text;
};
void table_row(struct table *t, const struct cell *cells); /* [count], copied */
void table_end(struct table *t);                           /* prints what is left; frees */

/* ---- progress: one line on stderr that is written over; nothing when stderr is no terminal */
void progress_show(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void progress_clear(void);
void term_bar(struct buf *out, double part); /* a bar of 24 columns; part from 0 to 1 */
/* "12.3 MB", "4.5 k": for people */
void print_amount(struct buf *out, double n, const char *unit);
void print_rows(struct buf *out, uint64_t n); /* 1,234,567 */
