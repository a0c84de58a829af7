/* probe.c: see probe.h. */
#include "store/probe.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/ulid.h"

#include "base/banned.h"

#define RACERS 16
#define RACES 4
#define LISTED 25
#define TIMED 9
#define LARGE_BYTES (17u << 20) /* beyond what one PUT takes */
#define KEY_MAX 128
#define PAUSE_US 500000

struct probe {
    struct os *os;
    struct store *s;
    char prefix[64]; /* of its keys; a further try adds its number */
    size_t ulid_len; /* of the prefix, without that */
    struct probe_result *result;
};

static slice key_of(const struct probe *p, char buf[KEY_MAX], const char *name)
{
    int n = snprintf(buf, KEY_MAX, "%s%s", p->prefix, name);
    return slice_of(buf, (size_t)MIN(n, KEY_MAX - 1));
}

static enum err_code want(enum err_code got, enum err_code expected, const char *what, struct err *err)
{
    if (got == expected)
        return ERR_OK;
    if (got != ERR_OK && got != ERR_CONFLICT && got != ERR_NOT_FOUND)
        return got; /* it could not be asked: the message is the store's */
    return err_set(err, ERR_CORRUPT, "%s answered %s, not %s", what, err_name(got), err_name(expected));
}

/* ---- steps: ERR_CORRUPT is a verdict, anything else a store that could not be asked */

static enum err_code check_bytes(const struct probe *p, slice key, slice expected, struct err *err)
{
    _cleanup_(buf_done) struct buf got = BUF_INIT;
    struct store_meta meta;

    TRY(want(p->s->ops->read(p->s, key, 0, UINT64_MAX, &got, &meta, err), ERR_OK, "a read after create", err));
    if (!slice_eq(buf_view(&got), expected) || meta.size != expected.len)
        return err_set(err, ERR_CORRUPT, "a read after create gave %zu other bytes, not the %zu written", got.len,
                       expected.len);
    return ERR_OK;
}

/* A create of a key that is free. HTTP libraries send a request again when a kept connection broke before the first byte of the answer: a
 * conflict with ourselves is no verdict against the store. */
static enum err_code create_free(const struct probe *p, slice key, slice bytes, const char *what, struct err *err)
{
    enum err_code rc = p->s->ops->create(p->s, key, bytes, err);

    if (rc == ERR_CONFLICT && check_bytes(p, key, bytes, NULL) == ERR_OK)
        return ERR_OK;
    return want(rc, ERR_OK, what, err);
}

static bool count_item(void *arg, const struct store_list_item *item)
{
    (void)item;
    ++*(size_t *)arg;
    return true;
}

static enum err_code step_create(struct probe *p, struct err *err)
{
    struct store *s = p->s;
    char buf[KEY_MAX];
    slice key = key_of(p, buf, "one");
    struct store_meta meta;
    size_t count = 0;

    TRY(create_free(p, key, slice_lit("first"), "a create", err));
    TRY(want(s->ops->create(s, key, slice_lit("second"), err), ERR_CONFLICT, "a second create of one key", err));
    TRY(check_bytes(p, key, slice_lit("first"), err));
    TRY(want(s->ops->stat(s, key, &meta, err), ERR_OK, "a look at it", err));
    TRY(s->ops->list(s, key, slice_lit(""), false, count_item, &count, err));
    if (count != 1)
        return err_set(err, ERR_CORRUPT, "a list right after a create showed %zu objects, not 1", count);
    TRY(s->ops->remove(s, key, err));
    _cleanup_(buf_done) struct buf got = BUF_INIT;
    TRY(want(s->ops->read(s, key, 0, UINT64_MAX, &got, NULL, err), ERR_NOT_FOUND, "a read after remove", err));
    TRY(create_free(p, key, slice_lit("third"), "a create after remove", err));
    TRY(check_bytes(p, key, slice_lit("third"), err));
    return s->ops->remove(s, key, err);
}

struct racer {
    struct probe *p;
    slice key;
    char body[16];
    enum err_code rc;
    struct err err;
};

static void race(void *arg)
{
    struct racer *r = arg;
    struct store *s = r->p->s;
    r->rc = s->ops->create(s, r->key, slice_str(r->body), &r->err);
}

static enum err_code one_race(struct probe *p, unsigned round, struct err *err)
{
    struct racer racers[RACERS];
    struct os_thread *threads[RACERS];
    char name[32], buf[KEY_MAX];
    int winner = -1;
    unsigned unclear = 0;

    (void)snprintf(name, sizeof(name), "race-%u", round);
    slice key = key_of(p, buf, name);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.p = p, .key = key};
        (void)snprintf(racers[i].body, sizeof(racers[i].body), "racer %u", i);
        threads[i] = p->os->ops->thread_new(p->os, "probe", race, &racers[i]);
    }
    for (unsigned i = 0; i < RACERS; i++)
        p->os->ops->thread_join(p->os, threads[i]);
    for (unsigned i = 0; i < RACERS; i++) {
        if (racers[i].rc == ERR_OK && winner >= 0)
            return err_set(err, ERR_CORRUPT, "two of %d creates of one key at once were both told that they won",
                           RACERS);
        if (racers[i].rc == ERR_OK)
            winner = (int)i;
        else if (racers[i].rc != ERR_CONFLICT && racers[i].rc != ERR_UNKNOWN && racers[i].rc != ERR_UNAVAILABLE) {
            *err = racers[i].err;
            return racers[i].rc;
        }
        unclear += racers[i].rc != ERR_OK && racers[i].rc != ERR_CONFLICT;
    }
    if (winner < 0 && unclear) /* the winner's answer got lost: nothing is proven */
        return p->s->ops->remove(p->s, key, err);
    for (int i = 0; winner < 0 && i < RACERS; i++) /* told of a conflict with itself: see create_free() */
        if (check_bytes(p, key, slice_str(racers[i].body), NULL) == ERR_OK)
            winner = i;
    if (winner < 0)
        return err_set(err, ERR_CORRUPT, "of %d creates of one key at once none won", RACERS);
    TRY(check_bytes(p, key, slice_str(racers[winner].body), err));
    return p->s->ops->remove(p->s, key, err);
}

static enum err_code step_race(struct probe *p, struct err *err)
{
    for (unsigned i = 0; i < RACES; i++)
        TRY(one_race(p, i, err));
    return ERR_OK;
}

struct listing {
    size_t count;
    char last[KEY_MAX];
    bool ordered, prefix_seen;
};

static bool listing_item(void *arg, const struct store_list_item *item)
{
    struct listing *l = arg;

    l->ordered = l->ordered && slice_cmp(slice_str(l->last), item->key) < 0;
    (void)snprintf(l->last, sizeof(l->last), SLICE_FMT, SLICE_ARG(item->key));
    l->prefix_seen = l->prefix_seen || item->is_prefix;
    l->count++;
    return true;
}

static enum err_code list_expect(struct probe *p, const char *dir, const char *after, bool delimiter, size_t count,
                                 bool prefix, struct err *err)
{
    struct listing l = {.ordered = true};
    char a[KEY_MAX], b[KEY_MAX];
    slice start = after[0] ? key_of(p, b, after) : slice_lit("");

    TRY(p->s->ops->list(p->s, key_of(p, a, dir), start, delimiter, listing_item, &l, err));
    if (l.count != count || !l.ordered || l.prefix_seen != prefix)
        return err_set(err, ERR_CORRUPT, "a list of %s after '%s' showed %zu entries%s, not %zu in order", dir, after,
                       l.count, l.ordered ? "" : " out of order", count);
    return ERR_OK;
}

static enum err_code step_list(struct probe *p, struct err *err)
{
    char name[64], buf[KEY_MAX];
    enum err_code rc = ERR_OK;

    for (unsigned i = 0; i < LISTED; i++) {
        (void)snprintf(name, sizeof(name), "list/%s%03u", i == LISTED - 1 ? "sub/" : "", i);
        TRY(create_free(p, key_of(p, buf, name), slice_lit("x"), "a create", err));
    }
    rc = list_expect(p, "list/", "", false, LISTED, false, err);
    if (rc == ERR_OK)
        rc = list_expect(p, "list/", "", true, LISTED, true, err);
    if (rc == ERR_OK)
        rc = list_expect(p, "list/", "list/009", true, LISTED - 10, true, err);
    if (rc == ERR_OK)
        rc = list_expect(p, "list/01", "", true, 10, false, err);
    for (unsigned i = 0; i < LISTED; i++) {
        (void)snprintf(name, sizeof(name), "list/%s%03u", i == LISTED - 1 ? "sub/" : "", i);
        enum err_code removed = p->s->ops->remove(p->s, key_of(p, buf, name), rc == ERR_OK ? err : NULL);
        rc = rc == ERR_OK ? removed : rc;
    }
    return rc == ERR_OK ? list_expect(p, "list/", "", false, 0, false, err) : rc;
}

static enum err_code step_range(struct probe *p, struct err *err)
{
    static const struct {
        uint64_t offset, len;
        const char *bytes;
    } cases[] = {{0, 3, "012"}, {3, 4, "3456"}, {8, UINT64_MAX, "89"}, {8, 100, "89"}, {10, 5, ""}};
    char buf[KEY_MAX];
    slice key = key_of(p, buf, "range");

    TRY(create_free(p, key, slice_lit("0123456789"), "a create", err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf got = BUF_INIT;
        struct store_meta meta;
        TRY(want(p->s->ops->read(p->s, key, cases[i].offset, cases[i].len, &got, &meta, err), ERR_OK,
                 "a read of a range", err));
        if (!slice_eq(buf_view(&got), slice_str(cases[i].bytes)) || meta.size != 10)
            return err_set(err, ERR_CORRUPT, "a read of bytes %" PRIu64 "+ gave '" SLICE_FMT "', not '%s'",
                           cases[i].offset, SLICE_ARG(buf_view(&got)), cases[i].bytes);
    }
    return p->s->ops->remove(p->s, key, err);
}

static enum err_code upload(struct probe *p, slice key, slice bytes, struct err *err)
{
    const struct os_iov iov = {bytes.ptr, bytes.len};
    struct os_file *f = NULL;

    TRY(p->s->ops->upload_begin(p->s, &f, err));
    enum err_code rc = p->os->ops->pwritev(p->os, f, &iov, 1, 0, err);
    if (rc == ERR_OK)
        rc = p->s->ops->upload_publish(p->s, f, key, true, err);
    if (rc != ERR_OK)
        p->s->ops->upload_drop(p->s, f);
    return rc;
}

static enum err_code upload_twice(struct probe *p, const char *name, size_t len, struct err *err)
{
    _cleanup_(freep) uint8_t *bytes = mem_alloc(len);
    char buf[KEY_MAX];
    slice key = key_of(p, buf, name);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    TRY(want(upload(p, key, slice_of(bytes, len), err), ERR_OK, "an upload", err));
    TRY(check_bytes(p, key, slice_of(bytes, len), err));
    TRY(want(upload(p, key, slice_lit("other"), err), ERR_CONFLICT, "an upload over it", err));
    TRY(want(upload(p, key, slice_of(bytes, len), err), ERR_CONFLICT, "an upload of the same over it", err));
    return p->s->ops->remove(p->s, key, err);
}

static enum err_code step_upload(struct probe *p, struct err *err)
{
    return upload_twice(p, "upload", 100000, err);
}

static enum err_code step_upload_large(struct probe *p, struct err *err)
{
    return upload_twice(p, "upload-large", LARGE_BYTES, err);
}

static enum err_code step_clock(struct probe *p, struct err *err)
{
    int64_t before = os_wall_us(p->os), us, after;

    TRY(p->s->ops->now_us(p->s, &us, err));
    after = os_wall_us(p->os);
    int64_t offset = us < before ? us - before : us > after ? us - after : 0;
    if (offset > 1000000 || offset < -1000000) /* HTTP's Date has whole seconds */
        p->result->clock_offset_us = offset;
    return ERR_OK;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static enum err_code step_time(struct probe *p, struct err *err)
{
    int64_t creates[TIMED], reads[TIMED];
    char name[32], buf[KEY_MAX];

    for (unsigned i = 0; i < TIMED; i++) {
        _cleanup_(buf_done) struct buf got = BUF_INIT;
        (void)snprintf(name, sizeof(name), "time-%u", i);
        slice key = key_of(p, buf, name);
        int64_t t0 = os_mono_us(p->os);
        TRY(create_free(p, key, slice_lit("x"), "a create", err));
        int64_t t1 = os_mono_us(p->os);
        TRY(p->s->ops->read(p->s, key, 0, UINT64_MAX, &got, NULL, err));
        reads[i] = os_mono_us(p->os) - t1;
        creates[i] = t1 - t0;
        TRY(p->s->ops->remove(p->s, key, err));
    }
    qsort(creates, TIMED, sizeof(creates[0]), by_time);
    qsort(reads, TIMED, sizeof(reads[0]), by_time);
    p->result->create_us = creates[TIMED / 2];
    p->result->read_us = reads[TIMED / 2];
    return ERR_OK;
}

static void probe_init(struct probe *p)
{
    uint8_t r[10];

    p->os->ops->random(p->os, r, sizeof(r));
    struct ulid u = ulid_make(os_wall_us(p->os) / 1000, r);
    (void)snprintf(p->prefix, sizeof(p->prefix), ".sluice/probe/%s-", u.text);
    p->ulid_len = strlen(p->prefix);
}

static bool remove_item(void *arg, const struct store_list_item *item)
{
    struct probe *p = arg;
    (void)p->s->ops->remove(p->s, item->key, NULL); /* the collector's then */
    return true;
}

/* The store is away, or was for a moment: asking it more would only take longer to say so. */
static bool undecided(enum err_code rc)
{
    return rc == ERR_UNKNOWN || rc == ERR_UNAVAILABLE;
}

/* Of a step that ended early: its key is there, or is not, or a create without an answer made it after all. */
static enum err_code probe_clear(struct probe *p, struct err *err)
{
    slice prefix = slice_of(p->prefix, p->ulid_len);
    return p->s->ops->list(p->s, prefix, slice_lit(""), false, remove_item, p, err);
}

enum err_code store_probe_quick(struct os *os, struct store *s, struct err *err)
{
    struct probe p = {.os = os, .s = s};

    probe_init(&p);
    enum err_code rc = step_create(&p, err);
    if (rc != ERR_OK)
        (void)probe_clear(&p, NULL); /* what is wrong is told; what stays is a few bytes */
    return rc;
}

static void product_of(struct store *s, char out[100])
{
    _cleanup_(buf_done) struct buf product = BUF_INIT;

    if (s->ops->product)
        s->ops->product(s, &product);
    for (size_t i = 0; i < product.len; i++)
        if (product.ptr[i] < ' ' || product.ptr[i] > '~')
            product.ptr[i] = '?';
    (void)snprintf(out, 100, "%s", product.len ? buf_cstr(&product) : "");
}

static enum err_code step_known(struct probe *p, struct err *err)
{
    const char *why;

    product_of(p->s, p->result->product);
    if (store_known(slice_str(p->result->product), &why) != STORE_DENIED)
        return ERR_OK;
    return err_set(err, ERR_CORRUPT, "%s is no store for Sluice: %s", p->result->product, why);
}

static enum err_code start_once(struct probe *p, struct err *err)
{
    TRY(step_create(p, err));
    TRY(one_race(p, 0, err));
    TRY(step_known(p, err));
    return step_clock(p, err);
}

enum err_code store_probe_start(struct os *os, struct store *s, int64_t us_max, struct store_facts *out,
                                struct err *err)
{
    struct probe_result result = {0};
    struct probe p = {.os = os, .s = s, .result = &result};
    int64_t deadline = os_mono_us(os) + us_max;
    unsigned tries = 1;

    probe_init(&p);
    enum err_code rc = start_once(&p, err);
    while (undecided(rc) && os_mono_us(os) < deadline) {
        os->ops->sleep_us(os, PAUSE_US);
        /* A create whose fate is unknown is not sent again: other names. */
        (void)snprintf(p.prefix + p.ulid_len, sizeof(p.prefix) - p.ulid_len, "%u-", ++tries);
        rc = start_once(&p, err);
    }
    if ((rc != ERR_OK || tries > 1) && !undecided(rc))
        (void)probe_clear(&p, NULL); /* no list now: the collector's */
    if (rc == ERR_CORRUPT)
        return err_wrap(err, "no exclusive create (docs/operations.md lists stores that have it)");
    TRY(rc);
    *out = (struct store_facts){.at_us = os_wall_us(os), .clock_offset_us = result.clock_offset_us, .exclusive = true};
    memcpy(out->product, result.product, sizeof(out->product));
    return ERR_OK;
}

enum err_code store_probe(struct os *os, struct store *s, struct probe_result *out, void (*tell)(const char *what),
                          struct err *err)
{
    static const struct {
        const char *what;
        enum err_code (*run)(struct probe *p, struct err *err);
    } steps[] = {
        {"create, refuse a second, read, list and remove right after", step_create},
        {"exactly one winner of 16 creates at once", step_race},
        {"lists: order, pages, folders", step_list},
        {"reads of ranges", step_range},
        {"upload of one part, never over another", step_upload},
        {"upload of several parts, never over another", step_upload_large},
        {"clock", step_clock},
        {"what is known of the product", step_known},
        {"time of a create and of a read", step_time},
    };
    struct probe p = {.os = os, .s = s, .result = out};

    *out = (struct probe_result){.good = true};
    probe_init(&p);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct probe_step *step = &out->steps[out->count++];
        struct err problem = {0};
        if (tell)
            tell(steps[i].what);
        *step = (struct probe_step){.what = steps[i].what, .code = steps[i].run(&p, &problem)};
        if (step->code != ERR_OK)
            (void)snprintf(step->problem, sizeof(step->problem), "%.*s", (int)sizeof(step->problem) - 1, problem.msg);
        out->good = out->good && step->code == ERR_OK;
        if (i == 0 && step->code != ERR_OK &&
            step->code != ERR_CORRUPT) { /* away, or no right: the rest says the same */
            *err = problem;
            if (!undecided(step->code))
                (void)probe_clear(&p, NULL);
            return step->code;
        }
    }
    return out->good ? ERR_OK : probe_clear(&p, err);
}
