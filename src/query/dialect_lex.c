/* dialect_lex.c: text of the users' dialect -> tokens, as sqlparser's generic dialect splits it: nested comments, '' and "" doubled,
 * back-ticks as double quotes, E'' with backslash escapes, $tag$ quotes, unquoted words in lower case (ASCII only: what
 * DataFusion folds). Every byte of the statement is in one token, a comment or white space; nothing is guessed. */
#include <ctype.h>

#include "query/dialect_ast.h"

#include "base/banned.h"

struct lexer {
    slice sql;
    size_t at, line, line_start;
    uint8_t *text; /* room for all unescaped text: together never longer than the statement */
    struct err *err;
};

void *dialect_grow(struct arena *a, void *old, size_t count, size_t *cap, size_t item)
{
    size_t next = *cap ? *cap * 2 : 4;
    void *p = arena_alloc(a, next * item);
    if (count)
        memcpy(p, old, count * item);
    *cap = next;
    return p;
}

static int peek(const struct lexer *l, size_t ahead)
{
    return l->at + ahead < l->sql.len ? l->sql.ptr[l->at + ahead] : -1;
}

static void step(struct lexer *l)
{
    if (l->sql.ptr[l->at] == '\n') {
        l->line++;
        l->line_start = l->at + 1;
    }
    l->at++;
}

static enum err_code fail(struct lexer *l, const char *what)
{
    return err_set(l->err, ERR_INVALID, "Error: SQL error: TokenizerError(\"%s at Line: %zu, Column: %zu\")", what,
                   l->line, l->at - l->line_start + 1);
}

static bool word_start(int c)
{
    return c >= 0x80 || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool word_part(int c)
{
    return word_start(c) || digit(c) || c == '$';
}

static enum err_code skip_blank(struct lexer *l)
{
    for (;;) {
        int c = peek(l, 0);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
            step(l);
        } else if (c == '-' && peek(l, 1) == '-') {
            while (peek(l, 0) >= 0 && peek(l, 0) != '\n')
                step(l);
        } else if (c == '/' && peek(l, 1) == '*') {
            unsigned depth = 0;
            do {
                if (peek(l, 0) < 0)
                    return fail(l, "Unexpected EOF while in a multi-line comment");
                if (peek(l, 0) == '/' && peek(l, 1) == '*') {
                    depth++;
                    step(l);
                } else if (peek(l, 0) == '*' && peek(l, 1) == '/') {
                    depth--;
                    step(l);
                }
                step(l);
            } while (depth);
        } else {
            return ERR_OK;
        }
    }
}

/* From the opening quote to the closing one; a doubled quote stands for itself. */
static enum err_code quoted(struct lexer *l, int quote, slice *out)
{
    uint8_t *to = l->text;
    size_t n = 0;

    step(l);
    for (;;) {
        int c = peek(l, 0);
        if (c < 0)
            return fail(l, quote == '\'' ? "Unterminated string literal" : "Expected close delimiter before EOF");
        step(l);
        if (c == quote) {
            if (peek(l, 0) != quote)
                break;
            step(l);
        }
        to[n++] = (uint8_t)c;
    }
    *out = slice_of(to, n);
    l->text += n;
    return ERR_OK;
}

static enum err_code escaped(struct lexer *l, slice *out) /* E'...' */
{
    uint8_t *to = l->text;
    size_t n = 0;

    step(l);
    for (;;) {
        int c = peek(l, 0);
        if (c < 0)
            return fail(l, "Unterminated encoded string literal");
        step(l);
        if (c == '\'') {
            if (peek(l, 0) != '\'')
                break;
            step(l);
        } else if (c == '\\') {
            c = peek(l, 0);
            if (c < 0)
                return fail(l, "Unterminated encoded string literal");
            step(l);
            static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
            const char *known = strchr(from, c);
            if (known && c)
                c = (uint8_t)into[known - from];
            else if (c != '\\' && c != '\'' && c != '"')
                return fail(l, "Unsupported escape in an encoded string literal");
        }
        to[n++] = (uint8_t)c;
    }
    *out = slice_of(to, n);
    l->text += n;
    return ERR_OK;
}

static enum err_code dollar(struct lexer *l, struct token *t)
{
    size_t tag = 1;
    while (peek(l, tag) >= 0 && (word_start(peek(l, tag)) || digit(peek(l, tag))))
        tag++;
    if (peek(l, tag) != '$') { /* $1: a parameter */
        t->kind = TK_PARAM;
        l->at += tag;
        return ERR_OK;
    }
    slice fence = slice_of(l->sql.ptr + l->at, tag + 1);
    for (size_t i = l->at + fence.len; i + fence.len <= l->sql.len; i++)
        if (memcmp(l->sql.ptr + i, fence.ptr, fence.len) == 0) {
            t->kind = TK_STRING;
            t->text = slice_of(l->sql.ptr + l->at + fence.len, i - l->at - fence.len);
            while (l->at < i + fence.len)
                step(l);
            return ERR_OK;
        }
    return fail(l, "Unterminated dollar-quoted string");
}

static void number(struct lexer *l, struct token *t)
{
    t->kind = TK_NUMBER;
    while (digit(peek(l, 0)))
        l->at++;
    if (peek(l, 0) == '.') {
        l->at++;
        while (digit(peek(l, 0)))
            l->at++;
    }
    int c = peek(l, 0);
    if (c == 'e' || c == 'E') {
        size_t sign = peek(l, 1) == '+' || peek(l, 1) == '-' ? 2 : 1;
        if (digit(peek(l, sign))) {
            l->at += sign;
            while (digit(peek(l, 0)))
                l->at++;
        }
    }
}

/* Longest first. `->` and kin are tokens so that the parser can refuse them by name. */
/* clang-format off */
static const char *const operators[] = {
    "!~~*", "->>", "!~*", "!~~", "~~*", "<=>", "#>>", "::", "||", "<=", ">=", "<>", "!=", "==", "<<", ">>", "!~", "~*", "~~",
    "->",   "=>",  "@>",  "<@",  "&&",  ":=",  "#>",  "+",  "-",  "*",  "/",  "%",  "=",  "<",  ">",  "(",  ")",  "[",  "]",
    "{",    "}",   ",",   ";",   ".",   ":",   "|",   "&",  "^",  "~",  "#",  "?",  "!",  "@",
};
/* clang-format on */

static enum err_code one(struct lexer *l, struct token *t)
{
    int c = peek(l, 0);

    if (c == '\'') {
        t->kind = TK_STRING;
        return quoted(l, c, &t->text);
    }
    if (c == '"' || c == '`') {
        t->kind = TK_QUOTED;
        return quoted(l, c, &t->text);
    }
    if ((c == 'E' || c == 'e' || c == 'N' || c == 'n' || c == 'X' || c == 'x') && peek(l, 1) == '\'') {
        l->at++;
        t->kind = c == 'X' || c == 'x' ? TK_HEX : TK_STRING;
        return c == 'E' || c == 'e' ? escaped(l, &t->text) : quoted(l, '\'', &t->text);
    }
    if ((c == 'U' || c == 'u') && peek(l, 1) == '&' && (peek(l, 2) == '\'' || peek(l, 2) == '"'))
        return fail(l, "Unicode escapes (U&) are not supported");
    if (c == '$')
        return dollar(l, t);
    if (digit(c) || (c == '.' && digit(peek(l, 1)))) {
        number(l, t);
        return ERR_OK;
    }
    if (word_start(c)) {
        t->kind = TK_WORD;
        uint8_t *lower = l->text;
        for (; word_part(c = peek(l, 0)); l->at++)
            *l->text++ = (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        t->text = slice_of(lower, (size_t)(l->text - lower));
        return ERR_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        size_t n = strlen(operators[i]);
        if (l->sql.len - l->at >= n && memcmp(l->sql.ptr + l->at, operators[i], n) == 0) {
            t->kind = TK_OP;
            l->at += n;
            return ERR_OK;
        }
    }
    return fail(l, "Unexpected character");
}

enum err_code dialect_lex(slice sql, struct arena *a, struct token **out, size_t *count, struct err *err)
{
    struct lexer l = {.sql = sql, .line = 1, .text = arena_alloc(a, sql.len + 1), .err = err};
    size_t cap = 0;

    *out = NULL;
    *count = 0;
    if (sql.len &&
        memchr(sql.ptr, 0, sql.len)) { /* the engine would take it for the statement's end, in a literal too */
        while (peek(&l, 0) != 0)
            step(&l);
        return fail(&l, "Unexpected byte 0");
    }
    for (;;) {
        TRY(skip_blank(&l));
        struct token *t = APUSH(a, *out, *count, cap);
        size_t start = l.at;
        t->line = l.line;
        t->column = l.at - l.line_start + 1;
        if (l.at == sql.len)
            return ERR_OK; /* TK_END is 0 */
        TRY(one(&l, t));
        t->raw = slice_of(sql.ptr + start, l.at - start);
        if (t->kind == TK_OP || t->kind == TK_NUMBER)
            t->text = t->raw;
    }
}
