/* plan_bench.c: CPU time of choosing the files of a query, for streams of 10, 1,000 and 100,000 files that the catalog's own code has
 * committed and folded into a local store: snapshot, stream_version_plan, and the keys of what is left.
 *
 *   bench_plan [DIR [ROUNDS]]     DIR: where the store is made and removed again, default "."
 * Files of 10 s each follow one another. Columns: a window of 5 minutes at the end; all of time with a range that fits one file of a
 * thousand (a needle); all files. */
#include <inttypes.h>
#include <stdio.h>

#include "bench.h"
#include "catalog/catalog.h"

#define FILE_US INT64_C(10000000)
#define T0 INT64_C(1763800000000000)
#define COMMIT_FILES 1000u
#define FOLD_COMMITS 8u
#define ROUNDS_MAX 101
#define FIELD_NEEDLE 2u

enum what { WINDOW, NEEDLE, EVERYTHING, WHATS };
struct stream_work {
    const char *name;
    uint32_t files;
    struct sid sid;
    double cpu_s[WHATS][ROUNDS_MAX];
    size_t planned[WHATS];
};
struct node {
    struct os *os;
    struct store *store;
    struct catalog *cat;
    struct lane_identity id;
    uint64_t segment;
};

static enum err_code save_header(void *arg, const struct lane_identity *id, struct err *err)
{
    struct node *n = arg;

    (void)err;
    n->id = *id;
    return ERR_OK;
}

static void node_start(struct node *n, const char *dir)
{
    const struct catalog_options opt = {
        .shards = 4, .snapshot_retention_us = 0, .node_id = "01kjvktcgre5t2x7w4c6h0ryaq", .endpoint = ""};
    struct lane_identity id = {0};
    struct err err;

    n->os = os_real();
    memset(id.wal_id, 'b', sizeof(id.wal_id) - 1);
    if (store_local_open(n->os, dir, &n->store, &err) != ERR_OK ||
        catalog_open(n->os, n->store, &opt, &n->cat, &err) != ERR_OK ||
        catalog_session_open(n->cat, &id, save_header, n, &n->segment, &err) != ERR_OK)
        bench_die(dir, &err);
}

static void on_visible(void *arg)
{
    (void)arg;
}

/* Files [from, from + count) of the stream; only the catalog hears of them. */
static void commit(struct node *n, const struct stream_work *s, uint32_t from, uint32_t count)
{
    _cleanup_(buf_done) struct buf stem = BUF_INIT;
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct catalog_file *files = arena_zalloc(&arena, count * sizeof(*files));
    uint64_t committed = 0, next = n->segment + 1;
    struct err err;

    catalog_next_file_stem(n->cat, &stem);
    for (uint32_t i = 0; i < count; i++) {
        int64_t at = T0 + (from + i) * FILE_US;
        uint64_t needle = (from + i) % 1000;
        files[i] = (struct catalog_file){.sid = s->sid, .stream = slice_str(s->name), .raw_bytes = 32u << 20};
        files[i].path = slice_str(arena_fmt(&arena, "date=2025-11-22/hour=08/%s-%u.parquet", buf_cstr(&stem), i));
        files[i].stats = (struct segment_stats){
            .rows = 75000, .bytes = 6u << 20, .tmin_us = at, .tmax_us = at + FILE_US - 1, .cols_count = 2};
        files[i].stats.cols[0] = (struct segment_stat){.field_id = 1,
                                                       .min = segment_order_i64(at),
                                                       .max = segment_order_i64(at + FILE_US - 1),
                                                       .has_minmax = true};
        files[i].stats.cols[1] = (struct segment_stat){
            .field_id = FIELD_NEEDLE, .min = needle * 10, .max = needle * 10 + 9, .has_minmax = true};
    }
    if (catalog_commit(n->cat, next, next, files, count, on_visible, NULL, &committed, &err) != ERR_OK)
        bench_die("commit", &err);
    n->segment = next;
}

static void fold(struct node *n)
{
    struct catalog_work work = {0};
    struct err err;

    if (catalog_fold(n->cat, &work, &err) != ERR_OK)
        bench_die("fold", &err);
}

static void build(struct node *n, struct stream_work *s)
{
    const struct stream_config config = {.telemetry_type = slice_lit("logs"), .log_source = slice_lit("[]")};
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err;

    if (catalog_create(n->cat, slice_str(s->name), &config, NULL, &v, &err) != ERR_OK)
        bench_die("create", &err);
    s->sid = *stream_version_sid(v);
    for (uint32_t at = 0; at < s->files; at += COMMIT_FILES) {
        commit(n, s, at, MIN(COMMIT_FILES, s->files - at));
        if (at / COMMIT_FILES % FOLD_COMMITS == FOLD_COMMITS - 1)
            fold(n);
    }
    fold(n);
}

static void measure(struct node *n, struct stream_work *s, enum what what, int round)
{
    const struct plan_range needle = {FIELD_NEEDLE, 5, 5};
    int64_t end = T0 + s->files * FILE_US;
    struct stream_version *v = NULL;
    struct plan plan;
    struct err err;

    double from = bench_cpu_s();
    if (catalog_snapshot(n->cat, &s->sid, NULL, NULL, &v, &err) != ERR_OK ||
        stream_version_plan(v, what == WINDOW ? end - 30 * FILE_US : INT64_MIN, INT64_MAX, &needle, what == NEEDLE,
                            &plan, &err) != ERR_OK)
        bench_die("plan", &err);
    s->planned[what] = plan.count;
    plan_done(&plan);
    stream_version_unref(v);
    if (round >= 0)
        s->cpu_s[what][round] = bench_cpu_s() - from;
}

static void check(const struct stream_work *s)
{
    if (s->planned[EVERYTHING] != s->files || s->planned[WINDOW] != MIN(s->files, 30u) ||
        s->planned[NEEDLE] != (s->files + 999) / 1000)
        bench_die(s->name, NULL);
}

int main(int argc, char **argv)
{
    struct stream_work works[] = {{.name = "files10", .files = 10},
                                  {.name = "files1000", .files = 1000},
                                  {.name = "files100000", .files = 100000}};
    int rounds = argc > 2 ? (int)MIN(MAX(strtol(argv[2], NULL, 10), 1), ROUNDS_MAX) : 21;
    char *dir = bench_dir_new(argc > 1 ? argv[1] : ".");
    struct node n = {0};

    node_start(&n, dir);
    for (size_t i = 0; i < ARRAY_LEN(works); i++)
        build(&n, &works[i]);
    for (int round = -1; round < rounds; round++) /* the first reads the manifests and is not counted */
        for (size_t i = 0; i < ARRAY_LEN(works); i++)
            for (int what = 0; what < WHATS; what++)
                measure(&n, &works[i], (enum what)what, round);
    printf("%-14s %12s %12s %12s\n", "plan, CPU-ms", "window", "needle", "all files");
    for (size_t i = 0; i < ARRAY_LEN(works); i++) {
        check(&works[i]);
        printf("%-14u", works[i].files);
        for (int what = 0; what < WHATS; what++)
            printf(" %12.4f", bench_median(works[i].cpu_s[what], (size_t)rounds) * 1e3);
        printf("\n");
    }
    catalog_close(n.cat);
    n.store->ops->free(n.store);
    bench_dir_remove(dir);
    free(dir);
    return 0;
}
