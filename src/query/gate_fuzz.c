/* gate_fuzz.c: any bytes as a statement. Property: what the first wall (parser, resolver, printer) lets through is a statement that
 * the engine parses, and of which gate_verify(), that knows nothing of the first wall, finds only allowlisted nodes, functions
 * and the tables that the gate declared. Input that has no query in it is also tried as an expression and as a table. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "query/gate.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lookup(void *arg, slice stream, struct arena *a, struct gate_column **out, size_t *count)
{
    static const struct {
        const char *name;
        struct type type;
    } columns[] = {
        {"id", {.kind = TYPE_FLOAT64}},
        {"level", {.kind = TYPE_UTF8}},
        {"Level", {.kind = TYPE_UTF8}},
        {"ok", {.kind = TYPE_BOOL}},
        {"p_timestamp", {.kind = TYPE_TIMESTAMP}},
        {"event_time", {.kind = TYPE_TIMESTAMP}},
        {"n", {.kind = TYPE_INT64}},
        {"d", {.kind = TYPE_DATE32}},
        {"tags", {.kind = TYPE_LIST, .item = TYPE_UTF8}},
        {"msg", {.kind = TYPE_UTF8}},
        {"note", {.kind = TYPE_UTF8}},
        {"host", {.kind = TYPE_UTF8}},
        {"status", {.kind = TYPE_FLOAT64}},
        {"latency", {.kind = TYPE_FLOAT64}},
        {"we\"ird", {.kind = TYPE_UINT64}},
    };
    (void)arg;
    if (!slice_eq(stream, slice_lit("app")) && !slice_eq(stream, slice_lit("hosts")) &&
        !slice_eq(stream, slice_lit("auto")))
        return false;
    *count = ARRAY_LEN(columns);
    *out = arena_zalloc(a, sizeof(**out) * *count);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = (struct gate_column){.name = slice_str(columns[i].name), .type = columns[i].type};
    return true;
}

static void one(struct engine *e, slice sql)
{
    static const struct gate_env env = {.lookup = lookup, .now_us = 1780000000000000};
    struct gate_output out;
    struct err err = {0};

    if (gate_check(NULL, sql, &env, &out, &err) != ERR_OK) {
        if (err.code != ERR_INVALID || !err.msg[0])
            abort();
        return;
    }
    struct buf json = BUF_INIT;
    enum err_code rc = engine_parse(e, out.sql, &json, &err);
    if (rc == ERR_OK)
        rc = gate_verify(buf_view(&json), out.streams_count, &err);
    if (rc != ERR_OK && !strstr(err.msg, "epth") &&
        !strstr(err.msg, "too deep")) { /* the engine's own depth limit is an answer too */
        (void)fprintf(stderr, SLICE_FMT "\n-> " SLICE_FMT "\n%s\n", SLICE_ARG(sql), SLICE_ARG(out.sql), err.msg);
        abort();
    }
    buf_done(&json);
    gate_done(&out);
}

static void wrapped(struct engine *e, const char *before, slice sql, const char *after)
{
    struct buf b = BUF_INIT;
    buf_str(&b, before);
    buf_slice(&b, sql);
    buf_str(&b, after);
    one(e, buf_view(&b));
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct engine *e;
    struct err err;
    const struct engine_options opt = {.memory_bytes = 64u << 20, .threads = 1};
    slice sql = slice_of(data, size);

    if (!e && engine_open(&opt, &e, &err) != ERR_OK)
        abort();
    if (size > 4096)
        return 0;
    one(e, sql);
    wrapped(e, "SELECT ", sql, " FROM app");
    wrapped(e, "SELECT id FROM app WHERE ", sql, "");
    wrapped(e, "SELECT count(*) FROM app ", sql, "");
    return 0;
}
