/* json_model.h: for tests: contract 2.3 done the slow and obvious way with jansson, to compare the decoder's cells with. Objects
 * explode by building every row; a body that is too deep for that is left to other tests. */
#pragma once
#include <jansson.h>

#include "codec/json_agree.h"
#include "decode/json_int.h"

#define MODEL_ROWS_MAX 300u

struct model {
    json_t *rows; /* array of flat objects */
    uint32_t level;
    bool refused, too_many, deep, arrays;
};

static inline void model_look(struct model *m, json_t *v, uint32_t depth)
{
    const char *key;
    json_t *one;
    size_t i;

    if (json_is_array(v)) {
        m->arrays = m->arrays || (depth && json_array_size(v)); /* not the array of records */
        json_array_foreach (v, i, one)
            model_look(m, one, depth);
    } else if (json_is_object(v)) {
        m->deep = m->deep || (json_object_size(v) && depth + 1 >= m->level);
        json_object_foreach (v, key, one)
            model_look(m, one, depth + 1);
    }
}

/* A new array of what `v` becomes in each of its rows. */
static inline json_t *model_expand(struct model *m, json_t *v)
{
    json_t *out = json_array(), *one;
    const char *key;
    size_t i;

    if (json_is_array(v) && json_array_size(v)) {
        json_array_foreach (v, i, one) {
            json_t *rows = model_expand(m, one);
            bool nothing = json_array_size(rows) == 1 && json_is_array(json_array_get(rows, 0)) && json_is_array(one);
            if (!nothing)
                json_array_extend(out, rows);
            json_decref(rows);
        }
        if (json_array_size(out) == 0)
            json_array_append_new(out, json_array());
    } else if (json_is_object(v)) {
        json_array_append_new(out, json_object());
        json_object_foreach (v, key, one) {
            json_t *values = model_expand(m, one), *next = json_array(), *value, *row;
            size_t k;
            if (json_array_size(values) * json_array_size(out) > MODEL_ROWS_MAX) {
                m->too_many = true;
                json_decref(values);
                json_decref(next);
                break;
            }
            json_array_foreach (values, i, value)
                json_array_foreach (out, k, row) {
                    json_t *copy = json_copy(row);
                    json_object_set(copy, key, value);
                    json_array_append_new(next, copy);
                }
            json_decref(values);
            json_decref(out);
            out = next;
        }
    } else {
        json_array_append(out, v);
    }
    if (json_array_size(out) > MODEL_ROWS_MAX) {
        m->too_many = true;
        json_array_clear(out); /* of no use, and it would multiply */
    }
    return out;
}

static inline void model_flatten(struct model *m, json_t *v, slice prefix, json_t *out, json_t *ats)
{
    const char *key;
    json_t *one;

    json_object_foreach (v, key, one) {
        struct buf name = BUF_INIT;
        buf_slice(&name, prefix);
        buf_str(&name, key);
        if (json_is_object(one)) {
            buf_byte(&name, '_');
            model_flatten(m, one, buf_view(&name), out, ats);
        } else {
            bool at = name.len && name.ptr[0] == '@';
            if (at)
                name.ptr[0] = '_';
            const json_t *before = json_object_get(ats, buf_cstr(&name));
            if (before && json_is_true(before) != at)
                m->refused = true;
            json_object_set_new(ats, buf_cstr(&name), json_boolean(at));
            json_object_set(out, buf_cstr(&name), one);
        }
        buf_done(&name);
    }
}

static inline void model_record(struct model *m, json_t *record)
{
    json_t *rows, *row;
    size_t i;

    if (!json_is_object(record)) {
        m->refused = true;
        return;
    }
    rows = model_expand(m, record);
    json_array_foreach (rows, i, row) {
        json_t *flat = json_object(), *ats = json_object();
        model_flatten(m, row, (slice){0}, flat, ats);
        json_array_append_new(m->rows, flat);
        json_decref(ats);
    }
    json_decref(rows);
    m->too_many = m->too_many || json_array_size(m->rows) > MODEL_ROWS_MAX;
}

static inline bool model_cell(const struct decoded *d, enum cell_class class, const struct column *c, uint32_t row,
                              const json_t *want)
{
    switch (class) {
    case CELL_NUMBER: {
        struct json_number n = {.kind = c->valid[row], .bits = ((const uint64_t *)c->values)[row]};
        double got = n.kind == JSON_INT ? (double)n.i : n.kind == JSON_UINT ? (double)n.u : n.d;
        return json_is_real(want) && double_bits(got) == double_bits(json_real_value(want));
    }
    case CELL_TEXT:
        return json_is_string(want) && slice_eq(text_slice(&((const struct text *)c->values)[row]),
                                                slice_of(json_string_value(want), json_string_length(want)));
    case CELL_BOOL: return json_is_boolean(want) && ((const uint8_t *)c->values)[row] == json_is_true(want);
    case CELL_LIST:
        return json_is_array(want) && d->lists[((const struct list_slot *)c->values)[row].offset]->count == 0;
    case CELL_TIME:
    case CELL_CLASSES: break;
    }
    return false;
}

/* Are the cells of `d`, decoded without a hint, the model's rows? */
static inline bool model_same(const struct model *m, const struct decoded *d)
{
    if (json_array_size(m->rows) != d->batch->rows)
        return false;
    for (uint32_t row = 0; row < d->batch->rows; row++) {
        const json_t *want = json_array_get(m->rows, row);
        size_t values = 0, found = 0;
        const char *key;
        json_t *one;
        json_object_foreach ((json_t *)want, key, one)
            values += !json_is_null(one);
        for (size_t i = 0; i < d->entries_count; i++) {
            const struct entry *e = d->entries[i];
            const json_t *value = json_object_getn(want, (const char *)e->name.ptr, e->name.len);
            for (size_t class = 0; class < CELL_CLASSES; class ++)
                if (e->cells[class] && e->cells[class]->valid[row]) {
                    if (!value || !model_cell(d, (enum cell_class) class, e->cells[class], row, value))
                        return false;
                    found++;
                }
        }
        if (found != values)
            return false;
    }
    return true;
}

/* Decodes `body` and compares. False: they differ. */
static inline bool decoder_agrees(struct decoder *dec, slice body, uint32_t level)
{
    const struct decode_options opt = {.flatten_level = level, .rows_max = MODEL_ROWS_MAX};
    struct model m = {.level = level};
    struct decoded *d = NULL;
    struct err err = {0};
    json_error_t why;
    enum err_code rc = decode_json(dec, body, &opt, NULL, &d, &err);
    bool agreed = true;
    json_t *t = json_loadb((const char *)body.ptr, body.len,
                           JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &why),
           *one;
    size_t i;

    m.rows = json_array();
    if (body.len && memchr(body.ptr, 0, body.len)) {
        agreed = rc != ERR_OK; /* never JSON; jansson overlooks some */
    } else if (!t) {
        agreed = (rc != ERR_OK && decoder_malformed(dec)) || json_error_code(&why) == json_error_null_byte_in_key ||
                 (rc == ERR_INVALID && strstr(err.msg, "Expected object")); /* said before the rest was read */
        if (rc != ERR_OK && !agreed)
            agreed = true; /* another refusal came first: in an earlier record */
    } else {
        model_look(&m, t, 0);
        if (!(m.deep && m.arrays)) {
            if (json_is_array(t))
                json_array_foreach (t, i, one)
                    model_record(&m, one);
            else
                model_record(&m, t);
            if (m.refused || m.too_many)
                agreed = rc != ERR_OK && !decoder_malformed(dec);
            else if (rc != ERR_OK)
                agreed = strstr(err.msg, "too deeply") != NULL;
            else
                agreed = model_same(&m, d);
        }
    }
    json_decref(m.rows);
    json_decref(t);
    decoded_free(d);
    return agreed;
}
