/* gate_cli.c: the gate as a filter, for tests/dialect/run.py. Standard input: a line of JSON {"streams": {name: [[column, type], ...]},
 * "now_us": n}, then lines that each hold one statement as a JSON string. For every statement one line of JSON: {"sql", "names",
 * "streams", "explain", ...} or {"error"}. Types are those of batch/schema.h, in lower case; "list:utf8" is a list. */
#include <jansson.h>
#include <stdio.h>

#include "engine/engine.h"
#include "query/gate.h"

static const struct {
    const char *name;
    uint8_t kind;
} kinds[] = {
    {"null", TYPE_NULL},       {"bool", TYPE_BOOL}, {"int64", TYPE_INT64},         {"uint64", TYPE_UINT64},
    {"float64", TYPE_FLOAT64}, {"utf8", TYPE_UTF8}, {"timestamp", TYPE_TIMESTAMP}, {"date32", TYPE_DATE32},
};

static struct type type_of(const char *name)
{
    struct type t = {0};
    bool list = !strncmp(name, "list:", 5);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (!strcmp(name + (list ? 5 : 0), kinds[i].name))
            t.kind = kinds[i].kind;
    return list ? (struct type){.kind = TYPE_LIST, .item = t.kind} : t;
}

static bool lookup(void *arg, slice stream, struct arena *arena, struct gate_column **columns, size_t *count)
{
    json_t *streams = arg, *list = json_object_getn(streams, (const char *)stream.ptr, stream.len), *c;
    size_t i;
    if (!list)
        return false;
    *count = json_array_size(list);
    *columns = arena_zalloc(arena, (*count + 1) * sizeof(**columns));
    json_array_foreach (list, i, c) {
        (*columns)[i].name =
            slice_of(json_string_value(json_array_get(c, 0)), json_string_length(json_array_get(c, 0)));
        (*columns)[i].type = type_of(json_string_value(json_array_get(c, 1)));
    }
    return true;
}

static json_t *text(slice s)
{
    return json_stringn((const char *)s.ptr, s.len);
}

static json_t *range_json(const struct gate_range *r)
{
    json_t *o = json_pack("{s:o}", "column", text(r->column));
    for (int side = 0; side < 2; side++) {
        json_t *v = r->type.kind == TYPE_FLOAT64 ? json_real(side ? r->fmax : r->fmin)
                    : r->type.kind == TYPE_UTF8  ? text(side ? r->smax : r->smin)
                                                 : json_integer(side ? r->imax : r->imin);
        if (side ? r->has_max : r->has_min)
            json_object_set(o, side ? "max" : "min", v);
        json_decref(v);
    }
    return o;
}

static json_t *output_json(const struct gate_output *out)
{
    json_t *names = json_array(), *shows = json_array(), *streams = json_array();
    for (size_t i = 0; i < out->names_count; i++) {
        json_array_append_new(names, text(out->names[i].name));
        json_array_append_new(shows, json_integer(out->names[i].show));
    }
    for (size_t i = 0; i < out->streams_count; i++) {
        const struct gate_stream *s = &out->streams[i];
        json_t *used = json_array(), *ranges = json_array();
        for (size_t c = 0; c < s->used_count; c++)
            json_array_append_new(used, json_pack("[o,o]", text(s->used[c].name), text(s->used[c].bound)));
        for (size_t c = 0; c < s->ranges_count; c++)
            json_array_append_new(ranges, range_json(&s->ranges[c]));
        json_array_append_new(streams, json_pack("{s:o,s:s,s:o,s:o}", "name", text(s->name), "alias", s->alias, "used",
                                                 used, "ranges", ranges));
    }
    return json_pack("{s:o,s:o,s:o,s:o,s:b,s:b,s:b,s:b,s:b,s:I}", "sql", text(out->sql), "names", names, "shows", shows,
                     "streams", streams, "explain", out->explain, "describe", out->describe, "newest_first",
                     out->newest_first, "top_n", out->top_n, "count_star", out->count_star, "limit",
                     out->limit == UINT64_MAX ? (json_int_t)-1 : (json_int_t)out->limit);
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    struct err err = {0};
    struct engine *e = NULL;
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 1};

    if (engine_open(&opt, &e, &err) != ERR_OK || getline(&line, &cap, stdin) < 0) {
        (void)fprintf(stderr, "gate_cli: %s\n", err.msg);
        return 1;
    }
    json_t *head = json_loads(line, 0, NULL);
    struct gate_env env = {.lookup = lookup,
                           .arg = json_object_get(head, "streams"),
                           .now_us = json_integer_value(json_object_get(head, "now_us"))};
    while (getline(&line, &cap, stdin) > 0) {
        json_t *sql = json_loads(line, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL), *answer;
        struct gate_output out;
        if (gate_check(e, slice_of(json_string_value(sql), json_string_length(sql)), &env, &out, &err) == ERR_OK) {
            answer = output_json(&out);
            gate_done(&out);
        } else {
            answer = json_pack("{s:s%}", "error", err.msg, strlen(err.msg));
        }
        json_decref(sql);
        json_dumpf(answer, stdout, JSON_COMPACT);
        (void)putchar('\n');
        (void)fflush(stdout);
        json_decref(answer);
    }
    json_decref(head);
    free(line);
    engine_close(e);
    return 0;
}
