#include "codec/json_dom.h"

#include "base/map.h"

#define PAIRWISE_MAX 16u /* members up to which comparing each with each beats a table */

static bool read_value(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out);

/* Items are gathered in a growing array that is left behind in the arena at each doubling: at most as much again. */
static void *gather(struct arena *a, void *old, uint32_t count, uint32_t *cap, size_t size)
{
    void *items;

    if (count < *cap)
        return old;
    *cap = *cap ? *cap * 2 : 4;
    items = arena_alloc(a, *cap * size);
    if (count)
        memcpy(items, old, count * size);
    return items;
}

static bool distinct(struct json_reader *r, const struct json_value *object, const uint8_t *at)
{
    const struct json_member *m = object->members;

    if (object->count <= PAIRWISE_MAX) {
        for (uint32_t i = 1; i < object->count; i++)
            for (uint32_t k = 0; k < i; k++)
                if (slice_eq(m[i].key, m[k].key))
                    return json_fail_at(r, at, "duplicate key in an object");
        return true;
    }
    _cleanup_(map_done) struct map seen = MAP_INIT;
    for (uint32_t i = 0; i < object->count; i++)
        if (map_put(&seen, m[i].key, &seen))
            return json_fail_at(r, at, "duplicate key in an object");
    return true;
}

static slice keep(struct json_reader *r, struct arena *a, slice s)
{
    return s.ptr == r->scratch.ptr && s.len ? arena_copy(a, s) : s;
}

static bool read_array(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out)
{
    uint32_t cap = 0;

    r->at++;
    if (!json_more(r))
        return json_fail_at(r, r->end, "end of text inside an array");
    if (*r->at == ']') {
        r->at++;
        return true;
    }
    for (;;) {
        out->items = gather(a, out->items, out->count, &cap, sizeof(*out->items));
        if (!read_value(r, a, depth, &out->items[out->count]))
            return false;
        out->count++;
        if (!json_more(r))
            return json_fail_at(r, r->end, "end of text inside an array");
        if (*r->at == ']')
            break;
        if (*r->at != ',')
            return json_fail_at(r, r->at, "expected ',' or ']'");
        r->at++;
    }
    r->at++;
    return true;
}

static bool read_object(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out)
{
    uint32_t cap = 0;

    r->at++;
    if (!json_more(r))
        return json_fail_at(r, r->end, "end of text inside an object");
    if (*r->at == '}') {
        r->at++;
        return true;
    }
    for (;;) {
        struct json_member *m;
        out->members = gather(a, out->members, out->count, &cap, sizeof(*out->members));
        m = &out->members[out->count];
        m->tag = NULL;
        if (!json_more(r) || *r->at != '"')
            return json_fail_at(r, r->at, "expected a key");
        r->at++;
        if (!json_read_string(r, &m->key))
            return false;
        m->key = keep(r, a, m->key);
        if (!json_more(r) || *r->at != ':')
            return json_fail_at(r, r->at, "expected ':'");
        r->at++;
        if (!read_value(r, a, depth, &m->value))
            return false;
        out->count++;
        if (!json_more(r))
            return json_fail_at(r, r->end, "end of text inside an object");
        if (*r->at == '}')
            break;
        if (*r->at != ',')
            return json_fail_at(r, r->at, "expected ',' or '}'");
        r->at++;
    }
    r->at++;
    return true;
}

static bool read_value(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out)
{
    bool null;

    *out = (struct json_value){0};
    if (!json_more(r))
        return json_fail_at(r, r->end, "end of text");
    const uint8_t *from = r->at;
    switch (*from) {
    case '{':
    case '[':
        if (depth >= JSON_DEPTH_MAX)
            return json_fail_at(r, from, "nested too deeply");
        out->kind = *from == '{' ? DOM_OBJECT : DOM_ARRAY;
        if (*from == '{' ? !read_object(r, a, depth + 1, out) || !distinct(r, out, from)
                         : !read_array(r, a, depth + 1, out))
            return false;
        break;
    case '"':
        out->kind = DOM_STRING;
        r->at++;
        if (!json_read_string(r, &out->string))
            return false;
        out->string = keep(r, a, out->string);
        break;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        out->kind = DOM_NUMBER;
        if (!json_read_number(r, &out->num))
            return false;
        break;
    default:
        if (!json_read_word(r, &null, &out->truth))
            return false;
        out->kind = null ? DOM_NULL : DOM_BOOL;
    }
    out->raw = (slice){from, (size_t)(r->at - from)};
    return true;
}

bool json_dom_read(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out)
{
    return read_value(r, a, depth, out);
}

enum err_code json_dom_parse(slice text, struct arena *a, struct json_value *out, struct err *err)
{
    struct json_reader r = {0};
    bool ok;

    json_reader_init(&r, text);
    ok = json_dom_read(&r, a, 0, out);
    if (ok && json_more(&r))
        ok = json_fail_at(&r, r.at, "text after the value");
    json_reader_done(&r);
    if (ok)
        return ERR_OK;
    return err_set(err, ERR_INVALID, "%s at byte %zu", r.what, json_offset(&r, r.what_at));
}

const struct json_value *json_dom_get(const struct json_value *object, const char *key)
{
    if (object->kind != DOM_OBJECT)
        return NULL;
    for (uint32_t i = 0; i < object->count; i++)
        if (slice_eq(object->members[i].key, slice_str(key)))
            return &object->members[i].value;
    return NULL;
}
