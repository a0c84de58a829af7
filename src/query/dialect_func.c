/* dialect_func.c: the functions that users may call: DataFusion 53's names, the engine's form of each. This table is the allowlist:
 * what is not here is refused by name. Functions whose output grows out of proportion are in dialect_func_special.c, with caps. */
#include <stdlib.h>

#include "query/gate_int.h"

#include "base/banned.h"

#define S(name, min, max, ret, emit)              \
    {                                             \
        name, F_SCALAR, min, max, ret, emit, NULL \
    }
#define A(name, min, max, ret, emit)                 \
    {                                                \
        name, F_AGGREGATE, min, max, ret, emit, NULL \
    }
#define W(name, min, max, ret, emit)              \
    {                                             \
        name, F_WINDOW, min, max, ret, emit, NULL \
    }

/* Templates: $1 as it is, $t1 as text, $f1 DOUBLE, $i1 BIGINT, $s1 INTEGER, $b1 bare, $* all, $t* all as text. '@' separates the forms
 * for min, min+1, ... arguments. */
const struct func func_scalars[] = {
    S("abs", 1, 1, R_ARG1, "abs($1)"),
    S("acos", 1, 1, R_F64,
      "CASE WHEN $f1 BETWEEN -1 AND 1 THEN acos($f1) WHEN $f1 IS NOT NULL THEN CAST('NaN' AS DOUBLE) END"),
    S("acosh", 1, 1, R_F64, "acosh($f1)"),
    S("asin", 1, 1, R_F64,
      "CASE WHEN $f1 BETWEEN -1 AND 1 THEN asin($f1) WHEN $f1 IS NOT NULL THEN CAST('NaN' AS DOUBLE) END"),
    S("asinh", 1, 1, R_F64, "asinh($f1)"),
    S("atan", 1, 1, R_F64, "atan($f1)"),
    S("atanh", 1, 1, R_F64,
      "CASE WHEN $f1 BETWEEN -1 AND 1 THEN atanh($f1) WHEN $f1 IS NOT NULL THEN CAST('NaN' AS DOUBLE) END"),
    S("atan2", 2, 2, R_F64, "atan2($f1, $f2)"),
    S("cbrt", 1, 1, R_F64, "cbrt($f1)"),
    S("ceil", 1, 1, R_F64, "ceil($f1)"),
    S("cos", 1, 1, R_F64, "cos($f1)"),
    S("cosh", 1, 1, R_F64, "cosh($f1)"),
    S("cot", 1, 1, R_F64, "CASE WHEN $f1 = 0 THEN CAST('Infinity' AS DOUBLE) ELSE cot($f1) END"),
    S("degrees", 1, 1, R_F64, "degrees($f1)"),
    S("exp", 1, 1, R_F64, "exp($f1)"),
    S("factorial", 1, 1, R_I64, "CAST(factorial($s1) AS BIGINT)"),
    S("floor", 1, 1, R_F64, "floor($f1)"),
    S("gcd", 2, 2, R_I64, "gcd($i1, $i2)"),
    S("lcm", 2, 2, R_I64, "lcm($i1, $i2)"),
    S("iszero", 1, 1, R_BOOL, "($f1 = 0)"),
    S("isnan", 1, 1, R_BOOL, "isnan($f1)"),
    S("ln", 1, 1, R_F64,
      "CASE WHEN $f1 > 0 THEN ln($f1) WHEN $f1 = 0 THEN CAST('-Infinity' AS DOUBLE) WHEN $f1 < 0 THEN CAST('NaN' AS "
      "DOUBLE) END"),
    S("log", 1, 2, R_F64,
      "CASE WHEN $f1 > 0 THEN log10($f1) WHEN $f1 = 0 THEN CAST('-Infinity' AS DOUBLE) WHEN $f1 < 0 THEN CAST('NaN' AS "
      "DOUBLE) END@log($f1, $f2)"),
    S("log10", 1, 1, R_F64,
      "CASE WHEN $f1 > 0 THEN log10($f1) WHEN $f1 = 0 THEN CAST('-Infinity' AS DOUBLE) WHEN $f1 < 0 THEN CAST('NaN' AS "
      "DOUBLE) END"),
    S("log2", 1, 1, R_F64,
      "CASE WHEN $f1 > 0 THEN log2($f1) WHEN $f1 = 0 THEN CAST('-Infinity' AS DOUBLE) WHEN $f1 < 0 THEN CAST('NaN' AS "
      "DOUBLE) END"),
    S("nanvl", 2, 2, R_F64, "CASE WHEN isnan($f1) THEN $f2 ELSE $f1 END"),
    S("pi", 0, 0, R_F64, "pi()"),
    S("pow", 2, 2, R_F64, "pow($f1, $f2)"),
    S("power", 2, 2, R_F64, "pow($f1, $f2)"),
    S("radians", 1, 1, R_F64, "radians($f1)"),
    S("random", 0, 0, R_F64, "random()"),
    S("round", 1, 2, R_F64, "round($f1)@round($f1, $s2)"),
    S("signum", 1, 1, R_F64, "CAST(sign($f1) AS DOUBLE)"),
    S("sin", 1, 1, R_F64, "sin($f1)"),
    S("sinh", 1, 1, R_F64, "sinh($f1)"),
    S("sqrt", 1, 1, R_F64, "CASE WHEN $f1 >= 0 THEN sqrt($f1) WHEN $f1 < 0 THEN CAST('NaN' AS DOUBLE) END"),
    S("tan", 1, 1, R_F64, "tan($f1)"),
    S("tanh", 1, 1, R_F64, "tanh($f1)"),
    S("trunc", 1, 2, R_F64, "trunc($f1)@(trunc($f1 * pow(10e0, $f2)) / pow(10e0, $f2))"),

    S("nullif", 2, 2, R_COMMON, "CASE WHEN $=12 THEN NULL WHEN false THEN $2 ELSE $1 END"), /* false: for its type */
    S("nvl2", 3, 3, R_ARG2, "CASE WHEN $b1 IS NOT NULL THEN $2 ELSE $3 END"),

    S("ascii", 1, 1, R_I32, "ascii($t1)"),
    S("bit_length", 1, 1, R_I32, "(strlen($t1) * 8)"),
    S("btrim", 1, 2, R_UTF8, "trim($t1, ' ')@trim($t1, $t2)"),
    S("trim", 1, 2, R_UTF8, "trim($t1, ' ')@trim($t1, $t2)"),
    S("ltrim", 1, 2, R_UTF8, "ltrim($t1, ' ')@ltrim($t1, $t2)"),
    S("rtrim", 1, 2, R_UTF8, "rtrim($t1, ' ')@rtrim($t1, $t2)"),
    S("char_length", 1, 1, R_I32, "length($t1)"),
    S("character_length", 1, 1, R_I32, "length($t1)"),
    S("length", 1, 1, R_I32, "length($t1)"),
    S("octet_length", 1, 1, R_I32, "strlen($t1)"),
    S("chr", 1, 1, R_UTF8, "chr($s1)"),
    S("concat", 1, 255, R_UTF8, "concat($t*)"),
    S("concat_ws", 2, 255, R_UTF8, "concat_ws($t*)"),
    S("contains", 2, 2, R_BOOL, "contains($t1, $t2)"),
    S("ends_with", 2, 2, R_BOOL, "suffix($t1, $t2)"),
    S("starts_with", 2, 2, R_BOOL, "starts_with($t1, $t2)"),
    S("instr", 2, 2, R_I32, "strpos($t1, $t2)"),
    S("strpos", 2, 2, R_I32, "strpos($t1, $t2)"),
    S("position", 2, 2, R_I32, "strpos($t1, $t2)"),
    S("left", 2, 2, R_UTF8, "left($t1, $i2)"),
    S("right", 2, 2, R_UTF8, "right($t1, $i2)"),
    S("levenshtein", 2, 2, R_I32, "levenshtein($t1, $t2)"),
    S("lower", 1, 1, R_UTF8, "lower($t1)"),
    S("upper", 1, 1, R_UTF8, "upper($t1)"),
    S("md5", 1, 1, R_UTF8, "md5($t1)"),
    S("sha256", 1, 1, R_BINARY, "unhex(sha256($t1))"),
    S("reverse", 1, 1, R_UTF8, "reverse($t1)"),
    S("split_part", 3, 3, R_UTF8,
      "CASE WHEN $t2 = '' THEN CASE WHEN abs($i3) = 1 THEN $t1 ELSE '' END ELSE split_part($t1, $t2, $i3) END"),
    S("to_hex", 1, 1, R_UTF8, "lower(to_hex($i1))"),
    S("translate", 3, 3, R_UTF8, "translate($t1, $t2, $t3)"),
    S("uuid", 0, 0, R_UTF8, "CAST(uuid() AS VARCHAR)"),
    S("find_in_set", 2, 2, R_I32,
      "CASE WHEN $t1 IS NOT NULL AND $t2 IS NOT NULL THEN coalesce(list_position(string_split($t2, ','), $t1), 0) END"),
    S("initcap", 1, 1, R_UTF8,
      "array_to_string(list_transform(regexp_extract_all(lower($t1), '[\\p{L}\\p{N}]+|[^\\p{L}\\p{N}]+'), lambda w: "
      "(upper(left(w, 1)) || substr(w, 2))), '')"),
    S("overlay", 3, 4, R_UTF8,
      "(left($t1, $i3 - 1) || $t2 || substr($t1, $i3 + length($t2)))@(left($t1, $i3 - 1) || $t2 || substr($t1, $i3 + "
      "$i4))"),

    S("current_date", 0, 0, R_DATE, "CAST($now AS DATE)"),
    S("today", 0, 0, R_DATE, "CAST($now AS DATE)"),
    S("current_time", 0, 0, R_TIME, "CAST($now AS TIME)"),
    S("now", 0, 0, R_TS_NS, "$now"),
    S("current_timestamp", 0, 0, R_TS_NS, "$now"),
    S("from_unixtime", 1, 1, R_TS_S, "make_timestamp($i1 * 1000000)"),
    S("make_date", 3, 3, R_DATE, "make_date($i1, $i2, $i3)"),
    S("make_time", 3, 3, R_TIME, "make_time($i1, $i2, $f3)"),

    S("array_append", 2, 2, R_ARG1, "list_append($1, $2)"),
    S("list_append", 2, 2, R_ARG1, "list_append($1, $2)"),
    S("array_push_back", 2, 2, R_ARG1, "list_append($1, $2)"),
    S("array_prepend", 2, 2, R_ARG2, "list_prepend($1, $2)"),
    S("list_prepend", 2, 2, R_ARG2, "list_prepend($1, $2)"),
    S("array_push_front", 2, 2, R_ARG2, "list_prepend($1, $2)"),
    S("array_length", 1, 1, R_U64, "len($1)"),
    S("list_length", 1, 1, R_U64, "len($1)"),
    S("cardinality", 1, 1, R_U64, "len($1)"),
    S("array_has", 2, 2, R_BOOL, "list_contains($1, $2)"),
    S("array_contains", 2, 2, R_BOOL, "list_contains($1, $2)"),
    S("list_has", 2, 2, R_BOOL, "list_contains($1, $2)"),
    S("list_contains", 2, 2, R_BOOL, "list_contains($1, $2)"),
    S("array_has_all", 2, 2, R_BOOL, "list_has_all($1, $2)"),
    S("list_has_all", 2, 2, R_BOOL, "list_has_all($1, $2)"),
    S("array_has_any", 2, 2, R_BOOL, "list_has_any($1, $2)"),
    S("list_has_any", 2, 2, R_BOOL, "list_has_any($1, $2)"),
    S("array_element", 2, 2, R_ITEM1, "list_extract($1, $i2)"),
    S("array_extract", 2, 2, R_ITEM1, "list_extract($1, $i2)"),
    S("list_element", 2, 2, R_ITEM1, "list_extract($1, $i2)"),
    S("list_extract", 2, 2, R_ITEM1, "list_extract($1, $i2)"),
    S("array_position", 2, 2, R_U64, "list_position($1, $2)"),
    S("list_position", 2, 2, R_U64, "list_position($1, $2)"),
    S("array_indexof", 2, 2, R_U64, "list_position($1, $2)"),
    S("list_indexof", 2, 2, R_U64, "list_position($1, $2)"),
    S("array_positions", 2, 2, R_UNKNOWN,
      "list_filter(generate_series(1, len($1)), lambda i: (list_extract($1, i) IS NOT DISTINCT FROM $2))"),
    S("list_positions", 2, 2, R_UNKNOWN,
      "list_filter(generate_series(1, len($1)), lambda i: (list_extract($1, i) IS NOT DISTINCT FROM $2))"),
    S("array_remove_all", 2, 2, R_ARG1, "list_filter($1, lambda x: (x IS DISTINCT FROM $2))"),
    S("list_remove_all", 2, 2, R_ARG1, "list_filter($1, lambda x: (x IS DISTINCT FROM $2))"),
    S("array_remove", 2, 2, R_ARG1, "list_filter($1, lambda x, i: (i IS DISTINCT FROM list_position($1, $2)))"),
    S("list_remove", 2, 2, R_ARG1, "list_filter($1, lambda x, i: (i IS DISTINCT FROM list_position($1, $2)))"),
    S("array_replace_all", 3, 3, R_ARG1,
      "list_transform($1, lambda x: CASE WHEN x IS NOT DISTINCT FROM $2 THEN $3 ELSE x END)"),
    S("list_replace_all", 3, 3, R_ARG1,
      "list_transform($1, lambda x: CASE WHEN x IS NOT DISTINCT FROM $2 THEN $3 ELSE x END)"),
    S("array_replace", 3, 3, R_ARG1,
      "list_transform($1, lambda x, i: CASE WHEN i IS NOT DISTINCT FROM list_position($1, $2) THEN $3 ELSE x END)"),
    S("list_replace", 3, 3, R_ARG1,
      "list_transform($1, lambda x, i: CASE WHEN i IS NOT DISTINCT FROM list_position($1, $2) THEN $3 ELSE x END)"),
    S("array_slice", 3, 3, R_ARG1, "list_slice($1, $i2, $i3)"),
    S("list_slice", 3, 3, R_ARG1, "list_slice($1, $i2, $i3)"),
    S("array_distinct", 1, 1, R_ARG1, "list_filter($1, lambda x, i: (list_position($1, x) = i))"),
    S("list_distinct", 1, 1, R_ARG1, "list_filter($1, lambda x, i: (list_position($1, x) = i))"),
    S("array_intersect", 2, 2, R_ARG1, "list_intersect($1, $2)"),
    S("list_intersect", 2, 2, R_ARG1, "list_intersect($1, $2)"),
    S("array_except", 2, 2, R_ARG1,
      "list_filter($1, lambda x, i: ((list_position($1, x) = i) AND (list_position($2, x) IS NULL)))"),
    S("list_except", 2, 2, R_ARG1,
      "list_filter($1, lambda x, i: ((list_position($1, x) = i) AND (list_position($2, x) IS NULL)))"),
    S("array_union", 2, 2, R_ARG1,
      "list_filter(list_concat($1, $2), lambda x, i: (list_position(list_concat($1, $2), x) = i))"),
    S("list_union", 2, 2, R_ARG1,
      "list_filter(list_concat($1, $2), lambda x, i: (list_position(list_concat($1, $2), x) = i))"),
    S("array_reverse", 1, 1, R_ARG1, "list_reverse($1)"),
    S("list_reverse", 1, 1, R_ARG1, "list_reverse($1)"),
    S("array_pop_back", 1, 1, R_ARG1, "list_slice($1, 1, len($1) - 1)"),
    S("list_pop_back", 1, 1, R_ARG1, "list_slice($1, 1, len($1) - 1)"),
    S("array_pop_front", 1, 1, R_ARG1, "list_slice($1, 2, len($1))"),
    S("list_pop_front", 1, 1, R_ARG1, "list_slice($1, 2, len($1))"),
    S("array_max", 1, 1, R_ITEM1, "list_max($1)"),
    S("list_max", 1, 1, R_ITEM1, "list_max($1)"),
    S("array_min", 1, 1, R_ITEM1, "list_min($1)"),
    S("list_min", 1, 1, R_ITEM1, "list_min($1)"),
    S("array_any_value", 1, 1, R_ITEM1, "list_any_value($1)"),
    S("list_any_value", 1, 1, R_ITEM1, "list_any_value($1)"),
    S("empty", 1, 1, R_BOOL, "(len($1) = 0)"),
    S("array_empty", 1, 1, R_BOOL, "(len($1) = 0)"),
    S("list_empty", 1, 1, R_BOOL, "(len($1) = 0)"),
    S("flatten", 1, 1, R_ITEM1, "flatten($1)"),
    S("array_to_string", 2, 3, R_UTF8,
      "array_to_string($1, $t2)@array_to_string(list_transform($1, lambda x: coalesce(CAST(x AS VARCHAR), $t3)), $t2)"),
    S("list_to_string", 2, 3, R_UTF8,
      "array_to_string($1, $t2)@array_to_string(list_transform($1, lambda x: coalesce(CAST(x AS VARCHAR), $t3)), $t2)"),
    S("array_join", 2, 3, R_UTF8,
      "array_to_string($1, $t2)@array_to_string(list_transform($1, lambda x: coalesce(CAST(x AS VARCHAR), $t3)), $t2)"),
    S("list_join", 2, 3, R_UTF8,
      "array_to_string($1, $t2)@array_to_string(list_transform($1, lambda x: coalesce(CAST(x AS VARCHAR), $t3)), $t2)"),
    S("string_to_array", 2, 3, R_LIST_UTF8,
      "CASE WHEN $t2 = '' THEN list_value($t1) ELSE string_split($t1, $t2) END@list_transform(CASE WHEN $t2 = '' THEN "
      "list_value($t1) ELSE string_split($t1, $t2) END, lambda x: nullif(x, $t3))"),
    S("string_to_list", 2, 3, R_LIST_UTF8,
      "CASE WHEN $t2 = '' THEN list_value($t1) ELSE string_split($t1, $t2) END@list_transform(CASE WHEN $t2 = '' THEN "
      "list_value($t1) ELSE string_split($t1, $t2) END, lambda x: nullif(x, $t3))"),
    S("map_keys", 1, 1, R_UNKNOWN, "map_keys($1)"),
    S("map_values", 1, 1, R_UNKNOWN, "map_values($1)"),
    S("map_extract", 2, 2, R_UNKNOWN, "list_resize(map_extract($1, $2), 1)"),
    S("element_at", 2, 2, R_UNKNOWN, "list_resize(map_extract($1, $2), 1)"),
    S("map", 2, 2, R_MAP, "map($1, $2)"),
};
const size_t func_scalars_count = ARRAY_LEN(func_scalars);

const struct func func_aggregates[] = {
    A("count", 0, 1, R_I64, "count"),
    A("sum", 1, 1, R_SUM, "sum"),
    A("min", 1, 1, R_ARG1, "min"),
    A("max", 1, 1, R_ARG1, "max"),
    A("avg", 1, 1, R_F64, "avg"),
    A("mean", 1, 1, R_F64, "avg"),
    A("median", 1, 1, R_NUM, "median"),
    A("array_agg", 1, 1, R_LIST1, "array_agg"),
    A("string_agg", 2, 2, R_UTF8, "string_agg"),
    A("bool_and", 1, 1, R_BOOL, "bool_and"),
    A("bool_or", 1, 1, R_BOOL, "bool_or"),
    A("bit_and", 1, 1, R_ARG1, "bit_and"),
    A("bit_or", 1, 1, R_ARG1, "bit_or"),
    A("bit_xor", 1, 1, R_ARG1, "bit_xor"),
    A("corr", 2, 2, R_F64, "corr"),
    A("covar", 2, 2, R_F64, "covar_samp"),
    A("covar_samp", 2, 2, R_F64, "covar_samp"),
    A("covar_pop", 2, 2, R_F64, "covar_pop"),
    A("stddev", 1, 1, R_F64, "stddev_samp"),
    A("stddev_samp", 1, 1, R_F64, "stddev_samp"),
    A("stddev_pop", 1, 1, R_F64, "stddev_pop"),
    A("var", 1, 1, R_F64, "var_samp"),
    A("var_samp", 1, 1, R_F64, "var_samp"),
    A("var_sample", 1, 1, R_F64, "var_samp"),
    A("var_pop", 1, 1, R_F64, "var_pop"),
    A("var_population", 1, 1, R_F64, "var_pop"),
    A("regr_slope", 2, 2, R_F64, "regr_slope"),
    A("regr_intercept", 2, 2, R_F64, "regr_intercept"),
    A("regr_count", 2, 2, R_U64, "regr_count"),
    A("regr_r2", 2, 2, R_F64, "regr_r2"),
    A("regr_avgx", 2, 2, R_F64, "regr_avgx"),
    A("regr_avgy", 2, 2, R_F64, "regr_avgy"),
    A("regr_sxx", 2, 2, R_F64, "regr_sxx"),
    A("regr_syy", 2, 2, R_F64, "regr_syy"),
    A("regr_sxy", 2, 2, R_F64, "regr_sxy"),
    A("grouping", 1, 1, R_I32, "grouping"),
    A("first_value", 1, 1, R_ARG1, "first"),
    A("last_value", 1, 1, R_ARG1, "last"),
    A("nth_value", 2, 2, R_ARG1, "nth_value"),
    A("approx_distinct", 1, 1, R_U64, "count"),
    A("approx_median", 1, 1, R_NUM, "quantile"),
    A("approx_percentile_cont", 1, 3, R_NUM, "quantile"),
    A("percentile_cont", 1, 2, R_NUM, "quantile"),
    A("quantile_cont", 1, 2, R_NUM, "quantile"),
    W("row_number", 0, 0, R_U64, "row_number"),
    W("rank", 0, 0, R_U64, "rank"),
    W("dense_rank", 0, 0, R_U64, "dense_rank"),
    W("percent_rank", 0, 0, R_F64, "percent_rank"),
    W("cume_dist", 0, 0, R_F64, "cume_dist"),
    W("ntile", 1, 1, R_U64, "ntile"),
    W("lag", 1, 3, R_ARG1, "lag"),
    W("lead", 1, 3, R_ARG1, "lead"),
};
const size_t func_aggregates_count = ARRAY_LEN(func_aggregates);

const struct func *func_find(slice name)
{
    for (size_t i = 0; i < func_special_count; i++)
        if (slice_is(name, func_special[i].name))
            return &func_special[i];
    for (size_t i = 0; i < func_aggregates_count; i++)
        if (slice_is(name, func_aggregates[i].name))
            return &func_aggregates[i];
    for (size_t i = 0; i < func_scalars_count; i++)
        if (slice_is(name, func_scalars[i].name))
            return &func_scalars[i];
    return NULL;
}

static struct dtype list_of(struct arena *a, struct dtype item)
{
    struct dtype *t = arena_zalloc(a, sizeof(*t));
    *t = item;
    return (struct dtype){.kind = D_LIST, .item = t};
}

static struct dtype common_of(const struct expr *e)
{
    struct dtype t = {.kind = D_NULL};
    for (size_t i = 0; i < e->args_count; i++)
        t = type_common(t, e->args[i]->type);
    return t;
}

struct dtype func_type(struct arena *a, const struct func *f, const struct expr *e)
{
    struct dtype first = {.kind = D_UNKNOWN}, f64 = {.kind = D_FLOAT, .bits = 64};
    if (e->within_group && e->order_count)
        first = e->order[0].expr->type;
    else if (e->args_count)
        first = e->args[0]->type;
    switch ((enum ret)f->ret) {
    case R_BOOL: return (struct dtype){.kind = D_BOOL};
    case R_I32: return (struct dtype){.kind = D_INT, .bits = 32};
    case R_I64: return (struct dtype){.kind = D_INT, .bits = 64};
    case R_U64: return (struct dtype){.kind = D_UINT, .bits = 64};
    case R_F64: return f64;
    case R_UTF8: return (struct dtype){.kind = D_UTF8};
    case R_BINARY: return (struct dtype){.kind = D_BINARY};
    case R_ARG1: return first;
    case R_ARG2: return e->args_count > 1 ? e->args[1]->type : first;
    case R_COMMON: return common_of(e);
    case R_LIST1: return list_of(a, first);
    case R_ITEM1: return first.kind == D_LIST && first.item ? *first.item : (struct dtype){.kind = D_UNKNOWN};
    case R_NUM: return is_number(&first) ? first : f64;
    case R_SUM: return is_integer(&first) ? (struct dtype){.kind = first.kind, .bits = 64} : first;
    case R_TS_S: return (struct dtype){.kind = D_TS, .unit = U_S};
    case R_TS_MS: return (struct dtype){.kind = D_TS, .unit = U_MS};
    case R_TS_US: return (struct dtype){.kind = D_TS, .unit = U_US};
    case R_TS_NS: return (struct dtype){.kind = D_TS, .unit = U_NS};
    case R_DATE: return (struct dtype){.kind = D_DATE, .bits = 32};
    case R_TIME: return (struct dtype){.kind = D_TIME, .bits = 64, .unit = U_NS};
    case R_STRUCT: return (struct dtype){.kind = D_STRUCT};
    case R_MAP: return (struct dtype){.kind = D_MAP};
    case R_LIST_UTF8: return list_of(a, (struct dtype){.kind = D_UTF8});
    case R_LIST_COMMON: return list_of(a, common_of(e));
    case R_TRUNC:
        return e->args_count > 1 && e->args[1]->type.kind == D_TS ? e->args[1]->type
                                                                  : (struct dtype){.kind = D_TS, .unit = U_NS};
    case R_CAST: {
        struct dtype to = {.kind = D_UNKNOWN};
        if (e->args_count == 2 && e->args[1]->kind == E_LITERAL && e->args[1]->type.kind == D_UTF8)
            (void)arrow_type_parse(e->args[1]->text, a, &to);
        return to;
    }
    case R_UNKNOWN: break;
    }
    return (struct dtype){.kind = D_UNKNOWN};
}
