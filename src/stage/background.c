/* background.c: what a lake does by itself besides flushing: events to pmeta, folding, retention, compaction, filters, garbage
 * collection, scrub. Each call is one round of the catalog's; a round that fails is logged and tried at its next time.
 * Others' rows show here once a fold has read their lanes, so it has a thread to itself; the rest, of which a round may take minutes, are one
 * thread's, one after the other (catalog_int.h, DUTIES). */
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/timetext.h"
#include "stage/lake_int.h"

#define EVENT_LINES_MAX 1000 /* distinct lines kept between two writes; more are only counted */

/* ---- events */

void lake_event(struct lake *lake, const char *kind, slice stream, uint64_t rows, const char *fmt, ...)
{
    _cleanup_(buf_done) struct buf labels = BUF_INIT, line = BUF_INIT;
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    metric_label(&labels, "kind", slice_str(kind));
    metric_add(metric_get(METRIC_COUNTER, "sluice_events_total", "losses, rejections and quarantines, by kind",
                          buf_cstr(&labels)),
               1);
    if (slice_eq(stream, slice_lit("pmeta")))
        return; /* a report about reports would never end */
    buf_fmt(&line, "\"kind\":\"%s\",\"stream\":", kind);
    buf_json_str(&line, stream);
    buf_str(&line, ",\"cause\":");
    buf_json_str(&line, slice_str(text));
    os_lock(lake->os, lake->event_mu);
    struct lake_event_row *row = map_get(&lake->event_rows, buf_view(&line));
    if (!row && lake->event_rows.count < EVENT_LINES_MAX) {
        row = mem_zalloc(sizeof(*row));
        row->line = mem_str(buf_view(&line));
        (void)map_put(&lake->event_rows, slice_str(row->line), row);
    }
    if (row) {
        row->rows += rows;
        row->times++;
    }
    os_unlock(lake->os, lake->event_mu);
}

void lake_events_write(struct lake *lake)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct map taken;
    struct map_entry *e;
    struct err err = {0};
    size_t at = 0;

    os_lock(lake->os, lake->event_mu);
    taken = lake->event_rows;
    lake->event_rows = MAP_INIT;
    os_unlock(lake->os, lake->event_mu);
    while ((e = map_next(&taken, &at))) {
        struct lake_event_row *row = e->value;
        buf_fmt(&body, "{%s,\"rows\":%llu,\"times\":%llu,\"node\":\"%s\"}\n", row->line, (unsigned long long)row->rows,
                (unsigned long long)row->times, lake->node_id);
        free(row->line);
        free(row);
    }
    map_done(&taken);
    if (!body.len)
        return;
    const struct lake_ingest req = {.stream = slice_lit("pmeta"),
                                    .create = true,
                                    .internal = true,
                                    .body = buf_view(&body),
                                    .newline_delimited = true,
                                    .flatten = DECODE_OBJECTS_ONLY};
    if (lake_ingest_wait(lake, &req, NULL, &err) != ERR_OK)
        log_warn("stage", "events not written to pmeta: %s", err.msg);
}

/* Sleeps, but not through a stop; false: stop. */
static bool nap(struct lake *lake, int64_t us)
{
    int64_t until = os_mono_us(lake->os) + us, left;

    os_lock(lake->os, lake->mu);
    while (!lake->stopping && (left = until - os_mono_us(lake->os)) > 0)
        (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, left);
    bool go = !lake->stopping;
    os_unlock(lake->os, lake->mu);
    return go;
}

void lake_event_thread(void *arg)
{
    struct lake *lake = arg;

    while (nap(lake, 1000000))
        lake_events_write(lake);
}

/* ---- maintenance */

/* Where the engine reads it. */
static void input_path(struct lake *lake, const struct merge_input *input, struct buf *out)
{
    if (input->copy)
        buf_fmt(out, SEGMENT_FD_PATH "%d", lake->os->ops->fd(lake->os, input->copy));
    else
        lake->store->ops->engine_path(lake->store, input->key, out);
}

static enum err_code merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                           struct os_file *out, struct segment_stats *stats, struct err *err)
{
    struct lake *lake = arg;
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct segment_input *files = arena_alloc(&arena, count * sizeof(*files));
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < count; i++) {
        b.len = 0;
        input_path(lake, &inputs[i], &b);
        files[i] = (struct segment_input){arena_str(&arena, slice_str(buf_cstr(&b))), inputs[i].by_name};
    }
    buf_done(&b);
    return segment_merge(lake->writer, schema, files, (uint32_t)count, lake->os->ops->fd(lake->os, out), stats, err);
}

static enum err_code keys(void *arg, const struct schema *schema, const struct merge_input *input,
                          struct segment_keys *out, struct err *err)
{
    struct lake *lake = arg;
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    input_path(lake, input, &path);
    const struct segment_input file = {buf_cstr(&path), input->by_name};
    return segment_keys(lake->writer, schema, &file, out, err);
}

static void bad_file(void *arg, slice key, const char *why)
{
    log_error("catalog", "damaged object " SLICE_FMT ": %s", SLICE_ARG(key), why);
    lake_event(arg, "quarantine", (slice){0}, 0, "damaged object " SLICE_FMT ": %s", SLICE_ARG(key), why);
}

static enum err_code round_fold(struct lake *lake, struct catalog_work *w, struct err *err)
{
    enum err_code rc = catalog_fold(lake->cat, w, err);
    lake_unpark(lake); /* streams that the fold found readable again */
    return rc;
}
static enum err_code round_expire(struct lake *lake, struct catalog_work *w, struct err *err)
{
    return catalog_expire(lake->cat, w, err);
}
static enum err_code round_compact(struct lake *lake, struct catalog_work *w, struct err *err)
{
    return catalog_compact(lake->cat, merge, lake, w, err);
}
static enum err_code round_index(struct lake *lake, struct catalog_work *w, struct err *err)
{
    return catalog_index(lake->cat, keys, lake, w, err);
}
static enum err_code round_gc(struct lake *lake, struct catalog_work *w, struct err *err)
{
    TRY(catalog_gc(lake->cat, w, err));
    return catalog_reconcile(lake->cat, w, err);
}
static enum err_code round_scrub(struct lake *lake, struct catalog_work *w, struct err *err)
{
    (void)w;
    return catalog_scrub(lake->cat, UINT64_C(1) << 30, bad_file, lake, err);
}

struct duty {
    const char *name;
    enum err_code (*run)(struct lake *lake, struct catalog_work *w, struct err *err);
    int64_t interval_us, next_us;
};

static void run_duty(struct lake *lake, struct duty *d)
{
    struct catalog_work w = {0};
    struct err err = {0};
    _cleanup_(buf_done) struct buf labels = BUF_INIT;
    int64_t start = os_mono_us(lake->os);

    metric_label(&labels, "duty", slice_str(d->name));
    if (d->run(lake, &w, &err) != ERR_OK) {
        log_warn("catalog", "%s: %s", d->name, err.msg);
        metric_add(metric_get(METRIC_COUNTER, "sluice_maintenance_errors_total", "maintenance rounds that failed",
                              buf_cstr(&labels)),
                   1);
    }
    metric_add(metric_get(METRIC_COUNTER, "sluice_maintenance_total", "maintenance rounds", buf_cstr(&labels)), 1);
    metric_observe(metric_get(METRIC_HISTOGRAM, "sluice_maintenance_seconds", "time of one round", buf_cstr(&labels)),
                   (double)(os_mono_us(lake->os) - start) / 1e6);
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"sluice_fold_records_total", w.folded_records},
                  {"sluice_fold_heads_total", w.heads_written},
                  {"sluice_gc_files_total", w.files_deleted},
                  {"sluice_gc_slots_total", w.slots_deleted},
                  {"sluice_gc_bytes_total", w.bytes_deleted},
                  {"sluice_expired_files_total", w.files_expired},
                  {"sluice_expired_rows_total", w.rows_expired},
                  {"sluice_compaction_inputs_total", w.inputs_compacted},
                  {"sluice_compaction_outputs_total", w.outputs_compacted},
                  {"sluice_compaction_bytes_total", w.bytes_compacted},
                  {"sluice_indexed_files_total", w.files_indexed},
                  {"sluice_swept_streams_total", w.streams_swept}};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        metric_add(metric_get(METRIC_COUNTER, counts[i].name, "work done by maintenance", NULL),
                   (double)counts[i].value);
    if (w.rows_expired)
        lake_event(lake, "expired", (slice){0}, w.rows_expired, "%llu files past their retention",
                   (unsigned long long)w.files_expired);
    d->next_us = os_mono_us(lake->os) + d->interval_us;
}

/* What is accepted while this waits would be stale. */
void lake_names_thread(void *arg)
{
    struct lake *lake = arg;
    struct err err = {0};

    while (nap(lake, lake->opt.fence_us / 6))
        if (lake_validate(lake, &err) != ERR_OK)
            log_warn("catalog", "looking what other servers did: %s", err.msg);
}

void lake_fold_thread(void *arg)
{
    struct lake *lake = arg;
    struct duty duty = {"fold", round_fold, lake->opt.fold_interval_us, 0};

    for (int64_t wait_us = 1000000; nap(lake, wait_us); wait_us = duty.interval_us) /* the first one soon */
        run_duty(lake, &duty);
}

void lake_maintenance_thread(void *arg)
{
    struct lake *lake = arg;
    const struct lake_options *o = &lake->opt;
    struct duty duties[] = {{"expire", round_expire, o->retention_interval_us, 0},
                            {"compact", round_compact, o->compact_interval_us, 0},
                            {"index", round_index, o->index_interval_us, 0},
                            {"gc", round_gc, o->gc_interval_us, 0},
                            {"scrub", round_scrub, o->scrub_interval_us, 0}};

    for (size_t i = 0; i < ARRAY_LEN(duties); i++)
        duties[i].next_us = os_mono_us(lake->os) + duties[i].interval_us;
    while (nap(lake, 250000))
        for (size_t i = 0; i < ARRAY_LEN(duties); i++)
            if (os_mono_us(lake->os) >= duties[i].next_us)
                run_duty(lake, &duties[i]);
}

/* ---- hot tier */

static enum err_code round_hot(struct lake *lake, struct catalog_work *w, struct err *err)
{
    (void)w;
    return lake_hot_round(lake, &lake->hot_behind, err);
}

void lake_hot_thread(void *arg)
{
    struct lake *lake = arg;
    struct duty duty = {"hot_tier", round_hot, lake->opt.hot_interval_us, 0};

    lake->hot_behind = true; /* the first look at once */
    while (nap(lake, lake->hot_behind ? 0 : duty.interval_us))
        run_duty(lake, &duty);
}
