/* gate_verify.c: the second wall. What the printer wrote is parsed by the engine, and this walks the engine's own AST with an allowlist
 * of node kinds, of the members of each, of functions, types and table names. It knows nothing of the dialect and trusts nothing of
 * the first wall: a member that it does not know must be empty, a kind that it does not know is refused. */
#include <jansson.h>
#include <string.h>

#include "query/gate.h"

#include "base/banned.h"

#define DEPTH_MAX 5000

struct verify {
    size_t streams;
    unsigned depth;
    json_t *ctes; /* names of CTEs of the statement, as an object's keys */
    struct err *err;
};

static enum err_code refuse(struct verify *v, const char *what, const char *name)
{
    return err_set(v->err, ERR_INVALID, "Error: the statement is refused: %s '%.200s' is not allowed", what,
                   name ? name : "?");
}

static const char *text(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool in(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list))
            return true;
    return false;
}

static bool empty(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL:
    case JSON_FALSE: return true;
    case JSON_STRING: return json_string_length(v) == 0;
    case JSON_ARRAY: return json_array_size(v) == 0;
    case JSON_OBJECT: return json_object_size(v) == 0;
    default: return false;
    }
}

/* Every member is known or empty. */
static enum err_code members(struct verify *v, json_t *o, const char *kind, const char *const *known)
{
    const char *key;
    json_t *value;
    if (!json_is_object(o))
        return refuse(v, "a malformed node", kind);
    json_object_foreach (o, key, value)
        if (!in(key, known) && !empty(value))
            return err_set(v->err, ERR_INVALID,
                           "Error: the statement is refused: member '%.100s' of '%.100s' is not allowed", key, kind);
    return ERR_OK;
}

static bool numbered(const char *s, char first, size_t below)
{
    size_t n = 0, len = strlen(s);
    if (s[0] != first || len < 2 || len > 8 || (s[1] == '0' && len > 2))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        n = n * 10 + (size_t)(s[i] - '0');
    }
    return n < below;
}

/* Names of the engine's functions that the printer may write. */
/* clang-format off */
static const char *const functions[] = {
    "+", "-", "*", "/", "//", "%", "&", "|", "<<", ">>", "xor", "||", "~~", "!~~", "~~*", "!~~*", "like_escape", "ilike_escape", "not_like_escape",
    "not_ilike_escape", "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "atan2", "cbrt", "ceil", "cos", "cosh", "cot", "degrees", "exp",
    "factorial", "floor", "gcd", "lcm", "isnan", "ln", "log", "log10", "log2", "pi", "pow", "radians", "random", "round", "sign", "sin", "sinh", "sqrt",
    "tan", "tanh", "trunc", "ascii", "strlen", "trim", "ltrim", "rtrim", "length", "chr", "concat", "concat_ws", "contains", "suffix", "starts_with",
    "strpos", "left", "right", "levenshtein", "lower", "upper", "md5", "sha256", "unhex", "hex", "base64", "from_base64", "encode", "decode", "reverse",
    "split_part", "to_hex", "translate", "uuid", "string_split", "array_to_string", "regexp_matches", "regexp_extract", "regexp_extract_all",
    "regexp_replace", "repeat", "lpad", "rpad", "replace", "substr", "error", "greatest", "least", "nullif", "make_timestamp", "epoch_us", "epoch_ms", "epoch_ns",
    "epoch", "date_part", "date_trunc", "time_bucket", "strftime", "strptime", "make_date", "make_time", "list_value", "list_append", "list_prepend",
    "len", "list_contains", "list_has_all", "list_has_any", "list_extract", "list_position", "list_filter", "list_transform", "list_slice", "list_intersect",
    "list_concat", "list_reverse", "list_max", "list_min", "list_any_value", "flatten", "list_sort", "list_resize", "range", "generate_series", "unnest",
    "row", "map", "map_keys", "map_values", "map_extract", "element_at", "struct_pack", "struct_extract", "count", "count_star", "sum", "min", "max", "avg",
    "median", "array_agg", "string_agg", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor", "corr", "covar_samp", "covar_pop", "stddev_samp",
    "stddev_pop", "var_samp", "var_pop", "regr_slope", "regr_intercept", "regr_count", "regr_r2", "regr_avgx", "regr_avgy", "regr_sxx", "regr_syy",
    "regr_sxy", "grouping", "first", "last", "any_value", "approx_quantile", "quantile_cont", "row_number", "rank", "dense_rank", "percent_rank",
    "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value", NULL,
};
static const char *const types[] = {
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR",
    "BLOB", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE", "TIME", "INTERVAL", "LIST", "NULL", NULL,
};
/* clang-format on */

static enum err_code expr(struct verify *v, json_t *o);
static enum err_code query(struct verify *v, json_t *o);
static enum err_code table(struct verify *v, json_t *o);

static enum err_code exprs(struct verify *v, json_t *list)
{
    size_t i;
    json_t *e;
    if (!list || json_is_null(list))
        return ERR_OK;
    if (!json_is_array(list))
        return refuse(v, "a malformed list", "");
    json_array_foreach (list, i, e)
        TRY(expr(v, e));
    return ERR_OK;
}

static enum err_code maybe(struct verify *v, json_t *e)
{
    return !e || json_is_null(e) ? ERR_OK : expr(v, e);
}

static enum err_code orders(struct verify *v, json_t *list)
{
    static const char *const known[] = {"type", "null_order", "expression", NULL};
    size_t i;
    json_t *o;
    json_array_foreach (list, i, o) {
        TRY(members(v, o, "ORDER", known));
        TRY(expr(v, json_object_get(o, "expression")));
    }
    return ERR_OK;
}

static enum err_code type(struct verify *v, json_t *t)
{
    static const char *const known[] = {"id", "type_info", NULL}, *const info_known[] = {"type", "width", "scale",
                                                                                         "child_type", NULL};
    TRY(members(v, t, "a type", known));
    if (!in(text(t, "id"), types))
        return refuse(v, "type", text(t, "id"));
    json_t *info = json_object_get(t, "type_info");
    if (!info || json_is_null(info))
        return ERR_OK;
    TRY(members(v, info, "a type's info", info_known));
    json_t *child = json_object_get(info, "child_type");
    return child ? type(v, child) : ERR_OK;
}

static enum err_code function(struct verify *v, json_t *o)
{
    static const char *const known[] = {
        "class",  "type",      "alias",    "query_location", "function_name", "schema",  "children",
        "filter", "order_bys", "distinct", "is_operator",    "export_state",  "catalog", NULL};
    TRY(members(v, o, "FUNCTION", known));
    const char *name = text(o, "function_name"), *schema = text(o, "schema");
    if (!in(name, functions))
        return refuse(v, "function", name);
    if ((*schema && strcmp(schema, "main") != 0) || *text(o, "catalog") ||
        json_is_true(json_object_get(o, "export_state")))
        return refuse(v, "a function's schema", schema);
    TRY(exprs(v, json_object_get(o, "children")));
    TRY(maybe(v, json_object_get(o, "filter")));
    return orders(v, json_object_get(json_object_get(o, "order_bys"), "orders"));
}

static enum err_code window(struct verify *v, json_t *o)
{
    static const char *const known[] = {"class",         "type",        "alias",          "query_location",
                                        "function_name", "schema",      "catalog",        "children",
                                        "partitions",    "orders",      "start",          "end",
                                        "start_expr",    "end_expr",    "offset_expr",    "default_expr",
                                        "ignore_nulls",  "filter_expr", "exclude_clause", "distinct",
                                        "arg_orders",    NULL};
    static const char *const parts[] = {"start_expr", "end_expr", "offset_expr", "default_expr", "filter_expr"};
    TRY(members(v, o, "WINDOW", known));
    if (!in(text(o, "function_name"), functions))
        return refuse(v, "function", text(o, "function_name"));
    const char *schema = text(o, "schema");
    if ((*schema && strcmp(schema, "main") != 0) || *text(o, "catalog"))
        return refuse(v, "a function's schema", schema);
    TRY(exprs(v, json_object_get(o, "children")));
    TRY(exprs(v, json_object_get(o, "partitions")));
    TRY(orders(v, json_object_get(o, "orders")));
    TRY(orders(v, json_object_get(o, "arg_orders")));
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        TRY(maybe(v, json_object_get(o, parts[i])));
    return ERR_OK;
}

static enum err_code column(struct verify *v, json_t *o)
{
    static const char *const known[] = {"class", "type", "alias", "query_location", "column_names", NULL},
                             *const lambda[] = {"w", "x", "i", NULL};
    TRY(members(v, o, "COLUMN_REF", known));
    json_t *names = json_object_get(o, "column_names");
    const char *first = json_string_value(json_array_get(names, 0));
    size_t n = json_array_size(names);
    if (!first || n > 2 || (n == 1 && !in(first, lambda)) || (n == 2 && !numbered(first, 'r', SIZE_MAX)))
        return refuse(v, "column", first);
    return ERR_OK;
}

static enum err_code subquery(struct verify *v, json_t *o)
{
    static const char *const known[] = {
        "class", "type", "alias", "query_location", "subquery_type", "subquery", "child", "comparison_type", NULL};
    static const char *const kinds[] = {"SCALAR", "EXISTS", "NOT_EXISTS", "ANY", NULL}, *const inside[] = {"node",
                                                                                                           NULL};
    TRY(members(v, o, "SUBQUERY", known));
    if (!in(text(o, "subquery_type"), kinds))
        return refuse(v, "subquery", text(o, "subquery_type"));
    TRY(maybe(v, json_object_get(o, "child")));
    TRY(members(v, json_object_get(o, "subquery"), "a subquery", inside));
    return query(v, json_object_get(json_object_get(o, "subquery"), "node"));
}

static enum err_code case_of(struct verify *v, json_t *o)
{
    static const char *const known[] = {"class", "type", "alias", "query_location", "case_checks", "else_expr", NULL},
                             *const check[] = {"when_expr", "then_expr", NULL};
    size_t i;
    json_t *c;
    TRY(members(v, o, "CASE", known));
    json_array_foreach (json_object_get(o, "case_checks"), i, c) {
        TRY(members(v, c, "CASE", check));
        TRY(expr(v, json_object_get(c, "when_expr")));
        TRY(expr(v, json_object_get(c, "then_expr")));
    }
    return expr(v, json_object_get(o, "else_expr"));
}

/* Kinds whose operands stand in named members or in `children`. */
static const struct {
    const char *class;
    const char *known[14];
} plain_kinds[] = {
    {"OPERATOR", {"class", "type", "alias", "query_location", "children", NULL}},
    {"CONJUNCTION", {"class", "type", "alias", "query_location", "children", NULL}},
    {"COMPARISON", {"class", "type", "alias", "query_location", "left", "right", NULL}},
    {"BETWEEN", {"class", "type", "alias", "query_location", "input", "lower", "upper", NULL}},
    {"CAST", {"class", "type", "alias", "query_location", "child", "cast_type", "try_cast", NULL}},
    {"LAMBDA", {"class", "type", "alias", "query_location", "lhs", "expr", "syntax_type", NULL}},
};
static const char *const operators[] = {
    "OPERATOR_NOT",
    "OPERATOR_IS_NULL",
    "OPERATOR_IS_NOT_NULL",
    "OPERATOR_COALESCE",
    "COMPARE_IN",
    "COMPARE_NOT_IN",
    "ARRAY_CONSTRUCTOR",
    "OPERATOR_NULLIF",
    "ARRAY_EXTRACT",
    "STRUCT_EXTRACT",
    "GROUPING_FUNCTION",
    "CONJUNCTION_AND",
    "CONJUNCTION_OR",
    "COMPARE_EQUAL",
    "COMPARE_NOTEQUAL",
    "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_DISTINCT_FROM",
    "COMPARE_NOT_DISTINCT_FROM",
    "COMPARE_BETWEEN",
    "COMPARE_NOT_BETWEEN",
    "OPERATOR_CAST",
    "LAMBDA",
    NULL,
};

static enum err_code plain(struct verify *v, json_t *o, const char *const *known)
{
    static const char *const parts[] = {"left", "right", "input", "lower", "upper", "child", "lhs", "expr"};
    if (!in(text(o, "type"), operators))
        return refuse(v, "operator", text(o, "type"));
    TRY(members(v, o, text(o, "class"), known));
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        if (in(parts[i], known))
            TRY(expr(v, json_object_get(o, parts[i])));
    TRY(exprs(v, json_object_get(o, "children")));
    json_t *cast = json_object_get(o, "cast_type");
    return cast ? type(v, cast) : ERR_OK;
}

static enum err_code constant(struct verify *v, json_t *o)
{
    static const char *const known[] = {"class", "type", "alias", "query_location", "value", NULL};
    TRY(members(v, o, "CONSTANT", known));
    return type(v, json_object_get(json_object_get(o, "value"), "type"));
}

static enum err_code expr_of(struct verify *v, json_t *o)
{
    static const char *const star[] = {"class", "type", "alias", "query_location", NULL};
    const char *class = text(o, "class");
    for (size_t i = 0; i < sizeof(plain_kinds) / sizeof(*plain_kinds); i++)
        if (!strcmp(class, plain_kinds[i].class))
            return plain(v, o, plain_kinds[i].known);
    if (!strcmp(class, "CONSTANT"))
        return constant(v, o);
    if (!strcmp(class, "COLUMN_REF"))
        return column(v, o);
    if (!strcmp(class, "FUNCTION"))
        return function(v, o);
    if (!strcmp(class, "WINDOW"))
        return window(v, o);
    if (!strcmp(class, "SUBQUERY"))
        return subquery(v, o);
    if (!strcmp(class, "CASE"))
        return case_of(v, o);
    if (!strcmp(class, "STAR"))
        return members(v, o, "STAR", star);
    return refuse(v, "expression", class);
}

static enum err_code expr(struct verify *v, json_t *o)
{
    if (!json_is_object(o))
        return refuse(v, "a malformed expression", "");
    if (++v->depth > DEPTH_MAX)
        return refuse(v, "nesting", "too deep");
    TRY(expr_of(v, o));
    v->depth--;
    return ERR_OK;
}

/* ---- tables */

static enum err_code base_table(struct verify *v, json_t *o)
{
    static const char *const known[] = {"type", "alias", "query_location", "table_name", NULL};
    TRY(members(v, o, "BASE_TABLE", known));
    const char *name = text(o, "table_name");
    if (!numbered(name, 's', v->streams) && !json_object_get(v->ctes, name))
        return refuse(v, "table", name);
    return ERR_OK;
}

static enum err_code table_function(struct verify *v, json_t *o)
{
    static const char *const known[] = {
        "type", "alias", "query_location", "function", "column_name_alias", "with_ordinality", NULL};
    TRY(members(v, o, "TABLE_FUNCTION", known));
    if (strcmp(text(o, "with_ordinality"), "WITHOUT_ORDINALITY") != 0)
        return refuse(v, "table function", "with ordinality");
    json_t *f = json_object_get(o, "function");
    if (strcmp(text(f, "function_name"), "unnest") != 0)
        return refuse(v, "table function", text(f, "function_name"));
    return expr(v, f);
}

static enum err_code join(struct verify *v, json_t *o)
{
    static const char *const known[] = {"type",      "alias",     "query_location", "left", "right",
                                        "condition", "join_type", "ref_type",       NULL};
    static const char *const refs[] = {"REGULAR", "CROSS", NULL};
    TRY(members(v, o, "JOIN", known));
    if (!in(text(o, "ref_type"), refs))
        return refuse(v, "join", text(o, "ref_type"));
    TRY(table(v, json_object_get(o, "left")));
    TRY(table(v, json_object_get(o, "right")));
    return maybe(v, json_object_get(o, "condition"));
}

static enum err_code table_of(struct verify *v, json_t *o)
{
    static const char *const sub[] = {"type", "alias", "query_location", "subquery", "column_name_alias", NULL},
                             *const inside[] = {"node", NULL};
    static const char *const list[] = {"type",           "alias",          "query_location",    "values",
                                       "expected_names", "expected_types", "column_name_alias", NULL};
    static const char *const nothing[] = {"type", "alias", "query_location", NULL};
    const char *kind = text(o, "type");
    size_t i;
    json_t *row;

    if (!strcmp(kind, "BASE_TABLE"))
        return base_table(v, o);
    if (!strcmp(kind, "TABLE_FUNCTION"))
        return table_function(v, o);
    if (!strcmp(kind, "JOIN"))
        return join(v, o);
    if (!strcmp(kind, "EMPTY"))
        return members(v, o, kind, nothing);
    if (!strcmp(kind, "SUBQUERY")) {
        TRY(members(v, o, kind, sub));
        TRY(members(v, json_object_get(o, "subquery"), "a subquery", inside));
        return query(v, json_object_get(json_object_get(o, "subquery"), "node"));
    }
    if (strcmp(kind, "EXPRESSION_LIST") != 0)
        return refuse(v, "table", kind);
    TRY(members(v, o, kind, list));
    json_array_foreach (json_object_get(o, "values"), i, row)
        TRY(exprs(v, row));
    return ERR_OK;
}

static enum err_code table(struct verify *v, json_t *o)
{
    if (!json_is_object(o))
        return refuse(v, "a malformed table", "");
    if (++v->depth > DEPTH_MAX)
        return refuse(v, "nesting", "too deep");
    TRY(table_of(v, o));
    v->depth--;
    return ERR_OK;
}

/* ---- queries */

static enum err_code modifiers(struct verify *v, json_t *list)
{
    static const char *const known[] = {"type", "orders", "limit", "offset", "distinct_on_targets", NULL};
    static const char *const kinds[] = {"ORDER_MODIFIER", "LIMIT_MODIFIER", "DISTINCT_MODIFIER", NULL};
    size_t i;
    json_t *m;
    json_array_foreach (list, i, m) {
        TRY(members(v, m, "a modifier", known));
        if (!in(text(m, "type"), kinds))
            return refuse(v, "modifier", text(m, "type"));
        TRY(orders(v, json_object_get(m, "orders")));
        TRY(maybe(v, json_object_get(m, "limit")));
        TRY(maybe(v, json_object_get(m, "offset")));
        TRY(exprs(v, json_object_get(m, "distinct_on_targets")));
    }
    return ERR_OK;
}

static enum err_code ctes(struct verify *v, json_t *map)
{
    static const char *const entry[] = {"key", "value", NULL}, *const known[] = {"query", "materialized", NULL},
                             *const inside[] = {"node", NULL};
    size_t i;
    json_t *e;
    json_array_foreach (json_object_get(map, "map"), i, e) {
        TRY(members(v, e, "a CTE", entry));
        json_t *value = json_object_get(e, "value"), *q = json_object_get(value, "query");
        TRY(members(v, value, "a CTE", known));
        TRY(members(v, q, "a CTE", inside));
        if (!numbered(text(e, "key"), 'w', SIZE_MAX))
            return refuse(v, "CTE", text(e, "key"));
        TRY(query(v, json_object_get(q, "node")));
        (void)json_object_set_new(v->ctes, text(e, "key"), json_true());
    }
    return ERR_OK;
}

static enum err_code query_of(struct verify *v, json_t *o)
{
    static const char *const select[] = {
        "type",       "modifiers",          "cte_map", "select_list", "from_table", "where_clause", "group_expressions",
        "group_sets", "aggregate_handling", "having",  "qualify",     NULL};
    static const char *const set[] = {"type",  "modifiers", "cte_map",  "setop_type", "left",
                                      "right", "setop_all", "children", NULL};
    size_t i;
    json_t *child;

    TRY(ctes(v, json_object_get(o, "cte_map")));
    TRY(modifiers(v, json_object_get(o, "modifiers")));
    if (!strcmp(text(o, "type"), "SET_OPERATION_NODE")) {
        TRY(members(v, o, "SET_OPERATION_NODE", set));
        json_array_foreach (json_object_get(o, "children"), i, child)
            TRY(query(v, child));
        if (json_object_get(o, "left"))
            TRY(query(v, json_object_get(o, "left")));
        return json_object_get(o, "right") ? query(v, json_object_get(o, "right")) : ERR_OK;
    }
    if (strcmp(text(o, "type"), "SELECT_NODE") != 0)
        return refuse(v, "query", text(o, "type"));
    TRY(members(v, o, "SELECT_NODE", select));
    TRY(exprs(v, json_object_get(o, "select_list")));
    TRY(table(v, json_object_get(o, "from_table")));
    TRY(maybe(v, json_object_get(o, "where_clause")));
    TRY(exprs(v, json_object_get(o, "group_expressions")));
    TRY(maybe(v, json_object_get(o, "having")));
    return maybe(v, json_object_get(o, "qualify"));
}

static enum err_code query(struct verify *v, json_t *o)
{
    if (!json_is_object(o))
        return refuse(v, "a malformed query", "");
    if (++v->depth > DEPTH_MAX)
        return refuse(v, "nesting", "too deep");
    TRY(query_of(v, o));
    v->depth--;
    return ERR_OK;
}

enum err_code gate_verify(slice json, size_t streams, struct err *err)
{
    static const char *const top[] = {"error", "statements", NULL}, *const one[] = {"node", NULL};
    struct verify v = {.streams = streams, .err = err, .ctes = json_object()};
    json_error_t where;
    json_t *root =
        json_loadb((const char *)json.ptr, json.len, JSON_DECODE_INT_AS_REAL, &where); /* positions reach 2^64 */
    json_t *list = json_object_get(root, "statements");
    enum err_code rc = ERR_OK;

    if (!root)
        rc = refuse(&v, "an unreadable syntax tree", where.text);
    else if (json_array_size(list) != 1)
        rc = refuse(&v, "more than one statement", "");
    if (rc == ERR_OK)
        rc = members(&v, root, "the statement", top);
    if (rc == ERR_OK)
        rc = members(&v, json_array_get(list, 0), "the statement", one);
    if (rc == ERR_OK)
        rc = query(&v, json_object_get(json_array_get(list, 0), "node"));
    json_decref(root);
    json_decref(v.ctes);
    return rc;
}
