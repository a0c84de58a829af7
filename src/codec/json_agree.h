/* json_agree.h: for tests: does our reader say of a text what jansson says? Two readers that never saw each other. */
#pragma once
#include <jansson.h>
#include <math.h>

#include "codec/json_dom.h"

static inline uint64_t double_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, 8);
    return bits;
}

static inline bool agree_value(const struct json_value *v, const json_t *t)
{
    switch ((enum dom_kind)v->kind) {
    case DOM_NULL: return json_is_null(t);
    case DOM_BOOL: return json_is_boolean(t) && v->truth == json_is_true(t);
    case DOM_NUMBER: {
        double d = v->num.kind == JSON_INT ? (double)v->num.i : v->num.kind == JSON_UINT ? (double)v->num.u : v->num.d;
        return json_is_real(t) && double_bits(d) == double_bits(json_real_value(t));
    }
    case DOM_STRING:
        return json_is_string(t) && slice_eq(v->string, slice_of(json_string_value(t), json_string_length(t)));
    case DOM_ARRAY:
        if (!json_is_array(t) || json_array_size(t) != v->count)
            return false;
        for (uint32_t i = 0; i < v->count; i++)
            if (!agree_value(&v->items[i], json_array_get(t, i)))
                return false;
        return true;
    case DOM_OBJECT:
        if (!json_is_object(t) || json_object_size(t) != v->count)
            return false;
        for (uint32_t i = 0; i < v->count; i++) {
            const struct json_member *m = &v->members[i];
            const json_t *other = json_object_getn(t, (const char *)m->key.ptr, m->key.len);
            if (!other || !agree_value(&m->value, other))
                return false;
        }
        return true;
    }
    return false;
}

/* Both refuse, or both accept and mean the same. Left out is what the other reader limits in another way: our depth, its
 * keys with a zero byte. json_skip() must say the same but for duplicate keys. */
static inline bool readers_agree(slice text)
{
    struct arena arena = ARENA_INIT;
    struct json_reader r = {0};
    struct json_value v;
    struct err err = {0};
    json_error_t why;
    bool ok = json_dom_parse(text, &arena, &v, &err) == ERR_OK, skipped, agreed;
    json_t *t = json_loadb((const char *)text.ptr, text.len,
                           JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &why);

    if (text.len && memchr(text.ptr, 0, text.len)) { /* never JSON; the other reader overlooks some */
        json_decref(t);
        arena_done(&arena);
        return !ok;
    }
    json_reader_init(&r, text);
    skipped = json_skip(&r) && !json_more(&r);
    if (ok)
        agreed = t ? agree_value(&v, t) : json_error_code(&why) == json_error_null_byte_in_key;
    else
        agreed = !t || strstr(err.msg, "too deeply");
    agreed = agreed && (skipped == ok || (skipped && strstr(err.msg, "duplicate")));
    json_decref(t);
    json_reader_done(&r);
    arena_done(&arena);
    return agreed;
}
