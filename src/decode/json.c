/* json.c: the body, its records, and the fast way through a record: no tree, no hashing, one look at every byte. */
#include "decode/json_int.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_BLOCK_BYTES_MAX (256u << 10)
#define INLINE_TEXT_BYTES 12u

struct decoder *decoder_new(void)
{
    return mem_zalloc(sizeof(struct decoder));
}

void decoder_free(struct decoder *d)
{
    if (!d)
        return;
    keys_reset(d);
    arena_done(&d->tree);
    json_reader_done(&d->reader);
    schema_unref(d->hint);
    free(d);
}

bool decoder_malformed(const struct decoder *d)
{
    return d->malformed;
}

uint32_t decoded_rows(const struct decoded *d)
{
    return d->batch->rows;
}

void decoded_free(struct decoded *d)
{
    if (!d)
        return;
    free(d->entries);
    free(d->lists);
    free(d->record_of_row);
    batch_unref(d->batch);
    free(d);
}

enum step refuse(struct decoder *d, enum err_code code, const char *fmt, ...)
{
    char text[sizeof(d->err.msg) - 40];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_set(&d->err, code, "%s (row %u)", text, d->record + 1);
    return STEP_REFUSED;
}

/* -- cells ----------------------------------------------------------------------------------------------------------- */

static uint64_t row_width(const struct batch *b)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->columns_count; i++)
        sum += type_width(b->columns[i]->type) + 1;
    return sum;
}

static bool over_budget(struct decoder *d, uint64_t bytes)
{
    if (!d->opt->bytes_max || bytes <= d->opt->bytes_max)
        return false;
    (void)refuse(d, ERR_LIMIT, "request is larger than %llu bytes as columns", (unsigned long long)d->opt->bytes_max);
    return true;
}

struct column *cell_column_new(struct decoder *d, struct entry *e, enum cell_class class)
{
    static const struct type types[CELL_CLASSES] = {
        [CELL_NUMBER] = {TYPE_FLOAT64, TYPE_NULL}, [CELL_TEXT] = {TYPE_UTF8, TYPE_NULL},
        [CELL_BOOL] = {TYPE_BOOL, TYPE_NULL},      [CELL_TIME] = {TYPE_TIMESTAMP, TYPE_NULL},
        [CELL_LIST] = {TYPE_LIST, TYPE_NULL},
    };
    struct batch *b = d->out->batch;
    bool first = true;

    for (size_t i = 0; i < CELL_CLASSES; i++)
        first = first && !e->cells[i];
    if (first && d->opt->columns_max && ++d->columns > d->opt->columns_max) {
        (void)refuse(d, ERR_INVALID, "request has more than %u columns", d->opt->columns_max);
        return NULL;
    }
    if (over_budget(d, b->bytes + (uint64_t)b->rows_cap * (type_width(types[class]) + 1)))
        return NULL;
    return e->cells[class] = batch_add(b, FIELD_NONE, types[class]);
}

/* A new block for text, with room for `len` bytes. */
static void text_block(struct decoder *d, size_t len)
{
    /* no body holds more text than it has bytes left (counting this one, which was read already) */
    size_t left = (size_t)(d->reader.end - d->reader.at) + len + 64, size = MIN(left, TEXT_BLOCK_BYTES_MAX);

    d->text_at = arena_alloc(&d->out->batch->arena, size);
    d->text_end = d->text_at + size;
}

/* Are `len` bytes from s on readable because they lie in the body? */
static inline bool in_body(const struct decoder *d, slice s, size_t len)
{
    uintptr_t from = (uintptr_t)d->reader.start, end = (uintptr_t)d->reader.end, at = (uintptr_t)s.ptr;
    return at >= from && at <= end && end - at >= len;
}

struct text keep_text(struct decoder *d, slice s)
{
    uint8_t *to = d->text_at;

    if (s.len <= INLINE_TEXT_BYTES) {
#ifdef __SSE2__
        static const uint8_t mask[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
        if (in_body(d, s, 16)) {
            __m128i v = _mm_and_si128(_mm_loadu_si128((const __m128i *)(const void *)s.ptr),
                                      _mm_loadu_si128((const __m128i *)(const void *)(mask + 16 - s.len)));
            struct text t;
            v = _mm_or_si128(_mm_slli_si128(v, 4), _mm_cvtsi32_si128((int)s.len));
            _mm_storeu_si128((__m128i *)(void *)&t, v);
            return t;
        }
#endif
        return text_of(s);
    }
    if (__builtin_expect(s.len > TEXT_BLOCK_BYTES_MAX / 4, 0))
        return text_of(arena_copy(&d->out->batch->arena, s));
    if ((size_t)(d->text_end - to) < s.len + 32) {
        text_block(d, s.len);
        to = d->text_at;
    }
#ifdef __SSE2__
    if (in_body(d, s, s.len + 32)) {
        for (size_t i = 0; i < s.len; i += 32) { /* may copy up to 31 bytes too many: there is room */
            _mm_storeu_si128((__m128i *)(void *)(to + i), _mm_loadu_si128((const __m128i *)(const void *)(s.ptr + i)));
            _mm_storeu_si128((__m128i *)(void *)(to + i + 16),
                             _mm_loadu_si128((const __m128i *)(const void *)(s.ptr + i + 16)));
        }
    } else
#endif
        memcpy(to, s.ptr, s.len);
    d->text_at = to + s.len;
    return text_of((slice){to, s.len});
}

bool put_number(struct decoder *d, struct entry *e, struct json_number n)
{
    struct column *c = cell_column(d, e, CELL_NUMBER);
    uint32_t row = d->out->batch->rows;

    if (!c)
        return false;
    ((uint64_t *)c->values)[row] = n.bits;
    c->valid[row] = (uint8_t)n.kind;
    e->number_codes |= 1u << n.kind;
    return true;
}

bool put_bool(struct decoder *d, struct entry *e, bool truth)
{
    struct column *c = cell_column(d, e, CELL_BOOL);
    uint32_t row = d->out->batch->rows;

    if (!c)
        return false;
    ((uint8_t *)c->values)[row] = truth;
    c->valid[row] = 1;
    return true;
}

bool put_text(struct decoder *d, struct key *k, struct entry *e, slice s)
{
    uint32_t row = d->out->batch->rows;
    struct column *c;
    int64_t us;

    if (k->name->hint_time && instant_parse(s, false, &d->out->instants, &us)) {
        if (!(c = cell_column(d, e, CELL_TIME)))
            return false;
        ((int64_t *)c->values)[row] = us;
        c->valid[row] = s.len > 19 && s.ptr[19] == '.' ? 2 : 1;
        return true;
    }
    if (!(c = cell_column(d, e, CELL_TEXT)))
        return false;
    ((struct text *)c->values)[row] = keep_text(d, s);
    c->valid[row] = 1;
    return true;
}

/* -- rows ------------------------------------------------------------------------------------------------------------ */

/* Room for one more row. The capacity follows what the rest of the body will need if it goes on like this. */
static bool rows_reserve(struct decoder *d)
{
    struct batch *b = d->out->batch;
    uint64_t width = row_width(b), text = b->arena.bytes, want;
    uint64_t done = (uint64_t)(d->reader.at - d->reader.start), left = (uint64_t)(d->reader.end - d->reader.at);

    want = b->rows + b->rows / 2 + 1;
    if (!d->exploded && done > left / 1024)
        want = MAX(want, b->rows + left * b->rows / MAX(done, 1) * 17 / 16 + 1);
    if (d->opt->rows_max)
        want = MIN(want, (uint64_t)d->opt->rows_max);
    if (d->opt->bytes_max && text + want * width > d->opt->bytes_max)
        want = b->rows + b->rows / 4 + 1;
    if (d->opt->bytes_max && text + want * width > d->opt->bytes_max)
        want = b->rows + 1;
    if (over_budget(d, text + want * width))
        return false;
    ASSERT(b->rows < UINT32_MAX / 2); /* a body has fewer bytes than that */
    want = MIN(want, UINT32_MAX / 2);
    batch_reserve(b, (uint32_t)want);
    return true;
}

bool row_begin(struct decoder *d)
{
    struct batch *b = d->out->batch;

    d->row_stamp++;
    if (d->opt->rows_max && b->rows >= d->opt->rows_max) {
        (void)refuse(d, ERR_LIMIT, "request has more than %u rows", d->opt->rows_max);
        return false;
    }
    return b->rows < b->rows_cap || rows_reserve(d);
}

void row_end(struct decoder *d)
{
    struct decoded *out = d->out;
    uint32_t row = out->batch->rows;

    if (d->records_tracked) {
        if (row >= out->record_cap)
            mem_grow((void **)&out->record_of_row, &out->record_cap, (size_t)row + 1, sizeof(*out->record_of_row));
        out->record_of_row[row] = d->record;
    }
    out->batch->rows++;
}

/* What a half-read record left behind goes. */
static void row_undo(struct decoder *d)
{
    struct batch *b = d->out->batch;

    for (uint32_t i = 0; i < b->columns_count; i++) {
        struct column *c = b->columns[i];
        size_t width = type_width(c->type);
        if (c->valid[b->rows]) {
            c->valid[b->rows] = 0;
            memset((uint8_t *)c->values + b->rows * width, 0, width);
        }
    }
}

/* -- the fast way ---------------------------------------------------------------------------------------------------- */

/* Does the text at p begin with this key, quoted and with its colon? */
static inline bool key_here(const struct key *k, const uint8_t *p, const uint8_t *end)
{
    size_t len = k->quoted_len;

    if (len == 0 || (size_t)(end - p) < MAX(len, 16))
        return false;
#ifdef __SSE2__
    if (len <= 16) {
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)p),
                                      _mm_loadu_si128((const __m128i *)(const void *)k->quoted));
        uint32_t want = (1u << len) - 1;
        return ((uint32_t)_mm_movemask_epi8(same) & want) == want;
    }
#endif
    return memcmp(p, k->far, len) == 0;
}

/* At the first byte of a key: reads it and its colon. NULL: malformed (reader.what) or key_step(). */
static struct key *read_key(struct decoder *d, struct node *node, struct key **predicted)
{
    struct json_reader *r = &d->reader;
    struct key *k = *predicted;
    slice bytes;

    if (__builtin_expect(k != NULL, 1)) {
        if (__builtin_expect(key_here(k, r->at, r->end), 1)) {
            r->at += k->quoted_len;
            return k;
        }
        if ((k = k->next) && key_here(k, r->at, r->end)) { /* an optional field is missing: keep the longer order */
            r->at += k->quoted_len;
            return k;
        }
    }
    if (*r->at != '"') {
        json_fail_at(r, r->at, "expected a key");
        return NULL;
    }
    r->at++;
    if (!json_read_string(r, &bytes))
        return NULL;
    if (!json_more(r) || *r->at != ':') {
        json_fail_at(r, r->at, "expected ':'");
        return NULL;
    }
    r->at++;
    if ((k = node_key(d, node, bytes)))
        *predicted = k;
    return k;
}

static enum step read_object(struct decoder *d, struct node *node, unsigned depth);

/* The object under key `k`, cursor at its brace. */
static enum step read_member_object(struct decoder *d, struct key *k, unsigned depth)
{
    struct node *node;

    if (depth >= JSON_DEPTH_MAX) {
        json_fail_at(&d->reader, d->reader.at, "nested too deeply");
        return STEP_JSON;
    }
    d->reader.at++;
    if (!json_more(&d->reader)) {
        json_fail_at(&d->reader, d->reader.end, "end of text inside an object");
        return STEP_JSON;
    }
    if (*d->reader.at == '}') { /* nothing comes of it, not even a node */
        d->reader.at++;
        return STEP_OK;
    }
    if (!(node = key_object(d, k)))
        return key_step(d);
    return read_object(d, node, depth + 1);
}

static inline enum step read_scalar(struct decoder *d, struct key *k)
{
    struct json_reader *r = &d->reader;
    uint8_t c = *r->at;
    struct entry *e;

    if (c == '"') {
        slice s;
        r->at++;
        if (__builtin_expect(!json_read_string(r, &s), 0))
            return STEP_JSON;
        if (__builtin_expect(!(e = key_entry(d, k)), 0))
            return key_step(d);
        return put_text(d, k, e, s) ? STEP_OK : STEP_REFUSED;
    }
    if (c == '-' || (uint8_t)(c - '0') < 10) {
        struct json_number n;
        if (__builtin_expect(!json_read_number(r, &n), 0))
            return STEP_JSON;
        if (__builtin_expect(!(e = key_entry(d, k)), 0))
            return key_step(d);
        return put_number(d, e, n) ? STEP_OK : STEP_REFUSED;
    }
    bool null, truth;
    if (!json_read_word(r, &null, &truth))
        return STEP_JSON;
    if (!(e = key_entry(d, k)))
        return key_step(d);
    return null || put_bool(d, e, truth) ? STEP_OK : STEP_REFUSED;
}

/* At the first member of an object (there is one); ends after its brace. */
static enum step read_object(struct decoder *d, struct node *node, unsigned depth)
{
    struct json_reader *r = &d->reader;
    struct key **predicted = &node->first, *k;
    uint64_t instance = ++d->instances;
    enum step step;

    if (depth >= d->opt->flatten_level)
        d->deep = true;
    for (;;) {
        const uint8_t *from = r->at;
        if (__builtin_expect(!(k = read_key(d, node, predicted)), 0))
            return r->what ? STEP_JSON : key_step(d);
        if (__builtin_expect(k->seen == instance, 0)) {
            json_fail_at(r, from, "duplicate key in an object");
            return STEP_JSON;
        }
        k->seen = instance;
        predicted = &k->next;
        if (__builtin_expect(!json_more(r), 0)) {
            json_fail_at(r, r->end, "end of text");
            return STEP_JSON;
        }
        if (__builtin_expect(*r->at == '[', 0))
            return STEP_TREE;
        step = *r->at == '{' ? read_member_object(d, k, depth) : read_scalar(d, k);
        if (__builtin_expect(step != STEP_OK, 0))
            return step;
        if (__builtin_expect(!json_more(r), 0)) {
            json_fail_at(r, r->end, "end of text inside an object");
            return STEP_JSON;
        }
        if (*r->at == '}')
            break;
        if (__builtin_expect(*r->at != ',', 0)) {
            json_fail_at(r, r->at, "expected ',' or '}'");
            return STEP_JSON;
        }
        r->at++;
        if (__builtin_expect(!json_more(r), 0)) {
            json_fail_at(r, r->end, "end of text inside an object");
            return STEP_JSON;
        }
    }
    r->at++;
    return STEP_OK;
}

/* -- the body -------------------------------------------------------------------------------------------------------- */

static enum step read_record_fast(struct decoder *d)
{
    struct node *root = key_object(d, NULL);
    struct json_reader *r = &d->reader;
    enum step step = STEP_OK;

    if (!root)
        return key_step(d);
    if (!row_begin(d))
        return STEP_REFUSED;
    r->at++;
    if (!json_more(r)) {
        json_fail_at(r, r->end, "end of text inside an object");
        return STEP_JSON;
    }
    if (*r->at == '}')
        r->at++;
    else
        step = read_object(d, root, 1);
    if (step == STEP_OK)
        row_end(d);
    return step;
}

static enum step read_record(struct decoder *d)
{
    struct json_reader *r = &d->reader;
    const uint8_t *from = r->at;
    bool tree_last = d->tree_next;
    enum step step = STEP_TREE;

    if (*from != '{') {
        if (!json_skip(r))
            return STEP_JSON;
        return refuse(d, ERR_INVALID, "Expected object in array of objects, at byte %zu", json_offset(r, from));
    }
    d->tree_next = false;
    if (!tree_last) {
        step = read_record_fast(d);
        if (step == STEP_TREE) {
            row_undo(d);
            r->at = from;
        }
    }
    if (step == STEP_TREE)
        step = read_tree(d);
    if (step == STEP_OK && d->deep && d->exploded && d->flatten == DECODE_GENERIC)
        return STEP_DEEP;
    return step;
}

static enum step read_array_body(struct decoder *d)
{
    struct json_reader *r = &d->reader;
    enum step step;

    r->at++;
    if (!json_more(r))
        goto end;
    if (*r->at == ']') {
        r->at++;
        return STEP_OK;
    }
    for (;; d->record++) {
        if (!json_more(r))
            goto end;
        if ((step = read_record(d)) != STEP_OK)
            return step;
        if (!json_more(r))
            goto end;
        if (*r->at == ']')
            break;
        if (*r->at != ',') {
            json_fail_at(r, r->at, "expected ',' or ']'");
            return STEP_JSON;
        }
        r->at++;
    }
    r->at++;
    return STEP_OK;
end:
    json_fail_at(r, r->end, "end of text inside an array");
    return STEP_JSON;
}

static enum step read_lines(struct decoder *d)
{
    struct json_reader *r = &d->reader;
    enum step step;

    for (; json_more(r); d->record++) {
        if ((step = read_record(d)) != STEP_OK)
            return step;
        while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r'))
            r->at++;
        if (r->at < r->end && *r->at != '\n') {
            json_fail_at(r, r->at, "expected the end of the line");
            return STEP_JSON;
        }
    }
    return STEP_OK;
}

static enum step read_body(struct decoder *d)
{
    struct json_reader *r = &d->reader;
    enum step step;

    if (d->opt->newline_delimited)
        return read_lines(d);
    if (!json_more(r)) {
        json_fail_at(r, r->end, "end of text");
        return STEP_JSON;
    }
    step = *r->at == '[' ? read_array_body(d) : read_record(d);
    if (step == STEP_OK && json_more(r)) {
        json_fail_at(r, r->at, "text after the value");
        return STEP_JSON;
    }
    return step;
}

static void pass_begin(struct decoder *d, slice body, enum decode_flatten flatten)
{
    decoded_free(d->out);
    d->out = mem_zalloc(sizeof(*d->out));
    d->out->batch = batch_new(1);
    json_reader_init(&d->reader, body);
    d->err.code = ERR_OK;
    d->record = d->columns = 0;
    d->generation++;
    d->exploded_bytes = 0;
    d->flatten = flatten;
    d->deep = d->exploded = d->records_tracked = d->tree_next = false;
    d->text_at = d->text_end = NULL;
}

static void set_hint(struct decoder *d, const struct schema *hint)
{
    if (d->hint_version && d->hint == hint)
        return;
    schema_unref(d->hint);
    d->hint = hint ? schema_ref((struct schema *)hint) : NULL; /* the count is all that changes */
    d->hint_version++;
}

enum err_code decode_json(struct decoder *d, slice body, const struct decode_options *opt, const struct schema *hint,
                          struct decoded **out, struct err *err)
{
    enum decode_flatten flatten = opt->flatten;
    enum step step;

    d->opt = opt;
    d->malformed = false;
    set_hint(d, hint);
    for (bool fresh = false;;) {
        pass_begin(d, body, flatten);
        step = read_body(d);
        if (step == STEP_DEEP) {
            flatten = DECODE_OBJECTS_ONLY;
        } else if (step == STEP_KEYS && !fresh) {
            keys_reset(d); /* full of what other bodies left: this one starts with none */
            fresh = true;
        } else {
            break;
        }
    }
    if (d->keys_bytes > KEYS_BYTES_MAX / 4 && step != STEP_KEYS)
        keys_reset(d);
    arena_done(&d->tree);
    if (step == STEP_OK) {
        *out = move_ptr(d->out);
        return ERR_OK;
    }
    decoded_free(move_ptr(d->out));
    if (step == STEP_JSON) {
        d->malformed = true;
        return err_set(err, ERR_INVALID, "%s at byte %zu (row %u)", d->reader.what,
                       json_offset(&d->reader, d->reader.what_at), d->record + 1);
    }
    if (step == STEP_KEYS) {
        keys_reset(d);
        return err_set(err, ERR_INVALID, "too many different keys (row %u)", d->record + 1);
    }
    return err_set(err, d->err.code, "%s", d->err.msg);
}
