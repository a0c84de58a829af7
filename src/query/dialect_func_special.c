/* dialect_func_special.c: functions that take more than a template: caps on what they build (a single call of the engine is not under
 * its memory limit), formats and regular expressions in another notation, aggregates and windows. */
#include <stdio.h>

#include "base/timetext.h"
#include "query/gate_int.h"

#include "base/banned.h"

#define TEXT_BYTES_MAX 65536 /* of one value that repeat, lpad, rpad or replace builds: times 2,048 rows of a vector */
#define LIST_ITEMS_MAX 10000 /* of one list that range, generate_series, array_repeat or array_resize builds */

static bool is_literal(const struct expr *e, enum dkind kind)
{
    return e->kind == E_LITERAL && e->type.kind == kind;
}

/* ---- templates */

static enum err_code argument(struct printer *p, const struct expr *e, char how, const struct expr *arg)
{
    (void)e;
    switch (how) {
    case 't': return print_text(p, arg);
    case 'f': return print_as(p, arg, "DOUBLE");
    case 'i': return print_as(p, arg, "BIGINT");
    case 's': return print_as(p, arg, "INTEGER");
    case 'b': return print_bare(p, arg);
    default: return print_expr(p, arg);
    }
}

static void print_now(struct printer *p)
{
    struct civil c = civil_of(p->g->env->now_us);
    buf_fmt(p->out, "TIMESTAMP '%04lld-%02d-%02d %02d:%02d:%02d.%06d'", (long long)c.year, c.month, c.day, c.hour,
            c.minute, c.second, c.micro);
}

enum err_code print_template(struct printer *p, const struct expr *e, const char *form)
{
    for (const char *c = form; *c && *c != '@'; c++) {
        if (*c != '$') {
            buf_byte(p->out, (uint8_t)*c);
            continue;
        }
        if (!strncmp(c, "$now", 4)) {
            print_now(p);
            c += 3;
            continue;
        }
        if (c[1] == '=') { /* $=12: the two compared as = compares them */
            struct expr eq = {.kind = E_BINARY, .op = OP_EQ, .args = e->args, .args_count = 2};
            TRY(print_expr(p, &eq));
            c += 3;
            continue;
        }
        char how = 0;
        c++;
        if (*c >= 'a' && *c <= 'z')
            how = *c++;
        if (*c == '*') {
            for (size_t i = 0; i < e->args_count; i++) {
                buf_str(p->out, i ? ", " : "");
                TRY(argument(p, e, how, e->args[i]));
            }
        } else {
            TRY(argument(p, e, how, e->args[*c - '1']));
        }
    }
    return ERR_OK;
}

/* The form for this number of arguments. */
static const char *form_of(const struct func *f, size_t args)
{
    const char *form = f->emit;
    for (size_t n = f->min; f->max != 255 && n < args; n++) {
        const char *next = strchr(form, '@');
        if (!next)
            break;
        form = next + 1;
    }
    return form;
}

/* ---- what grows */

static enum err_code print_repeat(struct printer *p, const struct expr *e)
{
    TRY(print_template(p, e, "repeat($t1, CASE WHEN strlen($t1) * greatest($i2, 0) > "));
    buf_fmt(p->out, "%d", TEXT_BYTES_MAX);
    return print_template(p, e, " THEN CAST(error('repeat: the result is too long') AS BIGINT) ELSE $i2 END)");
}

static enum err_code print_pad(struct printer *p, const struct expr *e)
{
    if (e->args_count == 3)
        TRY(print_template(p, e, "CASE WHEN $t3 = '' THEN left($t1, greatest($i2, 0)) ELSE "));
    buf_fmt(p->out, "%s(", slice_is(e->text, "lpad") ? "lpad" : "rpad");
    TRY(print_template(p, e, "$t1, CASE WHEN $i2 > "));
    buf_fmt(p->out, "%d", TEXT_BYTES_MAX / 4);
    TRY(print_template(
        p, e, " THEN CAST(error('lpad, rpad: the result is too long') AS INTEGER) ELSE greatest($s2, 0) END, "));
    return print_template(p, e, e->args_count == 3 ? "$t3) END" : "' ')");
}

static enum err_code print_replace(struct printer *p, const struct expr *e)
{
    const struct expr *to = e->args[2];
    if (is_literal(to, D_UTF8) && to->text.len <= 16)
        return print_template(p, e, "replace($t1, $t2, $t3)");
    TRY(print_template(p, e, "replace($t1, $t2, CASE WHEN strlen($t1) * strlen($t3) > "));
    buf_fmt(p->out, "%d", TEXT_BYTES_MAX * 16);
    return print_template(p, e, " THEN error('replace: the result is too long') ELSE $t3 END)");
}

static enum err_code print_range(struct printer *p, const struct expr *e)
{
    bool series = slice_is(e->text, "generate_series");
    for (size_t i = 0; i < e->args_count; i++)
        if (!is_integer(&e->args[i]->type))
            return gate_invalid(p->err, "%s takes integers here", series ? "generate_series" : "range");
    const char *name = series ? "generate_series" : "range";
    buf_fmt(p->out, "%s(", name);
    if (e->args_count == 1)
        TRY(print_template(p, e, "0, CASE WHEN abs($i1) > "));
    else
        TRY(print_template(p, e, "$i1, CASE WHEN abs(CAST($i2 AS HUGEINT) - $i1) > "));
    buf_fmt(p->out, "%d THEN CAST(error('%s: the list is too long') AS BIGINT) ELSE ", LIST_ITEMS_MAX, name);
    TRY(print_template(p, e, e->args_count == 1 ? "$i1 END" : "$i2 END"));
    return print_template(p, e, e->args_count == 3 ? ", $i3)" : ")");
}

static enum err_code print_array_repeat(struct printer *p, const struct expr *e)
{
    TRY(print_template(p, e, "list_transform(range(0, CASE WHEN $i2 > "));
    buf_fmt(p->out, "%d", LIST_ITEMS_MAX);
    return print_template(
        p, e,
        " THEN CAST(error('array_repeat: the list is too long') AS BIGINT) ELSE greatest($i2, 0) END), lambda x: $1)");
}

static enum err_code print_array_resize(struct printer *p, const struct expr *e)
{
    TRY(print_template(p, e, "list_resize($1, CASE WHEN $i2 > "));
    buf_fmt(p->out, "%d", LIST_ITEMS_MAX);
    TRY(print_template(p, e, " THEN CAST(error('array_resize: the list is too long') AS BIGINT) ELSE $i2 END"));
    return print_template(p, e, e->args_count == 3 ? ", $3)" : ")");
}

/* ---- text */

static enum err_code print_substr(struct printer *p, const struct expr *e)
{
    const struct expr *from = e->args[1];
    if (is_literal(from, D_INT) && from->ival >= 1)
        return print_template(p, e, e->args_count == 3 ? "substr($t1, $i2, greatest($i3, 0))" : "substr($t1, $i2)");
    /* positions before the first character count, as in PostgreSQL; the engine would count them from the end */
    return print_template(p, e,
                          e->args_count == 3
                              ? "substr($t1, greatest($i2, 1), greatest($i2 + $i3, 1) - greatest($i2, 1))"
                              : "substr($t1, greatest($i2, 1))");
}

static enum err_code print_substr_index(struct printer *p, const struct expr *e)
{
    return print_template(
        p, e,
        "CASE WHEN $i3 > 0 THEN array_to_string(list_slice(string_split($t1, $t2), 1, $i3), $t2) WHEN $i3 < 0 THEN "
        "array_to_string(list_slice(string_split($t1, $t2), greatest(len(string_split($t1, $t2)) + $i3 + 1, 1), "
        "len(string_split($t1, $t2))), $t2) WHEN $i3 = 0 THEN '' END");
}

static enum err_code print_code(struct printer *p, const struct expr *e) /* encode, decode */
{
    bool encode = slice_is(e->text, "encode");
    const struct expr *how = e->args[1];
    bool binary = e->args[0]->type.kind == D_BINARY;
    if (is_literal(how, D_UTF8) && slice_is(how->text, "hex"))
        return print_template(p, e, encode ? (binary ? "lower(hex($1))" : "lower(hex(encode($t1)))") : "unhex($t1)");
    if (is_literal(how, D_UTF8) && slice_is(how->text, "base64"))
        return print_template(p, e,
                              encode ? (binary ? "rtrim(base64($1), '=')" : "rtrim(base64(encode($t1)), '=')")
                                     : "from_base64(rpad($t1, CAST(((length($t1) + 3) // 4) * 4 AS INTEGER), '='))");
    return gate_invalid(p->err, "There is no built-in encoding here but 'hex' and 'base64'");
}

static enum err_code print_digest(struct printer *p, const struct expr *e)
{
    const struct expr *how = e->args[1];
    if (is_literal(how, D_UTF8) && slice_is(how->text, "sha256"))
        return print_template(p, e, "unhex(sha256($t1))");
    if (is_literal(how, D_UTF8) && slice_is(how->text, "md5"))
        return print_template(p, e, "unhex(md5($t1))");
    return gate_invalid(p->err, "digest knows 'md5' and 'sha256' here");
}

/* Arguments that must agree: as text when the common type is text. */
static enum err_code print_common(struct printer *p, const struct expr *e)
{
    slice n = e->text;
    buf_str(p->out, slice_is(n, "greatest") ? "greatest(" : slice_is(n, "least") ? "least(" : "coalesce(");
    for (size_t i = 0; i < e->args_count; i++) {
        buf_str(p->out, i ? ", " : "");
        if (e->type.kind == D_UTF8 && e->args[i]->type.kind != D_NULL)
            TRY(print_text(p, e->args[i]));
        else
            TRY(print_expr(p, e->args[i]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

/* ---- regular expressions */

/* Capture groups of a pattern: an opening parenthesis that is not escaped, in a class, or (?: and kin. */
static unsigned groups_of(slice s)
{
    unsigned n = 0;
    bool class = false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\\')
            i++;
        else if (class)
            class = s.ptr[i] != ']';
        else if (s.ptr[i] == '[')
            class = true;
        else if (s.ptr[i] == '(' && !(i + 1 < s.len && s.ptr[i + 1] == '?' &&
                                      !(i + 2 < s.len && (s.ptr[i + 2] == 'P' || s.ptr[i + 2] == '<'))))
            n++;
    }
    return n;
}

static enum err_code regex_flags(struct printer *p, const struct expr *e, size_t at, bool *global, bool *nocase)
{
    *global = *nocase = false;
    if (e->args_count <= at || is_literal(e->args[at], D_NULL))
        return ERR_OK;
    if (!is_literal(e->args[at], D_UTF8))
        return gate_invalid(p->err, "flags of a regular expression must be a literal");
    for (size_t i = 0; i < e->args[at]->text.len; i++) {
        uint8_t c = e->args[at]->text.ptr[i];
        *global |= c == 'g';
        *nocase |= c == 'i';
        if (c != 'g' && c != 'i')
            return gate_invalid(p->err, "flags of a regular expression here are 'i' and 'g'");
    }
    return ERR_OK;
}

static enum err_code print_regexp_like(struct printer *p, const struct expr *e)
{
    bool global, nocase;
    TRY(regex_flags(p, e, 2, &global, &nocase));
    return print_template(p, e, nocase ? "regexp_matches($t1, $t2, 'i')" : "regexp_matches($t1, $t2)");
}

static enum err_code print_regexp_match(struct printer *p, const struct expr *e)
{
    bool global, nocase;
    TRY(regex_flags(p, e, 2, &global, &nocase));
    if (!is_literal(e->args[1], D_UTF8) || global)
        return gate_invalid(p->err, "regexp_match takes a literal pattern, and no 'g'");
    unsigned groups = groups_of(e->args[1]->text);
    if (groups > 50)
        return gate_invalid(p->err, "regexp_match: more than 50 groups");
    TRY(print_template(p, e,
                       nocase ? "CASE WHEN regexp_matches($t1, $t2, 'i') THEN list_value("
                              : "CASE WHEN regexp_matches($t1, $t2) THEN list_value("));
    for (unsigned i = groups ? 1 : 0; i <= groups; i++) {
        TRY(print_template(p, e, i > 1 ? ", regexp_extract($t1, $t2, " : "regexp_extract($t1, $t2, "));
        buf_fmt(p->out, "%u%s)", i, nocase ? ", 'i'" : "");
    }
    buf_str(p->out, ") END");
    return ERR_OK;
}

static enum err_code print_regexp_count(struct printer *p, const struct expr *e)
{
    bool global, nocase;
    TRY(regex_flags(p, e, 3, &global, &nocase));
    TRY(print_template(p, e,
                       e->args_count > 2 ? "coalesce(len(regexp_extract_all(substr($t1, $i3), $t2, 0"
                                         : "coalesce(len(regexp_extract_all($t1, $t2, 0"));
    buf_str(p->out, nocase ? ", 'i')), 0)" : ")), 0)");
    return ERR_OK;
}

static enum err_code print_regexp_replace(struct printer *p, const struct expr *e)
{
    bool global, nocase;
    struct buf to = BUF_INIT;

    TRY(regex_flags(p, e, 3, &global, &nocase));
    if (!is_literal(e->args[2], D_UTF8) || e->args[2]->text.len > 256)
        return gate_invalid(p->err, "regexp_replace takes a literal replacement of at most 256 bytes");
    slice s = e->args[2]->text;
    for (size_t i = 0; i < s.len;
         i++) { /* $1 and ${1} are \1 in the engine; a backslash that is no reference is doubled */
        size_t brace = s.ptr[i] == '$' && i + 1 < s.len && s.ptr[i + 1] == '{';
        size_t digit = i + 1 + brace;
        bool ref = (s.ptr[i] == '$' || s.ptr[i] == '\\') && digit < s.len && s.ptr[digit] >= '0' &&
                   s.ptr[digit] <= '9' && (!brace || (digit + 1 < s.len && s.ptr[digit + 1] == '}'));
        if (ref) {
            buf_byte(&to, '\\');
            buf_byte(&to, s.ptr[digit]);
            i = digit + brace;
        } else {
            buf_byte(&to, s.ptr[i]);
            if (s.ptr[i] == '\\')
                buf_byte(&to, '\\');
        }
    }
    enum err_code rc = print_template(p, e, "regexp_replace($t1, $t2, ");
    if (rc == ERR_OK) {
        print_string(p, buf_view(&to));
        buf_fmt(p->out, "%s)", global && nocase ? ", 'gi'" : global ? ", 'g'" : nocase ? ", 'i'" : "");
    }
    buf_done(&to);
    return rc;
}

/* ---- time */

static const char *const time_parts[][2] = {
    /* DataFusion's name, the engine's */
    {"year", "year"},
    {"quarter", "quarter"},
    {"month", "month"},
    {"week", "week"},
    {"day", "day"},
    {"hour", "hour"},
    {"minute", "minute"},
    {"second", "second"},
    {"millisecond", "millisecond"},
    {"microsecond", "microsecond"},
    {"dow", "dow"},
    {"doy", "doy"},
    {"epoch", "epoch"},
    {"isodow", "isodow"},
    {"isoyear", "isoyear"},
    {"years", "year"},
    {"months", "month"},
    {"weeks", "week"},
    {"days", "day"},
    {"hours", "hour"},
    {"minutes", "minute"},
    {"seconds", "second"},
    {"milliseconds", "millisecond"},
    {"microseconds", "microsecond"},
};

static const char *time_part(slice s)
{
    for (size_t i = 0; i < ARRAY_LEN(time_parts); i++)
        if (slice_eq_nocase(s, slice_str(time_parts[i][0])))
            return time_parts[i][1];
    return NULL;
}

/* An argument where DataFusion wants a timestamp: text is parsed, a date widened. */
static enum err_code print_time(struct printer *p, const struct expr *e)
{
    struct expr cast = {.kind = E_CAST,
                        .args = (struct expr **)(uintptr_t)&e,
                        .args_count = 1,
                        .cast_to = {.kind = D_TS, .unit = U_NS}};
    if (e->type.kind == D_TS || e->type.kind == D_INTERVAL || e->type.kind == D_TIME || e->type.kind == D_DURATION)
        return print_expr(p, e);
    if (is_number(&e->type))
        return gate_invalid(p->err, "a number is not a timestamp: to_timestamp_millis() and kin make one of it");
    return print_cast(p, &cast);
}

static enum err_code print_date_part(struct printer *p, const struct expr *e)
{
    const char *part = is_literal(e->args[0], D_UTF8) ? time_part(e->args[0]->text) : NULL;
    if (!part)
        return gate_invalid(p->err, "date_part: the part must be one of year, quarter, month, week, day, hour, minute, "
                                    "second, millisecond, microsecond, dow, doy, epoch, isodow, isoyear, as a literal");
    bool epoch = !strcmp(part, "epoch");
    buf_str(p->out, epoch ? "" : "CAST(");
    buf_fmt(p->out, "date_part('%s', ", part);
    TRY(print_time(p, e->args[1]));
    buf_str(p->out, epoch ? ")" : !strcmp(part, "isodow") ? ") - 1 AS INTEGER)" : ") AS INTEGER)");
    return ERR_OK;
}

static enum err_code print_date_trunc(struct printer *p, const struct expr *e)
{
    static const char *const units[] = {"microsecond", "millisecond", "second", "minute",  "hour",
                                        "day",         "week",        "month",  "quarter", "year"};
    for (size_t i = 0; i < ARRAY_LEN(units) && is_literal(e->args[0], D_UTF8); i++)
        if (slice_eq_nocase(e->args[0]->text, slice_str(units[i]))) {
            buf_fmt(p->out, "date_trunc('%s', ", units[i]);
            TRY(print_time(p, e->args[1]));
            buf_byte(p->out, ')');
            return ERR_OK;
        }
    return gate_invalid(p->err, "Unsupported date_trunc granularity: it must be a literal: microsecond, millisecond, "
                                "second, minute, hour, day, week, month, quarter or year");
}

static enum err_code print_date_bin(struct printer *p, const struct expr *e)
{
    struct expr stride = *e->args[0];
    if (is_literal(&stride, D_UTF8)) {
        stride.kind = E_INTERVAL;
        if (!interval_parse(stride.text, "", &stride.months, &stride.days, &stride.ival))
            return gate_invalid(p->err, "Invalid input syntax for type interval: \"" SLICE_FMT "\"",
                                SLICE_ARG(slice_head(stride.text, 100)));
    }
    if (stride.kind != E_INTERVAL)
        return gate_invalid(p->err, "date_bin: the stride must be an interval or a text literal");
    if (stride.months && (stride.days || stride.ival))
        return gate_invalid(p->err,
                            "DATE_BIN stride does not support combination of month, day and nanosecond intervals");
    if (stride.months < 0 || stride.days < 0 || stride.ival < 0 ||
        (!stride.months && !stride.days && stride.ival < 1000))
        return gate_invalid(p->err, "DATE_BIN stride must be positive, and not below a microsecond");
    buf_str(p->out, "time_bucket(");
    TRY(print_expr(p, &stride));
    buf_str(p->out, ", ");
    TRY(print_time(p, e->args[1]));
    buf_str(p->out, ", ");
    if (e->args_count == 3)
        TRY(print_time(p, e->args[2]));
    else
        buf_str(p->out, "TIMESTAMP '1970-01-01 00:00:00'");
    buf_byte(p->out, ')');
    return ERR_OK;
}

/* A chrono format as the engine's strftime: the same letters but for fractions and some shorthands. */
static enum err_code format_text(struct printer *p, const struct expr *e, bool parse)
{
    if (!is_literal(e, D_UTF8))
        return gate_invalid(p->err, "a time format must be a literal");
    static const char *const known[][2] = {
        {"%.3f", ".%g"},    {"%3f", "%g"},      {"%.6f", ".%f"}, {"%6f", "%f"},
        {"%.9f", ".%n"},    {"%9f", "%n"},      {"%.f", ".%f"},  {"%f", "%n"},
        {"%F", "%Y-%m-%d"}, {"%T", "%H:%M:%S"}, {"%R", "%H:%M"}, {"%D", "%m/%d/%y"},
        {"%e", "%-d"},      {"%k", "%-H"},      {"%h", "%b"},    {"%+", "%Y-%m-%dT%H:%M:%S.%f%z"},
        {"%:z", "%z"},      {"%t", "\t"},       {"%n", "\n"},    {"%P", "%p"},
    };
    struct buf out = BUF_INIT;
    slice s = e->text;
    for (size_t i = 0; i < s.len;) {
        bool found = false;
        for (size_t k = 0; k < ARRAY_LEN(known) && !found; k++)
            if (slice_starts(slice_from(s, i), slice_str(known[k][0]))) {
                buf_str(&out, known[k][1]);
                i += strlen(known[k][0]);
                found = true;
            }
        if (found)
            continue;
        buf_byte(&out, s.ptr[i]);
        if (s.ptr[i] == '%' && i + 1 < s.len)
            buf_byte(&out, s.ptr[++i]);
        i++;
    }
    print_string(p, buf_view(&out));
    buf_done(&out);
    (void)parse;
    return ERR_OK;
}

static enum err_code print_to_char(struct printer *p, const struct expr *e)
{
    buf_str(p->out, "strftime(");
    TRY(print_time(p, e->args[0]));
    buf_str(p->out, ", ");
    TRY(format_text(p, e->args[1], false));
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_to_timestamp(struct printer *p, const struct expr *e)
{
    static const char *const from[] = {
        [U_S] = "($i1 * 1000000)", [U_MS] = "($i1 * 1000)", [U_US] = "$i1", [U_NS] = "($i1 // 1000)"};
    enum dunit unit = e->func->ret == R_TS_MS   ? U_MS
                      : e->func->ret == R_TS_US ? U_US
                      : e->func->ret == R_TS_S  ? U_S
                                                : U_NS;
    const struct expr *x = e->args[0];

    if (e->args_count > 1) { /* formats, tried in turn */
        buf_str(p->out, "strptime(");
        TRY(print_text(p, x));
        buf_str(p->out, ", list_value(");
        for (size_t i = 1; i < e->args_count; i++) {
            buf_str(p->out, i > 1 ? ", " : "");
            TRY(format_text(p, e->args[i], true));
        }
        buf_str(p->out, "))");
        return ERR_OK;
    }
    if (is_number(&x->type)) { /* of seconds, for to_timestamp itself */
        bool plain = slice_is(e->text, "to_timestamp");
        buf_str(p->out, "make_timestamp(");
        TRY(print_template(p, e,
                           plain && x->type.kind == D_FLOAT ? "CAST(floor($f1 * 1000000e0) AS BIGINT)"
                                                            : from[plain ? U_S : unit]));
        buf_byte(p->out, ')');
        return ERR_OK;
    }
    struct expr cast = {
        .kind = E_CAST, .args = e->args, .args_count = 1, .cast_to = {.kind = D_TS, .unit = (uint8_t)unit}};
    return print_cast(p, &cast);
}

static enum err_code print_to_unixtime(struct printer *p, const struct expr *e)
{
    if (e->args_count == 1 && is_number(&e->args[0]->type))
        return print_as(p, e->args[0], "BIGINT");
    buf_str(p->out, "CAST(floor(epoch(");
    if (e->args_count > 1)
        TRY(print_to_timestamp(p, e));
    else
        TRY(print_time(p, e->args[0]));
    buf_str(p->out, ")) AS BIGINT)");
    return ERR_OK;
}

static enum err_code print_to_date(struct printer *p, const struct expr *e)
{
    if (e->args_count == 1 && is_number(&e->args[0]->type))
        return print_template(p, e, "(DATE '1970-01-01' + $s1)");
    buf_str(p->out, "CAST(");
    if (e->args_count > 1)
        TRY(print_to_timestamp(p, e));
    else
        TRY(print_expr(p, e->args[0]));
    buf_str(p->out, " AS DATE)");
    return ERR_OK;
}

/* ---- types */

static enum err_code print_arrow_cast(struct printer *p, const struct expr *e)
{
    struct expr cast = {.kind = E_CAST, .args = e->args, .args_count = 1, .cast_to = e->type};
    if (e->type.kind == D_UNKNOWN || e->type.kind == D_DURATION)
        return gate_invalid(p->err, "arrow_cast: unsupported type");
    return print_cast(p, &cast);
}

static enum err_code print_arrow_typeof(struct printer *p, const struct expr *e)
{
    struct buf name = BUF_INIT;
    if (e->args[0]->type.kind == D_UNKNOWN || e->args[0]->type.kind == D_STRUCT || e->args[0]->type.kind == D_MAP)
        return gate_invalid(p->err, "arrow_typeof: the type of this expression is not known here");
    arrow_type_print(&e->args[0]->type, &name);
    print_string(p, buf_view(&name));
    buf_done(&name);
    return ERR_OK;
}

static enum err_code print_make_array(struct printer *p, const struct expr *e)
{
    bool texts = e->type.item && e->type.item->kind == D_UTF8, floats = e->type.item && e->type.item->kind == D_FLOAT;
    buf_str(p->out, "list_value(");
    for (size_t i = 0; i < e->args_count; i++) {
        buf_str(p->out, i ? ", " : "");
        if (texts && e->args[i]->type.kind != D_NULL)
            TRY(print_text(p, e->args[i]));
        else if (floats && e->args[i]->type.kind != D_NULL)
            TRY(print_as(p, e->args[i], "DOUBLE"));
        else
            TRY(print_expr(p, e->args[i]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_struct(struct printer *p, const struct expr *e) /* struct(a, b), row(a, b) */
{
    buf_str(p->out, "struct_pack(");
    for (size_t i = 0; i < e->args_count; i++) {
        buf_fmt(p->out, "%sc%zu := ", i ? ", " : "", i);
        TRY(print_expr(p, e->args[i]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_named_struct(struct printer *p, const struct expr *e)
{
    if (e->args_count % 2)
        return gate_invalid(p->err, "named_struct requires an even number of arguments");
    buf_str(p->out, "struct_pack(");
    for (size_t i = 0; i < e->args_count; i += 2) {
        if (!is_literal(e->args[i], D_UTF8) || e->args[i]->text.len == 0)
            return gate_invalid(p->err, "named_struct requires non-empty string literals as names");
        for (size_t k = 0; k < i; k += 2)
            if (slice_eq_nocase(e->args[i]->text, e->args[k]->text))
                return gate_invalid(p->err, "named_struct: two fields of one name (case does not count here)");
        buf_str(p->out, i ? ", " : "");
        print_ident(p, e->args[i]->text);
        buf_str(p->out, " := ");
        TRY(print_expr(p, e->args[i + 1]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_get_field(struct printer *p, const struct expr *e)
{
    struct expr index = {.kind = E_INDEX, .args = e->args, .args_count = 2};
    if (!is_literal(e->args[1], D_UTF8))
        return gate_invalid(p->err, "get_field requires a string literal");
    return print_expr(p, &index);
}

static enum err_code print_array_sort(struct printer *p, const struct expr *e)
{
    bool desc = false, first = true; /* DataFusion's array_sort puts nulls first unless told */
    for (size_t i = 1; i < e->args_count; i++) {
        if (!is_literal(e->args[i], D_UTF8))
            return gate_invalid(p->err, "array_sort: the order must be a literal");
        if (i == 1)
            desc = slice_eq_nocase(e->args[i]->text, slice_lit("desc"));
        else
            first = slice_eq_nocase(e->args[i]->text, slice_lit("nulls first"));
    }
    buf_str(p->out, "list_sort(");
    TRY(print_expr(p, e->args[0]));
    buf_fmt(p->out, ", '%s', '%s')", desc ? "DESC" : "ASC", first ? "NULLS FIRST" : "NULLS LAST");
    return ERR_OK;
}

static enum err_code print_array_concat(struct printer *p, const struct expr *e)
{
    for (size_t i = 0; i + 1 < e->args_count; i++)
        buf_str(p->out, "list_concat(");
    TRY(print_expr(p, e->args[0]));
    for (size_t i = 1; i < e->args_count; i++) {
        buf_str(p->out, ", ");
        TRY(print_expr(p, e->args[i]));
        buf_byte(p->out, ')');
    }
    return ERR_OK;
}

static enum err_code print_unnest(struct printer *p, const struct expr *e)
{
    if (e->args[0]->type.kind != D_LIST && e->args[0]->type.kind != D_UNKNOWN)
        return gate_invalid(p->err, "unnest takes a list");
    return print_template(p, e, "unnest($1)");
}

#define X(name, min, max, ret, fn)              \
    {                                           \
        name, F_SCALAR, min, max, ret, NULL, fn \
    }
const struct func func_special[] = {
    X("repeat", 2, 2, R_UTF8, print_repeat),
    X("lpad", 2, 3, R_UTF8, print_pad),
    X("rpad", 2, 3, R_UTF8, print_pad),
    X("replace", 3, 3, R_UTF8, print_replace),
    X("range", 1, 3, R_LIST1, print_range),
    X("generate_series", 1, 3, R_LIST1, print_range),
    X("array_repeat", 2, 2, R_LIST1, print_array_repeat),
    X("list_repeat", 2, 2, R_LIST1, print_array_repeat),
    X("array_resize", 2, 3, R_ARG1, print_array_resize),
    X("list_resize", 2, 3, R_ARG1, print_array_resize),
    X("substr", 2, 3, R_UTF8, print_substr),
    X("substring", 2, 3, R_UTF8, print_substr),
    X("substr_index", 3, 3, R_UTF8, print_substr_index),
    X("substring_index", 3, 3, R_UTF8, print_substr_index),
    X("encode", 2, 2, R_UTF8, print_code),
    X("decode", 2, 2, R_BINARY, print_code),
    X("digest", 2, 2, R_BINARY, print_digest),
    X("coalesce", 1, 255, R_COMMON, print_common),
    X("nvl", 2, 2, R_COMMON, print_common),
    X("ifnull", 2, 2, R_COMMON, print_common),
    X("greatest", 1, 255, R_COMMON, print_common),
    X("least", 1, 255, R_COMMON, print_common),
    X("regexp_like", 2, 3, R_BOOL, print_regexp_like),
    X("regexp_match", 2, 3, R_LIST_UTF8, print_regexp_match),
    X("regexp_count", 2, 4, R_I64, print_regexp_count),
    X("regexp_replace", 3, 4, R_UTF8, print_regexp_replace),
    X("date_part", 2, 2, R_I32, print_date_part),
    X("datepart", 2, 2, R_I32, print_date_part),
    X("date_trunc", 2, 2, R_TRUNC, print_date_trunc),
    X("datetrunc", 2, 2, R_TRUNC, print_date_trunc),
    X("date_bin", 2, 3, R_TRUNC, print_date_bin),
    X("to_char", 2, 2, R_UTF8, print_to_char),
    X("date_format", 2, 2, R_UTF8, print_to_char),
    X("to_timestamp", 1, 20, R_TS_NS, print_to_timestamp),
    X("to_timestamp_seconds", 1, 20, R_TS_S, print_to_timestamp),
    X("to_timestamp_millis", 1, 20, R_TS_MS, print_to_timestamp),
    X("to_timestamp_micros", 1, 20, R_TS_US, print_to_timestamp),
    X("to_timestamp_nanos", 1, 20, R_TS_NS, print_to_timestamp),
    X("to_unixtime", 1, 20, R_I64, print_to_unixtime),
    X("to_date", 1, 20, R_DATE, print_to_date),
    X("arrow_cast", 2, 2, R_CAST, print_arrow_cast),
    X("arrow_typeof", 1, 1, R_UTF8, print_arrow_typeof),
    X("make_array", 0, 255, R_LIST_COMMON, print_make_array),
    X("make_list", 0, 255, R_LIST_COMMON, print_make_array),
    X("struct", 1, 255, R_STRUCT, print_struct),
    X("row", 1, 255, R_STRUCT, print_struct),
    X("named_struct", 2, 255, R_STRUCT, print_named_struct),
    X("get_field", 2, 2, R_UNKNOWN, print_get_field),
    X("array_sort", 1, 3, R_ARG1, print_array_sort),
    X("list_sort", 1, 3, R_ARG1, print_array_sort),
    X("array_concat", 1, 255, R_ARG1, print_array_concat),
    X("array_cat", 1, 255, R_ARG1, print_array_concat),
    X("list_concat", 1, 255, R_ARG1, print_array_concat),
    X("list_cat", 1, 255, R_ARG1, print_array_concat),
    X("unnest", 1, 1, R_ITEM1, print_unnest),
};
const size_t func_special_count = ARRAY_LEN(func_special);

/* ---- aggregates and windows */

static enum err_code frame_bound(struct printer *p, enum bound_kind kind, const struct expr *value)
{
    static const char *const words[] = {"UNBOUNDED PRECEDING", " PRECEDING", "CURRENT ROW", " FOLLOWING",
                                        "UNBOUNDED FOLLOWING"};
    if (kind == B_PRECEDING || kind == B_FOLLOWING)
        TRY(print_expr(p, value));
    buf_str(p->out, words[kind]);
    return ERR_OK;
}

static enum err_code print_over(struct printer *p, const struct window *w)
{
    buf_str(p->out, " OVER (");
    for (size_t i = 0; i < w->partition_count; i++) {
        buf_str(p->out, i ? ", " : "PARTITION BY ");
        TRY(print_bare(p, w->partition[i]));
    }
    if (w->order_count) {
        buf_str(p->out, w->partition_count ? " ORDER BY " : "ORDER BY ");
        TRY(print_sorts(p, w->order, w->order_count));
    }
    if (w->has_frame) {
        buf_fmt(p->out, " %s BETWEEN ", w->units);
        TRY(frame_bound(p, w->from, w->from_expr));
        buf_str(p->out, " AND ");
        TRY(frame_bound(p, w->to, w->to_expr));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code call_end(struct printer *p, const struct expr *e, bool order)
{
    if (order && e->order_count && !e->within_group) {
        buf_str(p->out, " ORDER BY ");
        TRY(print_sorts(p, e->order, e->order_count));
    }
    if (e->ignore_nulls)
        buf_str(p->out, " IGNORE NULLS");
    buf_byte(p->out, ')');
    if (e->filter) {
        buf_str(p->out, " FILTER (WHERE ");
        TRY(print_expr(p, e->filter));
        buf_byte(p->out, ')');
    }
    return e->over ? print_over(p, e->over) : ERR_OK;
}

static enum err_code print_quantile(struct printer *p, const struct expr *e)
{
    const struct expr *value = e->args[0], *at = e->args_count > 1 ? e->args[1] : NULL;
    bool desc = false, median = slice_is(e->text, "approx_median");

    if (e->within_group) {
        if (e->order_count != 1)
            return gate_invalid(p->err, "WITHIN GROUP takes one expression here");
        at = e->args[0];
        value = e->order[0].expr;
        desc = e->order[0].desc;
    }
    if (!median && (!at || at->kind != E_LITERAL || !is_number(&at->type)))
        return gate_invalid(p->err, "Percentile value for '" SLICE_FMT "' must be a literal", SLICE_ARG(e->text));
    double q = median ? 0.5 : at->type.kind == D_FLOAT ? at->fval : (double)at->ival;
    if (!(q >= 0 && q <= 1))
        return gate_invalid(p->err, "Percentile value must be between 0.0 and 1.0 inclusive, %g is invalid", q);
    if (e->distinct)
        return gate_invalid(p->err, "DISTINCT does not apply to percentiles");
    bool exact = slice_is(e->text, "percentile_cont") || slice_is(e->text, "quantile_cont");
    bool round = is_integer(&e->type);
    buf_str(p->out, round ? "CAST(" : "");
    buf_str(p->out, exact ? "quantile_cont(" : "approx_quantile(");
    TRY(print_as(p, value, "DOUBLE"));
    buf_fmt(p->out, ", %.17g", desc ? 1 - q : q);
    TRY(call_end(p, e, false));
    if (round) {
        buf_str(p->out, " AS ");
        print_type(p, &e->type);
        buf_byte(p->out, ')');
    }
    return ERR_OK;
}

static enum err_code aggregate_arguments(struct printer *p, const struct expr *e)
{
    bool any_type = slice_is(e->text, "count") || slice_is(e->text, "approx_distinct") || slice_is(e->text, "min") ||
                    slice_is(e->text, "max");
    const char *name = e->func->emit;
    static const char *const doubles[] = {"avg",     "stddev_samp", "stddev_pop", "var_samp",
                                          "var_pop", "corr",        "covar_samp", "covar_pop"};
    bool as_double = !strncmp(name, "regr_", 5);
    for (size_t i = 0; i < ARRAY_LEN(doubles); i++)
        as_double |= !strcmp(name, doubles[i]);
    if (e->distinct || slice_is(e->text, "approx_distinct"))
        buf_str(p->out, "DISTINCT ");
    for (size_t i = 0; i < e->args_count; i++) {
        const struct expr *x = e->args[i];
        buf_str(p->out, i ? ", " : "");
        if (x->kind == E_STAR)
            buf_byte(p->out, '*');
        else if (!strcmp(name, "string_agg"))
            TRY(print_text(p, x));
        else if (as_double)
            TRY(print_as(p, x, "DOUBLE"));
        else if (any_type)
            TRY(print_bare(p, x));
        else
            TRY(print_expr(p, x));
    }
    return ERR_OK;
}

static enum err_code print_aggregate(struct printer *p, const struct expr *e)
{
    const char *name = e->func->emit, *after = "";
    bool extreme = slice_is(e->text, "min") || slice_is(e->text, "max");

    if (!strcmp(name, "quantile"))
        return print_quantile(p, e);
    if (e->within_group)
        return gate_invalid(p->err, "WITHIN GROUP does not apply to '" SLICE_FMT "'", SLICE_ARG(e->text));
    if (!e->over && !strcmp(name, "nth_value")) { /* an aggregate in DataFusion */
        if (!is_literal(e->args[1], D_INT) || e->distinct)
            return gate_invalid(p->err, "nth_value: the position must be a literal");
        TRY(print_template(p, e, "list_extract(array_agg($1"));
        TRY(call_end(p, e, true));
        buf_fmt(p->out, ", %lld)", (long long)e->args[1]->ival);
        return ERR_OK;
    }
    if (e->ignore_nulls && !e->over) {
        if (strcmp(name, "first") != 0)
            return gate_invalid(p->err, "IGNORE NULLS is supported for first_value and for window functions only");
        TRY(print_template(p, e, "any_value($1"));
        struct expr plain = *e;
        plain.ignore_nulls = false;
        return call_end(p, &plain, true);
    }
    if (e->over && (e->distinct || e->order_count) && slice_is(e->text, "count") == false && e->distinct)
        return gate_invalid(p->err, "DISTINCT in a window is supported for count only");
    if (slice_is(e->text, "sum") && is_integer(&e->type)) {
        buf_str(p->out, "CAST(");
        after = e->type.kind == D_UINT ? " AS UBIGINT)" : " AS BIGINT)";
    } else if (slice_is(e->text, "median") &&
               is_integer(&e->type)) { /* of an even number: the middle, without a fraction */
        buf_str(p->out, "CAST(trunc(");
        after = e->type.kind == D_UINT ? ") AS UBIGINT)" : ") AS BIGINT)";
    } else if (extreme && expr_is_bare(e->args[0])) {
        buf_str(p->out, "make_timestamp(epoch_us(");
        after = "))";
    }
    if (e->over && (!strcmp(name, "first") || !strcmp(name, "last")))
        buf_fmt(p->out, "%s_value(", name);
    else
        buf_fmt(p->out, "%s(", name);
    TRY(aggregate_arguments(p, e));
    if (e->args_count == 0 && !strcmp(name, "count"))
        buf_byte(p->out, '*');
    TRY(call_end(p, e, true));
    buf_str(p->out, after);
    return ERR_OK;
}

enum err_code print_call(struct printer *p, const struct expr *e)
{
    if (e->func->kind != F_SCALAR)
        return print_aggregate(p, e);
    if (e->func->print)
        return e->func->print(p, e);
    const char *form = form_of(e->func, e->args_count);
    bool open = form[0] == 'C' && !strncmp(form, "CASE", 4);
    buf_str(p->out, open ? "(" : "");
    TRY(print_template(p, e, form));
    buf_str(p->out, open ? ")" : "");
    return ERR_OK;
}
