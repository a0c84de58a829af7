/* wall_fuzz.c: what the gate lets through is run, on an engine full of secrets. Property (design.md, rule 6): whatever the statement,
 * its answer, its error and the file system tell nothing but rows of the streams that the user may read.
 *
 *   statement ─▶ gate_check ─▶ "WITH s0 AS (...) " + sql ─┬▶ locked: the sandbox as the server opens it
 *             │                                           └▶ open: external access on, so that the gate stands alone
 *             └▶ engine_parse ─▶ gate_verify alone ─────────▶ open: the second wall without the first
 *
 * Secrets are a random word (the statement can not hold it): in files next to the streams and in the streams' own folder (a stream that
 * the user may not read), in tables, a schema, an attached database, views, macros, a setting, a variable, a prepared statement, the
 * environment, names of files and of tables. Whoever opens, reads, makes or deletes a file there is seen by inotify, whether or not a
 * word of it comes back. Statements are mutated by a grammar of the users' dialect and of the engine's own ways out; `@DIR` in one
 * is the folder of the secrets. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "query/gate.h"

#include "base/banned.h"

#define STATEMENT_MAX 4096
#define CHUNKS_MAX 8
#define TIMEOUT_US 300000
#define MEMORY (96u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max) __attribute__((weak)); /* not in the replay */

#if defined(__clang__)
#define UNSEEN __attribute__((no_sanitize("coverage"))) /* libFuzzer would learn the word from its comparisons */
#else
#define UNSEEN
#endif

static char dir[64], word[16];
static struct engine *locked, *opened;
static int watch = -1;
static const char *running_sql; /* for the report */

/* ---- what must not come out */

static void report(const char *what, slice statement, const char *detail)
{
    (void)fprintf(stderr, "%s\nstatement: " SLICE_FMT "\nran: %s\n%s\n", what, SLICE_ARG(statement),
                  running_sql ? running_sql : "-", detail);
    abort();
}

UNSEEN static bool holds_word(slice s)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.len; i++) {
        size_t k = 0;
        while (k < n && (s.ptr[i + k] | 0x20) == (word[k] | 0x20))
            k++;
        if (k == n)
            return true;
    }
    return false;
}

/* Any text in rows [0, rows) of a vector, however deep. */
static bool vector_tells(const struct engine_field *f, const struct engine_vector *v, uint64_t rows)
{
    if (f->type == ENGINE_TEXT || f->type == ENGINE_BLOB) {
        for (uint64_t i = 0; i < rows; i++)
            if (engine_valid(v, i) && holds_word(text_slice((const struct text *)v->data + i)))
                return true;
        return false;
    }
    for (uint32_t c = 0; c < MIN(f->children_count, v->children_count); c++)
        if (vector_tells(&f->children[c], &v->children[c], v->children[c].size))
            return true;
    return false;
}

static bool field_tells(const struct engine_field *f)
{
    for (uint32_t i = 0; i < f->enum_count; i++)
        if (holds_word(slice_str(f->enum_names[i])))
            return true;
    for (uint32_t i = 0; i < f->children_count; i++)
        if (field_tells(&f->children[i]))
            return true;
    return f->name && holds_word(slice_str(f->name));
}

static void files_untouched(slice statement)
{
    _Alignas(struct inotify_event) char events[4096];
    ssize_t n = read(watch, events, sizeof(events));

    if (n <= 0)
        return;
    const struct inotify_event *e = (const struct inotify_event *)(const void *)events;
    char detail[512];
    (void)snprintf(detail, sizeof(detail), "mask %x file %.300s", e->mask, e->len ? e->name : "(watched)");
    report("A FILE WAS TOUCHED", statement, detail);
}

/* ---- one statement on one engine */

static void run_on(struct engine *e, slice statement, const char *sql)
{
    const struct engine_query q = {.sql = sql, .timeout_us = TIMEOUT_US};
    struct engine_result *r = NULL;
    struct err err = {0};
    const struct engine_field *fields;
    const struct engine_chunk *chunk = NULL;

    running_sql = sql;
    enum err_code rc = engine_run(e, &q, &r, &err);
    if (rc == ERR_OK) {
        uint32_t n = engine_result_fields(r, &fields);
        for (uint32_t i = 0; i < n; i++)
            if (field_tells(&fields[i]))
                report("A NAME TELLS", statement, fields[i].name);
        for (unsigned k = 0; k < CHUNKS_MAX; k++) {
            rc = engine_result_next(r, &chunk, &err);
            if (rc != ERR_OK || !chunk)
                break;
            for (uint32_t i = 0; i < n; i++)
                if (vector_tells(&fields[i], &chunk->columns[i], chunk->rows))
                    report("A ROW TELLS", statement, fields[i].name);
        }
    }
    if (rc != ERR_OK && holds_word(slice_str(err.msg)))
        report("AN ERROR TELLS", statement, err.msg);
    engine_result_free(r);
    files_untouched(statement);
    running_sql = NULL;
}

static void setup_run(struct engine *e, bool must, const char *sql)
{
    const struct engine_query q = {.sql = sql, .materialize = true};
    struct engine_result *r = NULL;
    struct err err = {0};

    if (engine_run(e, &q, &r, &err) != ERR_OK && must) {
        (void)fprintf(stderr, "setup: %s: %s\n", sql, err.msg);
        abort();
    }
    engine_result_free(r);
}

/* ---- the world */

/* @DIR and @WORD in their places. */
static void expand(slice s, bool words, struct buf *out)
{
    for (size_t i = 0; i < s.len;) {
        slice rest = slice_from(s, i);
        if (slice_starts(rest, slice_lit("@DIR"))) {
            buf_str(out, dir);
            i += 4;
        } else if (words && slice_starts(rest, slice_lit("@WORD"))) {
            buf_str(out, word);
            i += 5;
        } else {
            buf_byte(out, s.ptr[i++]);
        }
    }
}

static void setup_all(struct engine *e, bool must, const char *const *list)
{
    for (; *list; list++) {
        struct buf b = BUF_INIT;
        expand(slice_str(*list), true, &b);
        setup_run(e, must, buf_cstr(&b));
        buf_done(&b);
    }
}

static void file_make(const char *form)
{
    struct buf path = BUF_INIT;

    expand(slice_str(form), true, &path);
    int fd = open(buf_cstr(&path), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || dprintf(fd, "secret,n\n%s,1\n%s,2\n", word, word) < 0 || close(fd) != 0)
        abort();
    buf_done(&path);
}

/* The streams' tables have a column more than the streams. */
#define ROWS                                                                                                        \
    "SELECT i::DOUBLE AS id, 'error' AS level, 'WARN' AS \"level$1\", i % 2 = 0 AS ok, TIMESTAMPTZ '2026-05-28 "    \
    "00:00:00+00' + to_minutes(i) AS p_timestamp, "                                                                 \
    "TIMESTAMPTZ '2026-05-27 00:00:00+00' AS event_time, i AS n, DATE '2026-05-28' AS d, ['a', 'b'] AS tags, 'it "  \
    "works' AS msg, NULL::VARCHAR AS note, "                                                                        \
    "'web-1' AS host, 404.0 AS status, i * 1.5::DOUBLE AS latency, i::UBIGINT AS \"we\"\"ird\", '@WORD' AS hidden " \
    "FROM range(5) AS t(i)"

static const char *const streams_sql[] = {
    "CREATE TABLE rows_of_app AS " ROWS,
    "CREATE TABLE rows_of_hosts AS " ROWS,
    "CREATE TABLE rows_of_auto AS " ROWS,
    "CREATE TABLE payroll AS SELECT '@WORD' AS secret, 1 AS n",
    "CREATE TABLE secret_table AS SELECT '@WORD' AS secret, 1 AS n",
    "CREATE TABLE \"t_@WORD\" (\"c_@WORD\" INT)",
    "CREATE SCHEMA hidden",
    "CREATE TABLE hidden.secret_table AS SELECT '@WORD' AS secret",
    "CREATE MACRO secret_macro() AS '@WORD'",
    "CREATE MACRO secret_rows() AS TABLE SELECT '@WORD' AS secret",
    "CREATE SEQUENCE secret_sequence",
    "CREATE TYPE secret_type AS ENUM ('@WORD')",
    "SET VARIABLE secret_variable = '@WORD'",
    "PREPARE secret_statement AS SELECT '@WORD' AS secret",
    NULL,
};
static const char *const opened_sql[] = {
    "SET home_directory='@DIR/@WORD'",
    "COPY (SELECT '@WORD' AS secret, 1 AS n) TO '@DIR/outside/canary.parquet' (FORMAT parquet)",
    "COPY (SELECT '@WORD' AS secret, 1 AS n) TO '@DIR/lake/payroll/canary.parquet' (FORMAT parquet)",
    "ATTACH '@DIR/outside/canary.db' AS secretdb",
    "CREATE TABLE secretdb.secret_table AS SELECT '@WORD' AS secret",
    "CHECKPOINT secretdb",
    "DETACH secretdb",
    "ATTACH '@DIR/outside/canary.db' AS secretdb (READ_ONLY)",
    "ATTACH ':memory:' AS secretmem",
    "CREATE TABLE secretmem.secret_table AS SELECT '@WORD' AS secret",
    "CREATE VIEW secret_view AS SELECT * FROM read_csv('@DIR/outside/canary.csv')",
    "CREATE MACRO secret_file() AS (SELECT content FROM read_text('@DIR/outside/canary.txt'))",
    /* what the second wall's own statements name */
    "CREATE VIEW s0 AS SELECT * EXCLUDE (hidden) FROM rows_of_app",
    "CREATE VIEW s1 AS SELECT * EXCLUDE (hidden) FROM rows_of_hosts",
    NULL,
};

static int drop(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void world_close(void)
{
    engine_close(locked);
    engine_close(opened);
    if (nftw(dir, drop, 8, FTW_DEPTH | FTW_PHYS) != 0)
        (void)fprintf(stderr, "wall_fuzz: %s stays\n", dir);
}

static void world_watch(const char *sub)
{
    struct buf path = BUF_INIT;

    buf_fmt(&path, "%s/%s", dir, sub);
    if (inotify_add_watch(watch, buf_cstr(&path),
                          IN_OPEN | IN_ACCESS | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) < 0)
        abort();
    buf_done(&path);
}

static void folder_make(const char *sub)
{
    struct buf path = BUF_INIT;

    buf_fmt(&path, "%s/%s", dir, sub);
    if (mkdir(buf_cstr(&path), 0755) != 0)
        abort();
    buf_done(&path);
}

static void world_check(void);

static void world_open(void)
{
    static const char *const folders[] = {"outside", "lake", "lake/payroll"};
    static const char *const files[] = {"@DIR/outside/canary.csv", "@DIR/outside/canary.txt",
                                        "@DIR/outside/canary.json", "@DIR/outside/f_@WORD.txt",
                                        "@DIR/lake/payroll/canary.csv"};
    uint8_t random[5];
    struct err err = {0};
    char lake[96];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort();
    (void)snprintf(word, sizeof(word), "zq%02x%02x%02x%02x%02x", random[0], random[1], random[2], random[3], random[4]);
    (void)snprintf(dir, sizeof(dir), "/tmp/sluice-wall-XXXXXX");
    if (!mkdtemp(dir) || setenv("SECRET_ENV", word, 1) != 0)
        abort();
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        folder_make(folders[i]);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        file_make(files[i]);
    (void)snprintf(lake, sizeof(lake), "%s/lake", dir);
    const char *dirs[] = {lake, NULL};
    const struct engine_options as_served = {
        .memory_bytes = MEMORY, .threads = 1, .allowed_dirs = dirs, .keep_footers = true};
    const struct engine_options alone = {.memory_bytes = MEMORY, .threads = 1, .unlocked = true};
    if (engine_open(&as_served, &locked, &err) != ERR_OK || engine_open(&alone, &opened, &err) != ERR_OK) {
        (void)fprintf(stderr, "setup: %s\n", err.msg);
        abort();
    }
    setup_all(locked, true, streams_sql);
    setup_all(opened, true, streams_sql);
    setup_all(opened, true, opened_sql);
    watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        world_watch(folders[i]);
    world_check();
    if (atexit(world_close) != 0)
        abort();
}

/* The secrets can be told, and it is seen when they are: a wall that nobody tried proves nothing. */
static void world_check(void)
{
    static const char *const leaks[] = {"FROM read_text('@DIR/outside/canary.txt')", "FROM secret_view",
                                        "FROM '@DIR/outside/canary.parquet'", "FROM glob('@DIR/outside/*')"};
    char events[4096];

    for (size_t i = 0; i < ARRAY_LEN(leaks); i++) {
        struct buf b = BUF_INIT;
        bool seen = false;
        const struct engine_chunk *chunk = NULL;
        const struct engine_field *fields;
        struct engine_result *r = NULL;
        struct err err;
        expand(slice_str(leaks[i]), true, &b);
        const struct engine_query q = {.sql = buf_cstr(&b)};
        if (engine_run(opened, &q, &r, &err) == ERR_OK && engine_result_next(r, &chunk, &err) == ERR_OK && chunk)
            for (uint32_t n = engine_result_fields(r, &fields), c = 0; c < n; c++)
                seen |= vector_tells(&fields[c], &chunk->columns[c], chunk->rows);
        engine_result_free(r);
        if (!seen || read(watch, events, sizeof(events)) <= 0) {
            (void)fprintf(stderr, "setup: %s is not noticed\n", buf_cstr(&b));
            abort();
        }
        while (read(watch, events, sizeof(events)) > 0) {}
        buf_done(&b);
    }
}

/* ---- the gate over it */

static bool lookup(void *arg, slice stream, struct arena *a, struct gate_column **out, size_t *count)
{
    static const struct {
        const char *name;
        struct type type;
    } columns[] = {
        {"id", {.kind = TYPE_FLOAT64}},     {"level", {.kind = TYPE_UTF8}},
        {"Level", {.kind = TYPE_UTF8}},     {"ok", {.kind = TYPE_BOOL}},
        {"n", {.kind = TYPE_INT64}},        {"p_timestamp", {.kind = TYPE_TIMESTAMP}},
        {"d", {.kind = TYPE_DATE32}},       {"event_time", {.kind = TYPE_TIMESTAMP}},
        {"msg", {.kind = TYPE_UTF8}},       {"tags", {.kind = TYPE_LIST, .item = TYPE_UTF8}},
        {"note", {.kind = TYPE_UTF8}},      {"host", {.kind = TYPE_UTF8}},
        {"status", {.kind = TYPE_FLOAT64}}, {"latency", {.kind = TYPE_FLOAT64}},
        {"we\"ird", {.kind = TYPE_UINT64}},
    };
    (void)arg;
    if (!slice_eq(stream, slice_lit("app")) && !slice_eq(stream, slice_lit("hosts")) &&
        !slice_eq(stream, slice_lit("auto")))
        return false; /* also payroll, which this user may not read */
    *count = ARRAY_LEN(columns);
    *out = arena_zalloc(a, sizeof(**out) * *count);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = (struct gate_column){.name = slice_str(columns[i].name), .type = columns[i].type};
    return true;
}

/* As bind.c does it: the streams as CTEs in front of the statement's own. */
static void bound(const struct gate_output *out, struct buf *sql)
{
    slice text = out->sql;

    if (out->explain)
        buf_str(sql, out->analyze ? "EXPLAIN ANALYZE " : "EXPLAIN ");
    for (size_t i = 0; i < out->streams_count; i++) {
        const struct gate_stream *s = &out->streams[i];
        buf_fmt(sql, "%s%s AS NOT MATERIALIZED (SELECT 1 AS \"$none\"", i ? ", " : "WITH ", s->alias);
        for (size_t k = 0; k < s->used_count; k++) {
            bool upper = slice_eq(s->used[k].name, slice_lit("Level"));
            buf_str(sql, ", ");
            engine_ident(sql, upper ? slice_lit("level$1") : s->used[k].name);
            buf_str(sql, " AS ");
            engine_ident(sql, s->used[k].bound);
        }
        buf_fmt(sql, " FROM rows_of_" SLICE_FMT ")", SLICE_ARG(s->name));
    }
    if (out->streams_count && slice_starts(text, slice_lit("WITH "))) {
        buf_str(sql, ", ");
        text = slice_from(text, 5);
    } else if (out->streams_count) {
        buf_byte(sql, ' ');
    }
    buf_slice(sql, text);
}

static bool through_gate(slice statement)
{
    static const struct gate_env env = {.lookup = lookup, .now_us = 1780000000000000};
    struct gate_output out;
    struct err err = {0};
    struct buf sql = BUF_INIT;

    if (gate_check(opened, statement, &env, &out, &err) != ERR_OK) {
        if (err.code != ERR_INVALID || !err.msg[0])
            report("NO WORDS", statement, err.msg);
        files_untouched(statement);
        return false;
    }
    bound(&out, &sql);
    run_on(opened, statement, buf_cstr(&sql));
    run_on(locked, statement, buf_cstr(&sql));
    buf_done(&sql);
    gate_done(&out);
    return true;
}

/* The first wall caps what these make, the second does not know how much it is: only what they may read is of interest here. */
static bool amplifies(slice s)
{
    static const char *const names[] = {"repeat", "pad", "range", "series", "resize", "_factorial"};
    char lower[STATEMENT_MAX + 1];
    size_t n = MIN(s.len, STATEMENT_MAX);

    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] + 32 : s.ptr[i] ? s.ptr[i] : ' ');
    lower[n] = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strstr(lower, names[i]))
            return true;
    return false;
}

static bool through_second(slice statement)
{
    struct buf json = BUF_INIT, sql = BUF_INIT;
    struct err err = {0};

    if (!statement.ptr || amplifies(statement) || memchr(statement.ptr, 0, statement.len))
        return false;
    bool parsed = engine_parse(opened, statement, &json, &err) == ERR_OK;
    if (parsed && gate_verify(buf_view(&json), 2, &err) == ERR_OK) {
        buf_slice(&sql, statement);
        run_on(opened, statement, buf_cstr(&sql));
    }
    files_untouched(statement);
    buf_done(&json);
    buf_done(&sql);
    return parsed;
}

/* False: neither the gate nor the engine takes it for a statement. */
static bool one(const char *before, slice s, const char *after)
{
    struct buf b = BUF_INIT;
    bool gate = false, second = false;

    buf_str(&b, before);
    expand(s, false, &b);
    buf_str(&b, after);
    if (!holds_word(buf_view(&b))) {
        gate = through_gate(buf_view(&b));
        second = through_second(buf_view(&b));
    }
    buf_done(&b);
    return gate || second;
}

/* ---- statements: a grammar. @x in an alternative is one of rule x, the first alternative ends a branch that grew too deep. */

#define ALTS 64
static const struct {
    char name;
    const char *alts[ALTS];
} grammar[] = {
    {'q', /* query */
     {"SELECT @i FROM @t",
      "SELECT @i FROM @t",
      "SELECT @i FROM @t WHERE @e",
      "SELECT @i FROM @t @m",
      "SELECT @i FROM @t WHERE @e @m",
      "WITH @n AS (@q) @q",
      "WITH @n AS (@q), @n AS (@q) SELECT @i FROM @n",
      "WITH RECURSIVE @n AS (SELECT 1 UNION ALL @q) SELECT * FROM @n",
      "WITH @n AS MATERIALIZED (@q) SELECT @i FROM @n",
      "@q UNION ALL @q",
      "(@q) EXCEPT (@q)",
      "@q INTERSECT @q",
      "@q UNION BY NAME @q",
      "SELECT @i",
      "FROM @t",
      "FROM @t SELECT @i",
      "VALUES (@e, @e)",
      "TABLE @n",
      "SELECT DISTINCT ON (@e) @i FROM @t",
      "SELECT @i FROM @t QUALIFY @e",
      "SELECT @e, count(*) FROM @t GROUP BY @e",
      "SELECT @i FROM @t GROUP BY ALL",
      "SELECT @e FROM @t GROUP BY ROLLUP (@e)"}},
    {'S', /* statement */
     {"@q",
      "@q",
      "@q",
      "@q",
      "@q",
      "@q",
      "EXPLAIN @q",
      "EXPLAIN ANALYZE @q",
      "DESCRIBE @n",
      "@q;",
      "@q; @q",
      "SUMMARIZE @t",
      "SHOW TABLES",
      "SHOW ALL TABLES",
      "SHOW @n",
      "PRAGMA database_list",
      "PRAGMA table_info(@s)",
      "COPY (@q) TO @f",
      "COPY @n TO @f",
      "COPY @n FROM @f",
      "EXPORT DATABASE @f",
      "IMPORT DATABASE @f",
      "ATTACH @f AS a",
      "DETACH secretdb",
      "USE secretdb",
      "SET home_directory=@s",
      "SET VARIABLE x = @e",
      "RESET ALL",
      "INSTALL httpfs",
      "LOAD @f",
      "CREATE TABLE x AS @q",
      "CREATE VIEW x AS @q",
      "CREATE MACRO x() AS @e",
      "INSERT INTO @n @q",
      "UPDATE @n SET secret = @e",
      "DELETE FROM @n",
      "EXECUTE secret_statement",
      "PREPARE p AS @q",
      "CALL duckdb_tables()",
      "CALL @c",
      "PIVOT @t ON @e USING count(*)",
      "UNPIVOT @t ON COLUMNS(*) INTO NAME a VALUE b",
      "CREATE SECRET s (TYPE s3)",
      "BEGIN",
      "VACUUM @n",
      "CHECKPOINT",
      "SELECT * FROM (DESCRIBE @n)",
      "SELECT * FROM (SHOW TABLES)",
      "SELECT * FROM (PIVOT @t ON @e)",
      "MERGE INTO @n USING @t ON @e WHEN MATCHED THEN DELETE",
      "ANALYZE",
      "FROM (@S)"}},
    {'t', /* tables */
     {"app",
      "app",
      "app",
      "hosts",
      "app AS @a",
      "auto",
      "@n",
      "@n",
      "@n AS @a",
      "@f",
      "@c",
      "@c AS @a",
      "@c AS @a(x, y)",
      "(@q) AS @a",
      "(@q)",
      "@t JOIN @t ON @e",
      "@t JOIN @t USING (secret)",
      "@t, @t",
      "@t CROSS JOIN @t",
      "@t NATURAL JOIN @t",
      "@t LEFT JOIN @t ON @e",
      "@t ASOF JOIN @t ON @e",
      "@t POSITIONAL JOIN @t",
      "@t, LATERAL (@q) AS @a",
      "@t SEMI JOIN @t ON @e",
      "unnest(@e) AS @a",
      "(VALUES (@e, @e)) AS @a(x, y)",
      "s0 AS r0",
      "s1 AS r1",
      "s0 AS r0 JOIN s1 AS r1 ON @e",
      "app TABLESAMPLE 10%",
      "@t AT (VERSION => 1)",
      "app PIVOT (count(*) FOR level IN ('a'))",
      "ONLY app",
      "(TABLE @n)",
      "@n WITH ORDINALITY"}},
    {'n', /* names of tables */
     {"app",
      "payroll",
      "secret_table",
      "hidden.secret_table",
      "secretdb.secret_table",
      "secretdb.main.secret_table",
      "secretmem.secret_table",
      "secret_view",
      "rows_of_app",
      "main.rows_of_app",
      "memory.main.secret_table",
      "temp.secret_table",
      "\"payroll\"",
      "'payroll'",
      "`payroll`",
      "public.payroll",
      "datafusion.public.payroll",
      "PAYROLL",
      "\"secretdb\".\"main\".\"secret_table\"",
      "information_schema.tables",
      "information_schema.columns",
      "information_schema.schemata",
      "pg_catalog.pg_class",
      "pg_catalog.pg_tables",
      "pg_tables",
      "pg_settings",
      "sqlite_master",
      "sqlite_schema",
      "duckdb_tables",
      "duckdb_columns",
      "duckdb_settings",
      "duckdb_views",
      "main.sqlite_master",
      "system.information_schema.tables",
      "public.app",
      "\"app\"",
      "\"@DIR/outside/canary.csv\"",
      "\"@DIR/outside/canary.parquet\"",
      "@a",
      "s0",
      "s1",
      "s2",
      "w0",
      "r0",
      "\"s0\"",
      "\"secret_table\"",
      "secret_type",
      "p\xc3\xa0yroll",
      "U&\"\\0070ayroll\"",
      "app.payroll",
      "\"app\"\"payroll\"",
      "hidden.main.secret_table",
      "values",
      "x"}},
    {'f', /* files */
     {"'@DIR/outside/canary.csv'",
      "'@DIR/outside/canary.txt'",
      "'@DIR/outside/canary.parquet'",
      "'@DIR/outside/canary.json'",
      "'@DIR/outside/*'",
      "'@DIR/outside/new.csv'",
      "'@DIR/lake/payroll/canary.parquet'",
      "'@DIR/lake/payroll/canary.csv'",
      "'@DIR/lake/**'",
      "'@DIR/outside/canary.db'",
      "'file://@DIR/outside/canary.csv'",
      "'@DIR/lake/../outside/canary.csv'",
      "'/etc/passwd'",
      "'/proc/self/environ'",
      "['@DIR/outside/canary.csv']",
      "$$@DIR/outside/canary.csv$$",
      "E'@DIR/outside/canary.csv'",
      "'@DIR/out' || 'side/canary.csv'",
      "'/dev/stdin'",
      "\"@DIR/outside/canary.csv\"",
      "`@DIR/outside/canary.csv`",
      "U&'@DIR/outside/canary.csv'"}},
    {'c', /* table functions */
     {"generate_series(1, 3)",
      "range(3)",
      "read_csv(@f)",
      "read_csv_auto(@f)",
      "read_text(@f)",
      "read_blob(@f)",
      "read_parquet(@f)",
      "parquet_scan(@f)",
      "read_json(@f)",
      "read_json_auto(@f)",
      "read_ndjson(@f)",
      "read_json_objects(@f)",
      "parquet_metadata(@f)",
      "parquet_schema(@f)",
      "parquet_file_metadata(@f)",
      "parquet_kv_metadata(@f)",
      "sniff_csv(@f)",
      "glob(@f)",
      "query('SELECT * FROM secret_table')",
      "query(@s)",
      "query_table('secret_table')",
      "query_table([@s])",
      "duckdb_tables()",
      "duckdb_columns()",
      "duckdb_settings()",
      "duckdb_views()",
      "duckdb_functions()",
      "duckdb_databases()",
      "duckdb_secrets()",
      "duckdb_variables()",
      "duckdb_types()",
      "duckdb_schemas()",
      "duckdb_prepared_statements()",
      "duckdb_temporary_files()",
      "duckdb_logs()",
      "duckdb_external_file_cache()",
      "duckdb_memory()",
      "duckdb_dependencies()",
      "duckdb_sequences()",
      "pragma_table_info('secret_table')",
      "pragma_database_list()",
      "pragma_show('secret_table')",
      "pragma_storage_info('secret_table')",
      "secret_rows()",
      "sluice_rows(1)",
      "seq_scan('secret_table')",
      "icu_calendar_names()",
      "json_execute_serialized_sql(@s)",
      "arrow_scan(1, 2, 3)",
      "pragma_user_agent()",
      "summary((FROM secret_table))",
      "repeat_row(@e, num_rows => 2)",
      "unnest([@e])",
      "test_all_types()",
      "which_secret(@f, 's3')",
      "read_duckdb(@f)",
      "checkpoint()",
      "force_checkpoint()",
      "pandas_scan(1)",
      "json_each(@e)",
      "enable_logging()",
      "parquet_bloom_probe(@f, 'secret', 1)"}},
    {'i', /* select items */
     {"*",
      "*",
      "@e",
      "@e",
      "@e AS x",
      "@e, @e",
      "@a.*",
      "COLUMNS(*)",
      "COLUMNS('.*')",
      "COLUMNS(c -> c LIKE 's%')",
      "* EXCLUDE (id)",
      "* REPLACE (@e AS id)",
      "* RENAME (id AS x)",
      "count(*)",
      "@a",
      "*COLUMNS(*)",
      "x: @e",
      "#1",
      "app",
      "r0.*",
      "@e, *",
      "* LIKE '%'",
      "DISTINCT @e",
      "ALL @e"}},
    {'e', /* expressions */
     {"1",
      "id",
      "level",
      "secret",
      "hidden",
      "@s",
      "@a.secret",
      "app.id",
      "\"Level\"",
      "NULL",
      "r0.id",
      "r1.msg",
      "@e + @e",
      "@e || @e",
      "@e = @e",
      "@e AND @e",
      "NOT @e",
      "(@q)",
      "EXISTS (@q)",
      "@e IN (@q)",
      "@e = ANY (@q)",
      "@e > ALL (@q)",
      "ARRAY(@q)",
      "ARRAY[@e, @e]",
      "[@e, @e]",
      "{'a': @e}",
      "MAP {@e: @e}",
      "struct_pack(a := @e)",
      "CASE WHEN @e THEN @e ELSE @e END",
      "CAST(@e AS @y)",
      "@e::@y",
      "TRY_CAST(@e AS @y)",
      "@g",
      "@g",
      "@g",
      "@h",
      "@h",
      "x -> x + 1",
      "lambda x: @e",
      "(@e).a",
      "@e[1]",
      "@e[1:2]",
      "@e.secret",
      "$1",
      "?",
      "$name",
      "@e BETWEEN @e AND @e",
      "@e LIKE @e",
      "@e ~ @e",
      "@e SIMILAR TO @e",
      "@e IS NULL",
      "@e COLLATE nocase",
      "@e AT TIME ZONE @s",
      "INTERVAL '1' DAY",
      "DATE '2026-01-01'",
      "[x FOR x IN @e IF @e]",
      "@e ->> 'a'",
      "EXTRACT(YEAR FROM @e)",
      "sum(@e) OVER (PARTITION BY @e ORDER BY @e)",
      "(@e, @e)",
      "COLUMNS(*)",
      "count(*) FILTER (WHERE @e)"}},
    {'g', /* functions that tell */
     {"version()",
      "getenv('SECRET_ENV')",
      "current_setting('home_directory')",
      "getvariable('secret_variable')",
      "secret_macro()",
      "secret_file()",
      "main.secret_macro()",
      "nextval('secret_sequence')",
      "current_database()",
      "current_schema()",
      "current_user",
      "current_query()",
      "txid_current()",
      "pg_get_viewdef(@e)",
      "json_serialize_sql(@s)",
      "json_execute_serialized_sql(@s)",
      "enum_range(NULL::secret_type)",
      "enum_first(NULL::secret_type)",
      "read_text(@f)",
      "(SELECT content FROM read_text(@f))",
      "in_search_path('a', 'b')",
      "format_type(1, 2)",
      "pg_typeof(@e)",
      "stats(@e)",
      "typeof(@e)",
      "col_description(1, 2)",
      "obj_description(1, 'x')",
      "shobj_description(1, 'x')",
      "has_table_privilege('secret_table', 'x')",
      "current_schemas(true)",
      "current_localtimestamp()",
      "getvariable(@s)",
      "current_setting(@s)",
      "get_block_size('secretdb')",
      "write_log(@s)",
      "add_parquet_key(@s, @s)",
      "error(@e)",
      "__internal_compress_string_uhugeint(@e)",
      "finalize(@e)",
      "pg_size_pretty(1)",
      "get_current_timestamp()",
      "last_value('secret_sequence')",
      "system.main.version()",
      "alias(@e)",
      "parse_path(@f)",
      "can_cast_implicitly(@e, @e)",
      "is_histogram_other_bin(@e)",
      "bar(1, 2, 3)",
      "hash(@e)",
      "constant_or_null(@e, @e)",
      "arrow_typeof(@e)"}},
    {'h', /* functions that are let through */
     {"abs(1)",
      "abs(@e)",
      "upper(@e)",
      "concat(@e, @e)",
      "date_trunc('day', @e)",
      "date_bin(INTERVAL '1 minute', p_timestamp)",
      "array_agg(@e)",
      "array_length(@e)",
      "array_to_string(@e, ',')",
      "make_array(@e, @e)",
      "named_struct('a', @e)",
      "get_field(@e, 'a')",
      "map(@e, @e)",
      "unnest(@e)",
      "coalesce(@e, @e)",
      "nullif(@e, @e)",
      "regexp_like(@e, @e)",
      "regexp_replace(@e, @e, @e)",
      "regexp_match(@e, @e)",
      "to_timestamp(@e)",
      "string_agg(@e, ',')",
      "count(@e)",
      "min(@e)",
      "first_value(@e)",
      "arrow_cast(@e, 'Utf8')",
      "encode(@e, 'hex')",
      "split_part(@e, '/', 1)",
      "lag(@e) OVER (ORDER BY @e)",
      "approx_percentile_cont(@e, 0.5)",
      "array_has(@e, @e)",
      "list_transform(@e, x -> @e)",
      "list_filter(@e, x -> @e)",
      "list_value(@e)",
      "struct_extract(@e, 'secret')",
      "element_at(@e, @e)",
      "range(1, 3)",
      "flatten(@e)",
      "row(@e)",
      "any_value(@e)",
      "median(@e)",
      "strftime(@e, '%Y')",
      "greatest(@e, @e)"}},
    {'m', /* modifiers */
     {"LIMIT 3", "ORDER BY 1", "ORDER BY @e DESC NULLS LAST LIMIT 5", "GROUP BY @e", "GROUP BY 1 HAVING @e",
      "LIMIT @e OFFSET @e", "LIMIT (@q)", "ORDER BY ALL", "LIMIT 10%", "USING SAMPLE 3", "WINDOW w AS (ORDER BY @e)",
      "FETCH FIRST 3 ROWS ONLY", "FOR UPDATE", "INTO OUTFILE @f", "ORDER BY (@q)"}},
    {'s', /* strings */
     {"'a'", "'secret_table'", "'secret_variable'", "'home_directory'", "'SELECT * FROM secret_table'", "'it''s'",
      "E'\\x73ecret'", "$$secret_table$$", "'FROM payroll'", "'[\"a\"]'", "'SECRET_ENV'", "U&'\\0073ecret'",
      "'\xe2\x80\xae'", "x'7a71'"}},
    {'y', /* types */
     {"VARCHAR",           "BIGINT",    "DOUBLE",           "secret_type",   "regclass",  "JSON",
      "STRUCT(a INT)",     "INTEGER[]", "TIMESTAMP",        "BLOB",          "UUID",      "UNION(a INT)",
      "MAP(VARCHAR, INT)", "hidden.x",  "main.secret_type", "DECIMAL(5, 2)", "ENUM('a')", "oid",
      "TIMESTAMPTZ",       "BIT"}},
    {'a', {"a", "b", "app", "r0", "r1", "w0", "s0", "secret_table", "payroll", "x", "\"a b\"", "A", "hosts"}},
};

static uint64_t dice;

static uint32_t roll(uint32_t below)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((dice >> 33) % below);
}

static const char *const *alts_of(char rule)
{
    for (size_t g = 0; g < ARRAY_LEN(grammar); g++)
        if (grammar[g].name == rule)
            return grammar[g].alts;
    abort(); /* the grammar names a rule that it lacks */
}

static uint32_t alternatives(char rule)
{
    const char *const *alts = alts_of(rule);
    uint32_t n = 0;

    while (n < ALTS && alts[n])
        n++;
    return n;
}

static void grow(struct buf *out, char rule, unsigned depth);

static void grow_one(struct buf *out, char rule, uint32_t alt, unsigned depth)
{
    for (const char *s = alts_of(rule)[alt]; *s && out->len < STATEMENT_MAX; s++) {
        if (*s != '@' || strncmp(s, "@DIR", 4) == 0)
            buf_byte(out, (uint8_t)*s);
        else
            grow(out, *++s, depth ? depth - 1 : 0);
    }
}

static void grow(struct buf *out, char rule, unsigned depth)
{
    grow_one(out, rule, depth == 0 ? 0 : roll(alternatives(rule)), depth);
}

/* Each way out by itself in each place where one could stand: what a mutation may miss in a short run. Once, with the empty input. */
static void sweep(void)
{
    static const struct {
        char rule;
        const char *before, *after;
    } places[] = {
        {'S', "", ""},
        {'c', "SELECT * FROM ", ""},
        {'c', "SELECT r0.id FROM s0 AS r0, ", " AS r1"},
        {'c', "SELECT r0.id FROM s0 AS r0 JOIN ", " AS r1 ON true"},
        {'c', "SELECT (SELECT count(*) FROM ", " AS r1) FROM app"},
        {'c', "WITH w0 AS (SELECT * FROM ", ") SELECT * FROM w0"},
        {'n', "SELECT * FROM ", ""},
        {'n', "SELECT r0.id FROM s0 AS r0 WHERE EXISTS (SELECT * FROM ", ")"},
        {'n', "SELECT id FROM app UNION ALL SELECT secret FROM ", ""},
        {'n', "SELECT a.* FROM app JOIN ", " AS a ON true"},
        {'f', "SELECT * FROM ", ""},
        {'f', "SELECT r0.* FROM s0 AS r1 CROSS JOIN ", " AS r0"},
        {'g', "SELECT ", ""},
        {'g', "SELECT id FROM app ORDER BY ", ""},
        {'g', "SELECT r0.id FROM s0 AS r0 WHERE ", " IS NOT NULL"},
        {'g', "SELECT list_transform(tags, x -> ", ") FROM app"},
        {'g', "SELECT sum(1) OVER (PARTITION BY ", ") FROM app"},
        {'i', "SELECT ", " FROM app"},
        {'i', "SELECT ", " FROM s0 AS r0"},
        {'e', "SELECT ", " FROM s0 AS r0, s1 AS r1"},
        {'y', "SELECT CAST('a' AS ", ") FROM app"},
    };
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (uint32_t alt = 0; alt < alternatives(places[i].rule); alt++) {
            struct buf b = BUF_INIT;
            buf_str(&b, places[i].before);
            grow_one(&b, places[i].rule, alt, 0);
            buf_str(&b, places[i].after);
            (void)one("", buf_view(&b), "");
            buf_done(&b);
        }
}

/* ---- mutation by tokens: a word, a number, a quoted text, a group in parentheses, a sign */

static size_t token_end(slice s, size_t at)
{
    static const char word_signs[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.$@";
    uint8_t c = s.ptr[at];
    size_t i = at + 1;

    if (c == '\'' || c == '"' || c == '`') {
        while (i < s.len && s.ptr[i] != c)
            i++;
        return MIN(i + 1, s.len);
    }
    if (c == '(' && roll(2)) {
        for (unsigned depth = 1; i < s.len && depth; i++)
            depth += s.ptr[i] == '(' ? 1u : s.ptr[i] == ')' ? -1u : 0u;
        return i;
    }
    if (strchr(word_signs, c))
        while (i < s.len && s.ptr[i] && strchr(word_signs, s.ptr[i]))
            i++;
    return i;
}

/* A token of `s`, chosen at random. */
static slice token(slice s)
{
    slice chosen = slice_head(s, 0);
    uint32_t seen = 0;

    for (size_t at = 0; at < s.len;) {
        size_t end = token_end(s, at);
        if (s.ptr[at] > ' ' && roll(++seen) == 0)
            chosen = slice_of(s.ptr + at, end - at);
        at = end;
    }
    return chosen;
}

static void decorate(struct buf *out, slice t)
{
    static const char *const spaces[] = {"/**/", " --\n", "\t", "\xc2\xa0", "/* ' */", "\xef\xbb\xbf"};

    switch (roll(5)) {
    case 0: engine_ident(out, t); break;
    case 1:
        buf_byte(out, '(');
        buf_slice(out, t);
        buf_byte(out, ')');
        break;
    case 2:
        for (size_t i = 0; i < t.len; i++)
            buf_byte(out, (uint8_t)(t.ptr[i] >= 'a' && t.ptr[i] <= 'z' ? t.ptr[i] - 32 : t.ptr[i]));
        break;
    case 3:
        buf_str(out, spaces[roll(ARRAY_LEN(spaces))]);
        buf_slice(out, t);
        break;
    default:
        buf_slice(out, t);
        buf_byte(out, ' ');
        buf_slice(out, t);
        break;
    }
}

static void mutate(slice s, struct buf *out)
{
    static const char rules[] = "eeetttnicgfsqhmy";
    slice t = token(s), other = token(s);

    buf_slice(out, slice_of(s.ptr, (size_t)(t.ptr - s.ptr)));
    switch (roll(6)) {
    case 0: break; /* left out */
    case 1: decorate(out, t); break;
    case 2: buf_slice(out, other); break;
    case 3:
        buf_slice(out, t);
        buf_byte(out, ' ');
        grow(out, rules[roll(sizeof(rules) - 1)], 2);
        break;
    default: grow(out, rules[roll(sizeof(rules) - 1)], 1 + roll(3)); break;
    }
    buf_slice(out, slice_of(t.ptr + t.len, (size_t)(s.ptr + s.len - (t.ptr + t.len))));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct buf a = BUF_INIT, b = BUF_INIT;

    dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint32_t way = roll(8);
    if (way == 0 && LLVMFuzzerMutate)
        return LLVMFuzzerMutate(data, size, size_max);
    buf_slice(&a, slice_of(data, size));
    if (way == 1 || size == 0) {
        a.len = 0;
        grow(&a, 'S', 2 + roll(4));
    }
    for (uint32_t n = 1 + roll(3); way > 1 && n && a.len; n--) {
        b.len = 0;
        mutate(buf_view(&a), &b);
        struct buf swap = a;
        a = b;
        b = swap;
    }
    size_t n = MIN(MIN(a.len, size_max), STATEMENT_MAX);
    if (n)
        memcpy(data, a.ptr, n);
    buf_done(&a);
    buf_done(&b);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice s = slice_of(data, size);

    static bool swept;

    if (!locked)
        world_open();
    if (size == 0 && !swept) {
        swept = true;
        sweep();
    }
    if (size == 0 || size > STATEMENT_MAX)
        return 0;
    if (one("", s, "")) /* else it may be a part of one */
        return 0;
    (void)one("SELECT ", s, " FROM app");
    (void)one("SELECT * FROM ", s, "");
    (void)one("SELECT r0.id FROM s0 AS r0 WHERE ", s, "");
    return 0;
}
