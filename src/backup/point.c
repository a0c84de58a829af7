#include "backup/point.h"

#include <inttypes.h>

#include "base/banned.h"

#define SHARDS_MAX 256u
#define SID_TEXT 26

/* ---- writing */

static void texts_put(struct buf *out, const slice *texts, size_t count)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        buf_json_str(out, texts[i]);
    }
    buf_byte(out, ']');
}

static int64_t slot_or_none(uint64_t slot)
{
    return slot == SLOT_NONE ? -1 : (int64_t)slot;
}

static void streams_put(struct buf *out, const struct cut *c)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < c->streams_count; i++) {
        const struct cut_stream *s = &c->streams[i];
        buf_str(out, i ? ",[" : "[");
        buf_json_str(out, s->name);
        buf_fmt(out, ",\"%s\",%" PRIu64 ",%" PRId64 "]", s->sid.text, s->name_slot, slot_or_none(s->head_slot));
    }
    buf_byte(out, ']');
}

static void imports_put(struct buf *out, const struct point *p)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < p->imports_count; i++) {
        const struct point_record *r = &p->imports[i];
        buf_str(out, i ? ",[" : "[");
        buf_json_str(out, r->key);
        buf_fmt(out, ",%" PRIu64 ",%" PRIu32 "]", r->bytes, r->crc32c);
    }
    buf_byte(out, ']');
}

void point_encode(const struct point *p, struct buf *out)
{
    struct jobject o = {0}, lanes = {0};
    struct buf *b = jobject_put(&o, "checkpoints");

    for (uint32_t x = 0; x < p->cut.shards_count; x++) {
        buf_byte(b, x ? ',' : '[');
        int_put(b, slot_or_none(p->cut.checkpoints[x]));
    }
    buf_byte(b, ']');
    for (size_t i = 0; i < p->cut.lanes_count; i++)
        buf_fmt(jobject_put(&lanes, p->cut.lanes[i].name), "[%" PRIu64 ",%" PRIu64 "]", p->cut.lanes[i].first,
                p->cut.lanes[i].last);
    jobject_end(&lanes, jobject_put(&o, "lanes"));
    streams_put(jobject_put(&o, "streams"), &p->cut);
    texts_put(jobject_put(&o, "damaged"), p->cut.damaged, p->cut.damaged_count);
    texts_put(jobject_put(&o, "unasked"), p->unasked, p->unasked_count);
    if (p->imports_count)
        imports_put(jobject_put(&o, "imports"), p);
    jobject_text(&o, "cluster", p->cluster);
    jobject_int(&o, "shards", p->cut.shards_count);
    jobject_int(&o, "taken", p->taken_us);
    jobject_int(&o, "rows", (int64_t)p->rows);
    jobject_int(&o, "files", (int64_t)p->files);
    jobject_int(&o, "bytes", (int64_t)p->bytes);
    jobject_end(&o, out);
}

/* ---- reading: the place is untrusted */

enum note point_note(const struct slot *s)
{
    slice text;

    if (!json_get_text(s->body, "removal", &text))
        return NOTE_NONE;
    return slice_eq(text, slice_lit("end")) ? NOTE_END : NOTE_BEGIN;
}

static bool slot_value(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static bool slot_or_none_get(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) != -1)
        return slot_value(v, out);
    *out = SLOT_NONE;
    return true;
}

static bool texts_get(struct arena *a, const json_t *list, slice **out, size_t *count)
{
    size_t i;
    json_t *v;

    if (!json_is_array(list))
        return false;
    *out = arena_alloc(a, json_array_size(list) * sizeof(**out));
    json_array_foreach (list, i, v) {
        if (!json_is_string(v))
            return false;
        (*out)[(*count)++] = arena_copy(a, slice_of(json_string_value(v), json_string_length(v)));
    }
    return true;
}

static bool stream_get(struct arena *a, const json_t *v, struct cut_stream *out)
{
    const json_t *name = json_array_get(v, 0), *sid = json_array_get(v, 1);

    if (!json_is_string(name) || !json_is_string(sid) ||
        !sid_parse(slice_of(json_string_value(sid), json_string_length(sid)), &out->sid))
        return false;
    out->name = arena_copy(a, slice_of(json_string_value(name), json_string_length(name)));
    return stream_name_check(out->name, NULL) == ERR_OK && slot_value(json_array_get(v, 2), &out->name_slot) &&
           slot_or_none_get(json_array_get(v, 3), &out->head_slot);
}

static bool streams_get(struct cut *c, const json_t *list)
{
    size_t i;
    json_t *v;

    if (!json_is_array(list))
        return false;
    c->streams = arena_zalloc(&c->arena, json_array_size(list) * sizeof(*c->streams));
    json_array_foreach (list, i, v)
        if (!stream_get(&c->arena, v, &c->streams[c->streams_count++]))
            return false;
    return true;
}

/* "<enc-name>/<sid>/_import/<slot>" */
static bool record_key_valid(slice key)
{
    static const slice dir = {(const uint8_t *)"/_import/", 9};
    const uint8_t *at = key.len ? memmem(key.ptr, key.len, dir.ptr, dir.len) : NULL;
    struct sid sid;
    uint64_t slot;

    if (!at || !store_key_valid(key))
        return false;
    slice stream = slice_head(key, (size_t)(at - key.ptr));
    return slot_number(slice_from(key, stream.len + dir.len), &slot) && stream.len > SID_TEXT + 1 &&
           stream.ptr[stream.len - SID_TEXT - 1] == '/' && !memchr(stream.ptr, '/', stream.len - SID_TEXT - 1) &&
           sid_parse(slice_from(stream, stream.len - SID_TEXT), &sid);
}

static bool imports_get(struct point *p, const json_t *list)
{
    size_t i;
    json_t *v;

    if (!list)
        return true;
    p->imports = arena_zalloc(&p->cut.arena, (json_array_size(list) + 1) * sizeof(*p->imports));
    json_array_foreach (list, i, v) {
        struct point_record *r = &p->imports[p->imports_count++];
        const json_t *key = json_array_get(v, 0);
        uint64_t crc;
        if (!json_is_string(key) || !slot_value(json_array_get(v, 1), &r->bytes) ||
            !slot_value(json_array_get(v, 2), &crc) || crc > UINT32_MAX)
            return false;
        r->crc32c = (uint32_t)crc;
        r->key = arena_copy(&p->cut.arena, slice_of(json_string_value(key), json_string_length(key)));
        if (!record_key_valid(r->key))
            return false;
    }
    return json_is_array(list);
}

static bool lanes_get(struct cut *c, json_t *lanes)
{
    const char *key;
    json_t *v;

    if (!json_is_object(lanes))
        return false;
    c->lanes = arena_zalloc(&c->arena, json_object_size(lanes) * sizeof(*c->lanes));
    json_object_foreach (lanes, key, v) {
        struct cut_lane *l = &c->lanes[c->lanes_count++];
        slice name = slice_str(key);
        if (!lane_valid(name) || !slot_value(json_array_get(v, 0), &l->first) ||
            !slot_value(json_array_get(v, 1), &l->last) || l->first > l->last ||
            l->last - l->first >= POINT_LANE_RECORDS_MAX)
            return false;
        memcpy(l->name, name.ptr, name.len);
    }
    return true;
}

static bool checkpoints_get(struct cut *c, const json_t *o)
{
    const json_t *list = json_object_get(o, "checkpoints");
    uint64_t shards;
    size_t i;
    json_t *v;

    if (!json_get_u64(o, "shards", &shards) || shards == 0 || shards > SHARDS_MAX || json_array_size(list) != shards)
        return false;
    c->shards_count = (uint32_t)shards;
    c->checkpoints = arena_alloc(&c->arena, shards * sizeof(*c->checkpoints));
    json_array_foreach (list, i, v)
        if (!slot_or_none_get(v, &c->checkpoints[i]))
            return false;
    return true;
}

enum err_code point_decode(const struct slot *s, struct point *out, struct err *err)
{
    struct point p = {.number = s->seq, .nonce = s->nonce};
    const json_t *o = s->body;
    slice cluster;

    if (json_get_text(o, "cluster", &cluster) && json_get_i64(o, "taken", &p.taken_us) &&
        json_get_u64(o, "rows", &p.rows) && json_get_u64(o, "files", &p.files) && json_get_u64(o, "bytes", &p.bytes) &&
        checkpoints_get(&p.cut, o) && lanes_get(&p.cut, json_object_get(o, "lanes")) &&
        streams_get(&p.cut, json_object_get(o, "streams")) && imports_get(&p, json_object_get(o, "imports")) &&
        texts_get(&p.cut.arena, json_object_get(o, "damaged"), &p.cut.damaged, &p.cut.damaged_count) &&
        texts_get(&p.cut.arena, json_object_get(o, "unasked"), &p.unasked, &p.unasked_count)) {
        p.cluster = arena_copy(&p.cut.arena, cluster);
        *out = p;
        return ERR_OK;
    }
    point_done(&p);
    return err_set(err, ERR_CORRUPT, "not the description of a backup");
}

void point_done(struct point *p)
{
    cut_done(&p->cut);
    *p = (struct point){0};
}
