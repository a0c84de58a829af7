/* lake_codec.c: rows of the lake as files of row ids (rows.h), in the place of segment/parquet.c (design.md section 4, rule 9): the same
 * calls, so of the archive's encoder nothing is linked. */
#include "segment/segment.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sim/lake_sim.h"
#include "sim/sim_disk.h"

#include "base/banned.h"

struct segment_writer {
    uint64_t files;
};

struct lake_proc *lake_proc_here(struct world *w)
{
    struct sim_node *n = world_here(w);
    struct lake_node *node = n ? n->user : NULL;
    ASSERT(node && node->proc);
    return node->proc;
}

enum err_code segment_writer_open(const char *temp_dir, const char *const *read_dirs, struct segment_writer **out,
                                  struct err *err)
{
    (void)temp_dir, (void)read_dirs, (void)err;
    *out = mem_zalloc(sizeof(**out));
    return ERR_OK;
}

void segment_writer_close(struct segment_writer *w)
{
    free(w);
}

/* Clients write "id" in every row; events of the lake itself have none. */
static uint64_t row_id(const struct schema *schema, const struct batch_view *v, uint32_t row)
{
    uint32_t field = schema_find(schema, slice_lit("id"));
    const struct column *c = field == FIELD_NONE ? NULL : batch_view_column(v, field);

    return c && c->valid[row] ? (uint64_t)((const double *)c->values)[row] : 0;
}

uint64_t *lake_view_ids(const struct schema *schema, const struct batch_view *v)
{
    uint64_t *ids = mem_alloc((v->rows + 1) * sizeof(*ids));

    for (uint32_t row = 0; row < v->rows; row++)
        ids[row] = row_id(schema, v, row);
    return ids;
}

struct sheet {
    struct sim_row *rows;
    size_t count, cap;
};

static void put_row(struct sheet *s, const struct schema *schema, const struct batch_view *v, uint32_t row)
{
    struct world *w = world_current();
    struct lake_world *lw = lake_proc_here(w)->lw;
    struct sim_row r = {row_id(schema, v, row), ((const int64_t *)batch_view_column(v, 0)->values)[row]};

    if (!r.id) { /* of pmeta: a number that nobody else has */
        *ARRAY_PUSH(lw->by_row, lw->rows_count, lw->rows_cap) = NULL;
        r.id = lw->rows_count - 1;
    }
    *ARRAY_PUSH(s->rows, s->count, s->cap) = r;
}

static bool has_id(const struct schema *schema, const struct batch_view *v, const struct column *c)
{
    bool used = false;

    for (uint32_t row = 0; row < v->rows && !used; row++)
        used = c->valid[row];
    return !used || c->field >= FIELD_ROW_ID || schema_field(schema, c->field)->id;
}

enum err_code segment_write(struct segment_writer *w, const struct schema *schema, const struct segment_part *parts,
                            uint32_t parts_count, int fd, struct segment_stats *out, struct err *err)
{
    struct os_file *f = sim_file_of_fd(fd);
    struct sheet s = {0};

    w->files++;
    for (uint32_t i = 0; i < parts_count; i++) {
        const struct batch_view *v = &parts[i].view;
        for (uint32_t k = 0; k < v->columns_count; k++)
            if (!has_id(schema, v, v->columns[k])) { /* as the real one does */
                free(s.rows);
                return err_set(err, ERR_INVALID, "column %u has no field id", v->columns[k]->field);
            }
        for (uint32_t k = 0; k < (parts[i].sel ? parts[i].sel_count : v->rows); k++)
            put_row(&s, schema, v, parts[i].sel ? parts[i].sel[k] : v->rows - 1 - k);
    }
    for (size_t i = 0; i < s.count && world_tracing(world_current()); i++)
        world_trace(world_current(), "  file: row %" PRIu64, s.rows[i].id);
    enum err_code rc = rows_write(lake_proc_here(world_current())->os, f, s.rows, s.count, out, err);
    free(s.rows);
    return rc;
}

static enum err_code read_path(struct lake_proc *p, const char *path, struct buf *out, struct err *err)
{
    uint8_t *bytes = NULL;
    size_t len = 0;

    if (p->lw->store)
        return lake_store(p->lake)->ops->read(lake_store(p->lake), slice_str(path), 0, UINT64_MAX, out, NULL, err);
    TRY(os_read_file(p->os, path, SIZE_MAX - 1, &bytes, &len, err));
    buf_put(out, bytes, len);
    free(bytes);
    return ERR_OK;
}

enum err_code segment_merge(struct segment_writer *w, const struct schema *schema, const struct segment_input *inputs,
                            uint32_t inputs_count, int fd, struct segment_stats *out, struct err *err)
{
    struct lake_proc *p = lake_proc_here(world_current());
    struct os_file *f = sim_file_of_fd(fd);
    struct sheet s = {0};
    enum err_code rc = ERR_OK;

    (void)schema;
    w->files++;
    for (uint32_t i = 0; i < inputs_count && rc == ERR_OK; i++) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT;
        struct sim_row *rows;
        size_t n;
        rc = read_path(p, inputs[i].path, &bytes, err);
        if (rc != ERR_OK)
            break;
        if (!rows_decode(buf_view(&bytes), &rows, &n)) {
            rc = err_set(err, ERR_CORRUPT, "%s is no file of rows", inputs[i].path);
            break;
        }
        for (size_t k = 0; k < n; k++)
            *ARRAY_PUSH(s.rows, s.count, s.cap) = rows[k];
        free(rows);
    }
    if (rc == ERR_OK)
        rc = rows_write(p->os, f, s.rows, s.count, out, err);
    free(s.rows);
    return rc;
}

/* ---- filters */

uint64_t segment_key_hash(slice value)
{
    return hash64(value, 0);
}

void segment_keys_done(struct segment_keys *k)
{
    for (size_t i = 0; i < k->count; i++)
        free(k->columns[i].hashes);
    free(k->columns);
    *k = (struct segment_keys){0};
}

enum err_code segment_keys(struct segment_writer *w, const struct schema *schema, const struct segment_input *input,
                           struct segment_keys *out, struct err *err)
{
    struct lake_proc *p = lake_proc_here(world_current());
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    struct sim_row *rows;
    size_t n;

    (void)w, (void)schema;
    TRY(read_path(p, input->path, &bytes, err));
    if (!rows_decode(buf_view(&bytes), &rows, &n))
        return err_set(err, ERR_CORRUPT, "%s is no file of rows", input->path);
    rows_keys(rows, n, out);
    free(rows);
    return ERR_OK;
}
