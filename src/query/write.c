/* write.c: the writers' common part: columns with their keys, and which format does what. */
#include "query/write_int.h"

#include "base/map.h"

/* ---- columns */

static void column_fill(struct writer *w, struct write_column *col, const struct engine_field *f, slice name,
                        enum gate_show show)
{
    struct buf key = BUF_INIT;

    buf_byte(&key, ',');
    buf_json_str(&key, name);
    buf_byte(&key, ':');
    const size_t len = key.len;
    buf_put(&key, "               ", 15);
    *col = (struct write_column){.field = f,
                                 .name = name,
                                 .key = slice_head(arena_copy(&w->arena, buf_view(&key)), len),
                                 .show = show,
                                 .twin_next = -1,
                                 .twin_last = -1};
    buf_done(&key);
    col->children_count = f->children_count;
    col->children = arena_zalloc(&w->arena, f->children_count * sizeof(*col->children));
    for (uint32_t i = 0; i < f->children_count; i++) /* durations are differences: in a list of them too */
        column_fill(w, &col->children[i], &f->children[i], slice_str(f->children[i].name), show);
}

static bool has_form(const struct engine_field *f)
{
    if (f->type == ENGINE_OTHER)
        return false;
    for (uint32_t i = 0; i < f->children_count; i++)
        if (!has_form(&f->children[i]))
            return false;
    return true;
}

/* Columns of one name know each other (write_json.c: hidden()). */
static void link_twins(struct writer *w)
{
    struct map last = MAP_INIT;

    for (uint32_t i = w->columns_count; i-- > 0;) {
        struct write_column *col = &w->columns[i], *next = map_put(&last, col->name, col);
        if (!next)
            continue;
        col->twin_next = next - w->columns;
        if (next->twin_last < 0)
            next->twin_last = col->twin_next;
        col->twin_last = next->twin_last;
    }
    map_done(&last);
}

enum err_code writer_new(const struct writer_options *opt, const struct engine_field *fields, uint32_t count,
                         struct writer **out, struct err *err)
{
    ASSERT(opt->names_count == count);
    for (uint32_t i = 0; i < count; i++)
        if (!has_form(&fields[i]))
            return err_set(err, ERR_INVALID,
                           "Error during planning: column " SLICE_FMT " has a type that no answer can carry: cast it",
                           SLICE_ARG(opt->names[i].name));
    struct writer *w = mem_zalloc(sizeof(*w));
    w->opt = *opt;
    w->arrow_batch_max = 4 * WRITER_PIECE_BYTES;
    w->arrow_offset_max = INT32_MAX;
    w->columns_count = count;
    w->columns = arena_zalloc(&w->arena, count * sizeof(*w->columns));
    for (uint32_t i = 0; i < count; i++)
        column_fill(w, &w->columns[i], &fields[i], opt->names[i].name, opt->names[i].show);
    link_twins(w);
    if (opt->format == QUERY_ARROW)
        write_arrow_new(w);
    *out = w;
    return ERR_OK;
}

void writer_free(struct writer *w)
{
    if (!w)
        return;
    write_arrow_free(w->arrow);
    buf_done(&w->scratch);
    arena_done(&w->arena);
    free(w);
}

/* ---- formats */

const char *writer_content_type(const struct writer_options *opt)
{
    switch (opt->format) {
    case QUERY_NDJSON: return "application/x-ndjson";
    case QUERY_ARROW: return "application/vnd.apache.arrow.stream";
    case QUERY_CSV: return "text/csv; charset=utf-8; header=present"; /* RFC 7111 */
    case QUERY_JSON: break;
    }
    return "application/json";
}

void writer_begin(struct writer *w, struct buf *out)
{
    switch (w->opt.format) {
    case QUERY_JSON:
    case QUERY_NDJSON: write_json_begin(w, out); break;
    case QUERY_CSV: write_csv_begin(w, out); break;
    case QUERY_ARROW: write_arrow_begin(w, out); break;
    }
}

enum err_code writer_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out,
                          struct err *err)
{
    if (*row >= chunk->rows)
        return ERR_OK;
    switch (w->opt.format) {
    case QUERY_JSON:
    case QUERY_NDJSON: write_json_rows(w, chunk, row, out); break;
    case QUERY_CSV: write_csv_rows(w, chunk, row, out); break;
    case QUERY_ARROW: return write_arrow_rows(w, chunk, row, out, err);
    }
    return ERR_OK;
}

enum err_code writer_chunk(struct writer *w, const struct engine_chunk *chunk, struct buf *out, struct err *err)
{
    for (uint64_t row = 0; row < chunk->rows;)
        TRY(writer_rows(w, chunk, &row, out, err));
    return ERR_OK;
}

void writer_end(struct writer *w, struct buf *out)
{
    switch (w->opt.format) {
    case QUERY_JSON:
    case QUERY_NDJSON: write_json_end(w, out); break;
    case QUERY_CSV: break;
    case QUERY_ARROW: write_arrow_end(out); break;
    }
}
