/* counts.c: POST /counts (contract 5.7). Without conditions: rows in equal bins over the range, exactly: a file that lies in one bin is
 * counted by its entry in the catalog, staged rows by their column, only files that cross an edge are read. With conditions: a
 * statement in the users' dialect through the gate, counted around. Bins start at the range's start, not at a whole minute. */
#include "query/counts.h"
#include "base/timetext.h"
#include "codec/json_dom.h"
#include "query/query_int.h"
#include "query/writer.h"

#include "base/banned.h"

#define MINUTE_US INT64_C(60000000)
#define BINS_MAX 100000
#define GROUPS_MAX 16
#define TOP_DEFAULT 10
#define CONDITIONS_DEPTH_MAX 32

/* ---- the request */

struct counts {
    struct query_pool *pool;
    struct arena arena;
    struct running *running;
    slice stream, start, end;
    int64_t from_us, to_us;
    bool has_bins;
    uint64_t bins;
    const struct json_value *conditions; /* NULL: none given */
    struct gate_column *columns;         /* of the stream, for the type of a literal */
    size_t columns_count;
    struct buf skipped; /* keys of damaged files, one a line */
    struct buf *out;
};

static enum err_code bad(struct err *err, const char *what, slice name)
{
    return err_set(err, ERR_INVALID, "Json deserialize error: %s `" SLICE_FMT "`", what,
                   SLICE_ARG(slice_head(name, 100)));
}

static enum err_code member_text(const struct json_value *o, const char *key, slice *out, struct err *err)
{
    const struct json_value *v = json_dom_get(o, key);

    if (!v)
        return bad(err, "missing field", slice_str(key));
    if (v->kind != DOM_STRING)
        return bad(err, "invalid type, expected a string in", slice_str(key));
    *out = v->string;
    return ERR_OK;
}

/* A count; absent and null leave *out alone. */
static enum err_code member_count(const struct json_value *o, const char *key, bool *has, uint64_t *out,
                                  struct err *err)
{
    const struct json_value *v = json_dom_get(o, key);

    if (!v || v->kind == DOM_NULL)
        return ERR_OK;
    if (v->kind != DOM_NUMBER || !slice_u64(v->raw, out))
        return bad(err, "invalid value, expected a whole number in", slice_str(key));
    *has = true;
    return ERR_OK;
}

static enum err_code parse(struct counts *c, slice body, struct err *err)
{
    struct json_value *o = arena_zalloc(&c->arena, sizeof(*o));

    if (json_dom_parse(body, &c->arena, o, err) != ERR_OK)
        return err_wrap(err, "Json deserialize error");
    if (o->kind != DOM_OBJECT)
        return err_set(err, ERR_INVALID, "Json deserialize error: invalid type, expected an object");
    TRY(member_text(o, "stream", &c->stream, err));
    TRY(member_text(o, "startTime", &c->start, err));
    TRY(member_text(o, "endTime", &c->end, err));
    TRY(member_count(o, "numBins", &c->has_bins, &c->bins, err));
    const struct json_value *v = json_dom_get(o, "conditions");
    if (v && v->kind != DOM_NULL)
        c->conditions = v;
    if (c->conditions && c->conditions->kind != DOM_OBJECT)
        return bad(err, "invalid type, expected an object in", slice_lit("conditions"));
    return ERR_OK;
}

/* ---- without conditions */

size_t counts_bin(const struct counts_bins *b, int64_t us)
{
    if (b->width_us == 0)
        return b->whole; /* bins of no width hold nothing: all is the remainder */
    return (size_t)MIN((uint64_t)(us - b->from_us) / (uint64_t)b->width_us, b->whole);
}

static int64_t default_width(int64_t range_us)
{
    int64_t hours = range_us / (60 * MINUTE_US);
    bool more = range_us % (60 * MINUTE_US) != 0;

    return hours + more <= 5     ? MINUTE_US
           : hours + more <= 24  ? 5 * MINUTE_US
           : hours + more <= 240 ? 60 * MINUTE_US
                                 : 1440 * MINUTE_US;
}

static enum err_code bins_make(struct counts *c, struct counts_bins *b, struct err *err)
{
    int64_t range = c->to_us - c->from_us;

    if (c->has_bins && c->bins == 0)
        return err_set(err, ERR_INVALID, "CustomError: numBins must be greater than 0");
    if (!c->has_bins && range == 0)
        return err_set(err, ERR_INVALID, "CustomError: the time range is empty");
    b->from_us = c->from_us;
    b->width_us = c->has_bins ? (c->bins > INT64_MAX ? 0 : range / MINUTE_US / (int64_t)c->bins * MINUTE_US)
                              : default_width(range);
    b->whole = c->has_bins ? c->bins : (uint64_t)(range / b->width_us);
    if (b->whole >= BINS_MAX)
        return err_set(err, ERR_INVALID, "CustomError: more than %u bins", BINS_MAX);
    b->count = b->whole + (c->from_us + (int64_t)b->whole * b->width_us < c->to_us);
    b->counts = arena_zalloc(&c->arena, (b->whole + 1) * sizeof(*b->counts));
    return ERR_OK;
}

static enum err_code take_bins(void *arg, const struct engine_field *fields, uint32_t count,
                               const struct engine_chunk *chunk, struct err *err)
{
    struct counts_bins *b = arg;

    (void)fields, (void)count, (void)err;
    for (uint64_t i = 0; chunk && i < chunk->rows; i++) {
        int64_t bin = ((const int64_t *)chunk->columns[0].data)[i];
        b->counts[MIN((uint64_t)bin, b->whole)] += (uint64_t)((const int64_t *)chunk->columns[1].data)[i];
    }
    return ERR_OK;
}

static void put_time(struct buf *out, int64_t us)
{
    char text[TIME_TEXT_MAX];
    buf_json_str(out, slice_of(text, time_format_rfc3339(text, us)));
}

static void print_bins(const struct counts *c, const struct counts_bins *b)
{
    struct buf *out = c->out;

    buf_str(out, "{\"fields\":[\"start_time\",\"end_time\",\"count\"],\"records\":[");
    for (uint64_t i = 0; i < b->count; i++) {
        int64_t from = b->from_us + (int64_t)i * b->width_us;
        buf_str(out, i ? ",{\"start_time\":" : "{\"start_time\":");
        put_time(out, from);
        buf_str(out, ",\"end_time\":");
        put_time(out, i == b->whole ? c->to_us : from + b->width_us);
        buf_fmt(out, ",\"count\":%llu}", (unsigned long long)b->counts[i]);
    }
    buf_str(out, "]}");
}

/* A further member of the answer: what is not counted. */
static void print_skipped(const struct counts *c)
{
    slice keys = buf_view(&c->skipped);
    bool any = false;

    if (keys.len == 0)
        return;
    c->out->len--; /* the last brace */
    buf_str(c->out, ",\"skippedFiles\":[");
    while (keys.len) {
        const uint8_t *end = memchr(keys.ptr, '\n', keys.len);
        size_t n = end ? (size_t)(end - keys.ptr) : keys.len;
        buf_str(c->out, any ? "," : "");
        any = true;
        buf_json_str(c->out, slice_head(keys, n));
        keys = slice_from(keys, n + 1);
    }
    buf_str(c->out, "]}");
}

static void on_skipped(void *arg, slice keys)
{
    struct counts *c = arg;
    c->skipped.len = 0;
    buf_slice(&c->skipped, keys);
}

/* A statement of the users' dialect through the gate and the engine, with SQL of ours around it. */
static enum err_code run(struct counts *c, struct buf *sql, struct execution *x, struct err *err)
{
    struct lookup lookup = {.pool = c->pool, .only = c->stream};
    const struct gate_env env = {.lookup = lookup_stream, .arg = &lookup, .now_us = c->running->started_wall_us};
    _cleanup_(gate_done) struct gate_output gate = {0};

    TRY(pool_gate(c->pool, buf_view(sql), &env, &gate, err));
    x->pool = c->pool;
    x->running = c->running;
    x->gate = &gate;
    x->bind.from_us = c->from_us;
    x->bind.to_us = c->to_us;
    x->skipped = on_skipped;
    x->skipped_arg = c;
    return execute(x, err);
}

static enum err_code count_bins(struct counts *c, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT, before = BUF_INIT;
    struct counts_bins bins = {0};

    TRY(bins_make(c, &bins, err));
    buf_str(&sql, "SELECT p_timestamp FROM ");
    engine_ident(&sql, c->stream);
    if (bins.width_us)
        buf_fmt(&before, "SELECT CAST((epoch_us(t) - %lld) // %lld AS BIGINT) AS b, count(*) FROM (",
                (long long)bins.from_us, (long long)bins.width_us);
    else
        buf_fmt(&before, "SELECT CAST(%llu AS BIGINT) AS b, count(*) FROM (", (unsigned long long)bins.whole);
    struct execution x = {.rows = take_bins,
                          .arg = &bins,
                          .bind = {.before = buf_cstr(&before), .after = ") AS q(t) GROUP BY 1", .bins = &bins}};
    TRY(run(c, &sql, &x, err));
    print_bins(c, &bins);
    return ERR_OK;
}

/* ---- conditions as SQL of the users' dialect */

enum value_form { VALUE_TEXT, VALUE_NUMBER, VALUE_BOOL };

static bool is_numeric(slice s)
{
    char *end;
    _cleanup_(freep) char *text = mem_str(s);

    if (s.len == 0 || s.len > 64)
        return false;
    for (size_t i = 0; i < s.len; i++) /* strtod would take nan, inf and hex too */
        if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') || memchr("+-.eE", s.ptr[i], 5)))
            return false;
    (void)strtod(text, &end);
    return *end == 0;
}

static bool is_bool(slice s)
{
    return slice_eq_nocase(s, slice_lit("true")) || slice_eq_nocase(s, slice_lit("false"));
}

static enum value_form form_of_column(const struct counts *c, slice column, slice value)
{
    for (size_t i = 0; i < c->columns_count; i++) {
        if (!slice_eq(c->columns[i].name, column))
            continue;
        uint8_t kind = c->columns[i].type.kind;
        if ((kind == TYPE_INT64 || kind == TYPE_UINT64 || kind == TYPE_FLOAT64) && is_numeric(value))
            return VALUE_NUMBER;
        if (kind == TYPE_BOOL && is_bool(value))
            return VALUE_BOOL;
    }
    return VALUE_TEXT;
}

static enum err_code value_form(const struct counts *c, const struct json_value *o, slice column, slice value,
                                enum value_form *out, struct err *err)
{
    const struct json_value *type = json_dom_get(o, "type");

    if (!type || type->kind != DOM_STRING) {
        *out = form_of_column(c, column, value);
        return ERR_OK;
    }
    bool number = slice_eq(type->string, slice_lit("int")) || slice_eq(type->string, slice_lit("float")) ||
                  slice_eq(type->string, slice_lit("number"));
    bool truth = slice_eq(type->string, slice_lit("bool")) || slice_eq(type->string, slice_lit("boolean"));
    if (number && !is_numeric(value))
        return err_set(err, ERR_INVALID, "CustomError: Invalid numeric literal: " SLICE_FMT,
                       SLICE_ARG(slice_head(value, 200)));
    if (truth && !is_bool(value))
        return err_set(err, ERR_INVALID, "CustomError: Invalid boolean literal: " SLICE_FMT,
                       SLICE_ARG(slice_head(value, 200)));
    *out = number ? VALUE_NUMBER : truth ? VALUE_BOOL : VALUE_TEXT;
    return ERR_OK;
}

static void put_text(struct buf *sql, const char *before, slice value, bool pattern, const char *after)
{
    buf_byte(sql, '\'');
    buf_str(sql, before);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t ch = value.ptr[i];
        if (ch == '\'')
            buf_byte(sql, '\'');
        else if (pattern && (ch == '%' || ch == '_' || ch == '\\'))
            buf_byte(sql, '\\');
        buf_byte(sql, ch);
    }
    buf_str(sql, after);
    buf_byte(sql, '\'');
}

static const struct {
    const char *name, *sql, *before,
        *after; /* before and after: of the pattern; NULL: a comparison; sql ending in NULL: no value */
    bool unary;
} operators[] = {
    {"=", "=", NULL, NULL, false},
    {"!=", "!=", NULL, NULL, false},
    {"<", "<", NULL, NULL, false},
    {">", ">", NULL, NULL, false},
    {"<=", "<=", NULL, NULL, false},
    {">=", ">=", NULL, NULL, false},
    {"is null", "IS NULL", NULL, NULL, true},
    {"is not null", "IS NOT NULL", NULL, NULL, true},
    {"ilike", "ILIKE", "", "", false},
    {"contains", "LIKE", "%", "%", false},
    {"begins with", "LIKE", "", "%", false},
    {"ends with", "LIKE", "%", "", false},
    {"does not contain", "NOT LIKE", "%", "%", false},
    {"does not begin with", "NOT LIKE", "", "%", false},
    {"does not end with", "NOT LIKE", "%", "", false},
};

static enum err_code condition(const struct counts *c, const struct json_value *o, struct buf *sql, struct err *err)
{
    slice column = {0}, op = {0}, value = {0};
    enum value_form form = VALUE_TEXT;
    size_t i = 0;

    if (o->kind != DOM_OBJECT)
        return bad(err, "invalid type, expected an object in", slice_lit("conditionConfig"));
    TRY(member_text(o, "column", &column, err));
    TRY(member_text(o, "operator", &op, err));
    while (i < ARRAY_LEN(operators) && !slice_eq(op, slice_str(operators[i].name)))
        i++;
    if (i == ARRAY_LEN(operators))
        return bad(err, "unknown variant", op);
    buf_byte(sql, '(');
    engine_ident(sql, column);
    buf_fmt(sql, " %s", operators[i].sql);
    if (!operators[i].unary) {
        const struct json_value *v = json_dom_get(o, "value");
        if (v && (v->kind == DOM_NUMBER || v->kind == DOM_BOOL))
            value = v->raw;
        else
            TRY(member_text(o, "value", &value, err));
        buf_byte(sql, ' ');
        if (!operators[i].before)
            TRY(value_form(c, o, column, value, &form, err));
        if (operators[i].before)
            put_text(sql, operators[i].before, value, true, operators[i].after);
        else if (form == VALUE_TEXT)
            put_text(sql, "", value, false, "");
        else
            buf_slice(sql, value);
    }
    buf_byte(sql, ')');
    return ERR_OK;
}

/* {operator, conditionConfig: [...], groups: [...]}: all of them joined. */
static enum err_code conditions(const struct counts *c, const struct json_value *o, unsigned depth, struct buf *sql,
                                struct err *err)
{
    const struct json_value *op = json_dom_get(o, "operator");
    bool any = false, either = op && op->kind == DOM_STRING && slice_eq_nocase(op->string, slice_lit("or"));
    static const char *const lists[] = {"conditionConfig", "groups"};

    if (o->kind != DOM_OBJECT || depth > CONDITIONS_DEPTH_MAX)
        return bad(err, "invalid", slice_lit("conditions"));
    if (op && op->kind != DOM_NULL && !either &&
        !(op->kind == DOM_STRING && slice_eq_nocase(op->string, slice_lit("and"))))
        return bad(err, "unknown variant of", slice_lit("operator"));
    buf_byte(sql, '(');
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const struct json_value *list = json_dom_get(o, lists[k]);
        if (!list || list->kind == DOM_NULL)
            continue;
        if (list->kind != DOM_ARRAY)
            return bad(err, "invalid type, expected an array in", slice_str(lists[k]));
        for (uint32_t i = 0; i < list->count; i++) {
            buf_str(sql, any ? (either ? " OR " : " AND ") : "");
            any = true;
            if (k == 0)
                TRY(condition(c, &list->items[i], sql, err));
            else
                TRY(conditions(c, &list->items[i], depth + 1, sql, err));
        }
    }
    buf_str(sql, any ? ")" : "true)");
    return ERR_OK;
}

/* ---- with conditions */

struct grouped {
    struct counts *c;
    struct writer_options options;
    struct gate_name names[3 + GROUPS_MAX];
    size_t groups;
    uint64_t top;
    struct writer *writer;
};

static enum err_code take_groups(void *arg, const struct engine_field *fields, uint32_t count,
                                 const struct engine_chunk *chunk, struct err *err)
{
    struct grouped *g = arg;

    if (chunk)
        return writer_chunk(g->writer, chunk, g->c->out, err);
    TRY(writer_new(&g->options, fields, count, &g->writer, err));
    writer_begin(g->writer, g->c->out);
    return ERR_OK;
}

static enum err_code groups_parse(struct grouped *g, struct err *err)
{
    const struct json_value *by = json_dom_get(g->c->conditions, "groupBy");
    bool has = false;

    g->top = TOP_DEFAULT;
    TRY(member_count(g->c->conditions, "topK", &has, &g->top, err));
    if (g->top == 0)
        return err_set(err, ERR_INVALID, "CustomError: topK must be greater than 0");
    g->names[0].name = slice_lit("start_time");
    g->names[1].name = slice_lit("end_time");
    g->names[2].name = slice_lit("count");
    if (!by || by->kind == DOM_NULL)
        return ERR_OK;
    if (by->kind != DOM_ARRAY || by->count > GROUPS_MAX)
        return bad(err, "expected an array of a few columns in", slice_lit("groupBy"));
    for (uint32_t i = 0; i < by->count; i++) {
        if (by->items[i].kind != DOM_STRING)
            return bad(err, "expected names of columns in", slice_lit("groupBy"));
        g->names[3 + g->groups++].name = by->items[i].string;
    }
    return ERR_OK;
}

static enum err_code grouped_statement(struct grouped *g, struct buf *sql, struct err *err)
{
    const struct json_value *where = json_dom_get(g->c->conditions, "conditions");

    buf_str(sql, "SELECT p_timestamp AS t");
    for (size_t i = 0; i < g->groups; i++) {
        buf_str(sql, ", ");
        engine_ident(sql, g->names[3 + i].name);
        buf_fmt(sql, " AS g%zu", i);
    }
    buf_str(sql, " FROM ");
    engine_ident(sql, g->c->stream);
    if (where && where->kind != DOM_NULL) {
        buf_str(sql, " WHERE ");
        TRY(conditions(g->c, where, 0, sql, err));
    }
    return ERR_OK;
}

static void group_list(const struct grouped *g, struct buf *b)
{
    for (size_t i = 0; i < g->groups; i++)
        buf_fmt(b, ", g%zu", i);
}

/* Rows a bin and group; with groups only those of the most frequent. */
static void grouped_wrap(const struct grouped *g, struct buf *before, struct buf *after)
{
    long long width = default_width(g->c->to_us - g->c->from_us);

    buf_fmt(before,
            "SELECT strftime(make_timestamp(b), '%%Y-%%m-%%dT%%H:%%M:%%S+00:00'), strftime(make_timestamp(b + %lld), "
            "'%%Y-%%m-%%dT%%H:%%M:%%S+00:00'), n",
            width);
    group_list(g, before);
    buf_str(before, " FROM (SELECT b, n");
    group_list(g, before);
    if (g->groups) {
        buf_str(before, ", dense_rank() OVER (ORDER BY total DESC");
        group_list(g, before);
        buf_str(before, ") AS k FROM (SELECT b, n");
        group_list(g, before);
        buf_str(before, ", sum(n) OVER (PARTITION BY ");
        for (size_t i = 0; i < g->groups; i++)
            buf_fmt(before, "%sg%zu", i ? ", " : "", i);
        buf_str(before, ") AS total");
    }
    buf_fmt(before, " FROM (SELECT epoch_us(t) - (epoch_us(t) %% %lld + %lld) %% %lld AS b, count(*) AS n", width,
            width, width);
    group_list(g, before);
    buf_str(before, " FROM (");
    buf_str(after, ") AS q(t");
    group_list(g, after);
    buf_str(after, ") GROUP BY b");
    group_list(g, after);
    buf_str(after, g->groups ? "))" : ")");
    if (g->groups)
        buf_fmt(after, ") WHERE k <= %llu", (unsigned long long)MIN(g->top, (uint64_t)INT64_MAX));
    else
        buf_str(after, ")");
    buf_str(after, " ORDER BY b");
    group_list(g, after);
}

static enum err_code count_groups(struct counts *c, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT, before = BUF_INIT, after = BUF_INIT;
    struct grouped g = {.c = c};

    TRY(groups_parse(&g, err));
    TRY(grouped_statement(&g, &sql, err));
    grouped_wrap(&g, &before, &after);
    g.options =
        (struct writer_options){.format = QUERY_JSON, .fields = true, .names = g.names, .names_count = 3 + g.groups};
    struct execution x = {
        .rows = take_groups, .arg = &g, .bind = {.before = buf_cstr(&before), .after = buf_cstr(&after)}};
    enum err_code rc = run(c, &sql, &x, err);
    if (rc == ERR_OK)
        writer_end(g.writer, c->out);
    writer_free(g.writer);
    return rc;
}

/* ---- query_counts */

static enum err_code count(struct counts *c, const struct query_request *req, slice body, struct err *err)
{
    struct lookup lookup = {.pool = c->pool};

    TRY(parse(c, body, err));
    TRY(query_range(c->start, c->end, c->running->started_wall_us, &c->from_us, &c->to_us, err));
    if (req->may_read && !req->may_read(req->may_read_arg, c->stream))
        return err_set(err, ERR_INVALID, "Error: User does not have access to stream- " SLICE_FMT,
                       SLICE_ARG(slice_head(c->stream, 300)));
    if (!lookup_stream(&lookup, c->stream, &c->arena, &c->columns, &c->columns_count)) {
        if (lookup.fault.code != ERR_OK) {
            *err = lookup.fault;
            return err->code;
        }
        return err_set(err, ERR_INVALID, "Error: Stream not found: " SLICE_FMT, SLICE_ARG(slice_head(c->stream, 300)));
    }
    TRY(c->conditions ? count_groups(c, err) : count_bins(c, err));
    print_skipped(c);
    return ERR_OK;
}

enum err_code query_counts(struct query_pool *pool, const struct query_request *req, slice body, struct buf *out,
                           struct err *err)
{
    struct counts c = {.pool = pool, .out = out};
    struct err local = {0};

    err = err ? err : &local;
    c.running = running_add(pool, req->id, req->user, slice_lit("POST /counts"));
    enum err_code rc = count(&c, req, body, err);
    running_del(pool, c.running);
    buf_done(&c.skipped);
    arena_done(&c.arena);
    return rc;
}
