/* hot_test.c: the hot tier over a local store: what is given to readers is what the catalog names, whatever happened to the folder;
 * budgets hold; each step may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/metrics.h"
#include "os/fault.h"
#include "store/hot.h"

#define OBJECTS 8
#define SIZE 3000u /* of the first; each next one has a byte more */
#define CHUNK 1000u

struct place {
    char dir[64], store_dir[80], hot_dir[80];
    struct store *store;
    struct hot *hot;
    struct os *os;
    uint64_t bytes_max;
    struct hot_object objects[OBJECTS];
    char keys[OBJECTS][80];
};

/* Counts reads: which objects were fetched, and how often. */
static struct store_ops counting;
static const struct store_ops *plain;
static atomic_uint reads;

static enum err_code counting_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                                   struct store_meta *meta, struct err *err)
{
    assert_true(len <= CHUNK);
    atomic_fetch_add(&reads, 1);
    (void)usleep(300); /* so that others come meanwhile */
    return plain->read(s, key, offset, len, out, meta, err);
}

static enum err_code open_hot(struct place *p, struct err *err)
{
    const struct hot_options opt = {
        .dir = p->hot_dir, .bytes_max = p->bytes_max, .disk_percent_max = 100, .chunk_bytes = CHUNK};

    return hot_open(p->os, p->store, &opt, &p->hot, err);
}

static void reopen(struct place *p)
{
    struct err err = {0};

    hot_close(p->hot);
    p->hot = NULL;
    if (open_hot(p, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void place_new(struct place *p)
{
    struct err err = {0};

    *p = (struct place){.os = os_real()};
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/sluice-hot-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->store_dir, sizeof(p->store_dir), "%s/store", p->dir);
    (void)snprintf(p->hot_dir, sizeof(p->hot_dir), "%s/a/hot", p->dir);
    if (store_local_open(p->os, p->store_dir, &p->store, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    plain = p->store->ops;
    counting = *plain;
    counting.read = counting_read;
    p->store->ops = &counting;
    for (unsigned i = 0; i < OBJECTS; i++) {
        _cleanup_(freep) uint8_t *bytes = mem_alloc(SIZE + i);
        for (unsigned k = 0; k < SIZE + i; k++)
            bytes[k] = (uint8_t)(k * 7 + i);
        (void)snprintf(p->keys[i], sizeof(p->keys[i]), "%s/sid%u/date=2026-01-0%u/hour=05/f.parquet",
                       i < 4 ? "app" : "web", i / 2, i + 1);
        p->objects[i] =
            (struct hot_object){slice_str(p->keys[i]), SIZE + i, crc32c(0, bytes, SIZE + i), 10 * i + 1, 10 * i + 9};
        assert_int_equal(p->store->ops->create(p->store, p->objects[i].key, slice_of(bytes, SIZE + i), &err), ERR_OK);
    }
    reopen(p);
    atomic_store(&reads, 0);
}

static void place_done(struct place *p)
{
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", p->dir);

    hot_close(p->hot);
    p->store->ops = plain;
    p->store->ops->free(p->store);
    assert_int_equal(system(cmd), 0);
}

static void fill(struct place *p, unsigned i)
{
    struct err err = {0};
    if (hot_fill(p->hot, &p->objects[i], &err) != ERR_OK)
        fail_msg("fill %u: %s", i, err.msg);
}

/* Is object i here, whole? */
static bool readable(struct place *p, unsigned i)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct hot_file *f = hot_pin(p->hot, &p->objects[i]);
    size_t len = 0;

    if (!f)
        return false;
    hot_path(p->hot, f, &path);
    assert_int_equal(os_read_file(p->os, buf_cstr(&path), 1 << 20, &bytes, &len, NULL), ERR_OK);
    assert_int_equal(len, p->objects[i].bytes);
    assert_int_equal(crc32c(0, bytes, len), p->objects[i].crc32c);
    assert_true(hot_check(p->hot, f));
    hot_unpin(p->hot, f);
    return true;
}

static char *file_of(const struct place *p, unsigned i)
{
    return mem_fmt("%s/%s", p->hot_dir, p->keys[i]);
}

static void flip(const char *path)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 1234), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 1234), 1);
    assert_int_equal(close(fd), 0);
}

static uint64_t held(struct place *p, const char *prefix)
{
    struct hot_usage u;
    hot_usage(p->hot, slice_str(prefix), &u);
    return u.bytes;
}

/* Files below the folder, temporary ones too. */
struct counted {
    const char *dir;
    unsigned files;
};

static bool count_one(void *arg, const char *name, bool is_dir)
{
    struct counted *c = arg;
    _cleanup_(freep) char *path = mem_fmt("%s/%s", c->dir, name);
    struct counted below = {.dir = path};

    if (is_dir) {
        assert_int_equal(os_real()->ops->list(os_real(), path, count_one, &below, NULL), ERR_OK);
        c->files += below.files;
    } else {
        c->files += strcmp(name, ".lock") != 0;
    }
    return true;
}

static unsigned files_in(const struct place *p)
{
    struct counted all = {.dir = p->hot_dir};

    assert_int_equal(os_real()->ops->list(os_real(), p->hot_dir, count_one, &all, NULL), ERR_OK);
    return all.files;
}

static void test_fill_pin_restart(void **state)
{
    struct place p;
    struct hot_usage u;
    struct hot *second = NULL;
    (void)state;

    place_new(&p);
    assert_false(readable(&p, 0));
    assert_int_equal(atomic_load(&reads), 0); /* a reader fetches nothing */
    fill(&p, 0);
    fill(&p, 0);
    fill(&p, 5);
    assert_int_equal(atomic_load(&reads), 3 + 4); /* in pieces of at most CHUNK */
    assert_true(readable(&p, 0) && readable(&p, 5) && !readable(&p, 1));
    assert_true(hot_has(p.hot, p.objects[0].key) && !hot_has(p.hot, p.objects[1].key));
    assert_int_equal(held(&p, ""), 2 * SIZE + 5);
    hot_usage(p.hot, slice_lit("web/"), &u);
    assert_int_equal(u.files, 1);
    assert_int_equal(u.oldest_us, p.objects[5].tmin_us);
    const struct hot_options opt = {.dir = p.hot_dir};
    assert_int_equal(hot_open(p.os, p.store, &opt, &second, NULL), ERR_CONFLICT);
    reopen(&p);
    assert_int_equal(held(&p, ""), 2 * SIZE + 5);
    assert_true(readable(&p, 0) && readable(&p, 5) && !readable(&p, 1));
    assert_int_equal(atomic_load(&reads), 3 + 4);
    place_done(&p);
}

static void test_damaged(void **state)
{
    struct place p;
    (void)state;

    place_new(&p);
    for (unsigned round = 0; round < 5; round++) {
        fill(&p, 0);
        fill(&p, 1);
        _cleanup_(freep) char *path = file_of(&p, 0);
        if (round == 0) { /* while it is open: the time of change tells */
            flip(path);
        } else if (round == 1) { /* while it is closed: the first use tells */
            hot_close(p.hot);
            p.hot = NULL;
            flip(path);
            reopen(&p);
        } else if (round == 2) { /* the size tells at once */
            assert_int_equal(truncate(path, 100), 0);
            reopen(&p);
            hot_retain(p.hot, p.objects, 2, NULL, 0);
            assert_false(hot_has(p.hot, p.objects[0].key));
        } else if (round == 3) {
            assert_int_equal(unlink(path), 0);
        } else { /* nobody reads it: the scrub tells, which after a start knows no more than the catalog */
            reopen(&p);
            flip(path);
            hot_retain(p.hot, p.objects, 2, NULL, 0);
            hot_scrub(p.hot, UINT64_MAX);
            assert_false(hot_has(p.hot, p.objects[0].key));
        }
        assert_false(readable(&p, 0));
        assert_true(readable(&p, 1));
        assert_int_equal(held(&p, ""), SIZE + 1);
        assert_int_equal(files_in(&p), 1);
    }
    fill(&p, 0);
    assert_true(readable(&p, 0));
    place_done(&p);
}

/* A reader finds out about damage while another has the file. */
static void test_damaged_while_pinned(void **state)
{
    struct place p;
    (void)state;

    place_new(&p);
    fill(&p, 0);
    struct hot_file *a = hot_pin(p.hot, &p.objects[0]), *b = hot_pin(p.hot, &p.objects[0]);
    assert_true(a && a == b);
    _cleanup_(freep) char *path = file_of(&p, 0);
    flip(path);
    assert_false(hot_check(p.hot, a));
    assert_false(hot_check(p.hot, b));
    assert_null(hot_pin(p.hot, &p.objects[0]));
    fill(&p, 0); /* beside the old one, which readers still hold */
    assert_true(readable(&p, 0));
    hot_unpin(p.hot, a);
    hot_unpin(p.hot, b);
    assert_true(readable(&p, 0));
    place_done(&p);
}

static void test_other_bytes_in_the_store(void **state)
{
    struct place p;
    struct err err;
    (void)state;

    place_new(&p);
    for (unsigned i = 0; i < 2; i++) {
        struct hot_object o = p.objects[i];
        o.crc32c ^= i == 0;
        o.bytes -= i == 1;
        assert_int_equal(hot_fill(p.hot, &o, &err), ERR_CORRUPT);
        assert_int_equal(hot_fill(p.hot, &o, &err), ERR_UNAVAILABLE); /* not at once again */
        assert_false(hot_has(p.hot, o.key));
    }
    assert_int_equal(files_in(&p), 0);
    assert_int_equal(held(&p, ""), 0);
    hot_retain(p.hot, NULL, 0, NULL, 0); /* forgets them */
    fill(&p, 0);
    assert_true(readable(&p, 0));
    place_done(&p);
}

static void test_budget_and_eviction(void **state)
{
    const slice web[] = {slice_lit("web/")};
    struct place p;
    struct err err;
    (void)state;

    place_new(&p);
    p.bytes_max = 4 * SIZE + 12; /* four objects, whichever, and no fifth */
    reopen(&p);
    assert_int_equal(hot_room(p.hot), p.bytes_max);
    for (unsigned i = 0; i < 4; i++)
        fill(&p, i);
    assert_int_equal(hot_fill(p.hot, &p.objects[4], &err), ERR_LIMIT);
    struct hot_file *f = hot_pin(p.hot, &p.objects[0]);
    assert_non_null(f);
    hot_retain(p.hot, &p.objects[3], 2, NULL, 0); /* 0 is pinned, 1 and 2 go */
    assert_int_equal(files_in(&p), 2);
    assert_int_equal(held(&p, ""), 2 * SIZE + 3);
    assert_true(hot_check(p.hot, f));
    fill(&p, 4);
    assert_int_equal(hot_fill(p.hot, &p.objects[5], &err), ERR_OK);
    assert_int_equal(hot_fill(p.hot, &p.objects[6], &err), ERR_LIMIT); /* as long as 0 is read */
    hot_unpin(p.hot, f);
    assert_false(readable(&p, 0));
    assert_int_equal(files_in(&p), 3);
    hot_retain(p.hot, NULL, 0, web, 1);
    assert_int_equal(held(&p, "app/"), 0);
    assert_int_equal(held(&p, "web/"), 2 * SIZE + 9);
    hot_retain(p.hot, NULL, 0, NULL, 0);
    assert_int_equal(files_in(&p), 0);
    _cleanup_(freep) char *app = mem_fmt("%s/app", p.hot_dir), *web_dir = mem_fmt("%s/web", p.hot_dir);
    assert_int_not_equal(access(app, F_OK), 0); /* empty folders go as well, the tier's own stays */
    assert_int_not_equal(access(web_dir, F_OK), 0);
    fill(&p, 1);
    assert_true(readable(&p, 1));
    place_done(&p);
}

/* A disk of 100,000 bytes, as full as the test says. */
static uint64_t disk_free_bytes;

static enum err_code small_disk(struct os *os, const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                                struct err *err)
{
    (void)os, (void)path, (void)err;
    *free_bytes = disk_free_bytes;
    *total_bytes = 100000;
    return ERR_OK;
}

static void test_full_disk(void **state)
{
    struct os_ops ops = *os_real()->ops;
    struct os small = {.ops = &ops};
    struct place p;
    (void)state;

    place_new(&p);
    ops.disk_free = small_disk;
    hot_close(p.hot);
    const struct hot_options opt = {.dir = p.hot_dir}; /* up to 80 % */
    assert_int_equal(hot_open(&small, p.store, &opt, &p.hot, NULL), ERR_OK);
    p.store->ops = plain; /* as chunks are larger here */
    disk_free_bytes = 100000 - 80000 + 2 * SIZE + 5;
    assert_int_equal(hot_room(p.hot), 2 * SIZE + 5);
    fill(&p, 0);
    disk_free_bytes -= SIZE;
    fill(&p, 1);
    disk_free_bytes -= SIZE + 1;
    assert_int_equal(hot_room(p.hot), 2 * SIZE + 5); /* what is here counts as room */
    assert_int_equal(hot_fill(p.hot, &p.objects[2], NULL), ERR_LIMIT);
    disk_free_bytes -= SIZE; /* others took some */
    assert_int_equal(hot_room(p.hot), SIZE + 5);
    hot_retain(p.hot, &p.objects[1], 1, NULL, 0);
    disk_free_bytes = 0; /* and all of it */
    assert_int_equal(hot_room(p.hot), 0);
    assert_true(readable(&p, 1));
    place_done(&p);
}

struct filler {
    struct place *p;
    enum err_code rc;
};

static void *fill_thread(void *arg)
{
    struct filler *f = arg;
    f->rc = hot_fill(f->p->hot, &f->p->objects[0], NULL);
    return NULL;
}

static void test_single_flight(void **state)
{
    pthread_t threads[8];
    struct filler fillers[8];
    struct place p;
    (void)state;

    place_new(&p);
    for (unsigned i = 0; i < 8; i++) {
        fillers[i] = (struct filler){&p, ERR_UNKNOWN};
        assert_int_equal(pthread_create(&threads[i], NULL, fill_thread, &fillers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(fillers[i].rc, ERR_OK);
    }
    assert_int_equal(atomic_load(&reads), 3);
    assert_true(readable(&p, 0));
    place_done(&p);
}

/* Readers, fetches, evictions and damage at the same time: what is given to a reader is good, and in the end the books are right. */
struct race {
    struct place *p;
    atomic_bool stop;
    atomic_uint good;
};

static void *race_reader(void *arg)
{
    struct race *r = arg;

    for (unsigned i = 0; !atomic_load(&r->stop); i++) {
        const struct hot_object *o = &r->p->objects[i % OBJECTS];
        struct hot_file *f = hot_pin(r->p->hot, o);
        if (f && hot_check(r->p->hot, f))
            atomic_fetch_add(&r->good, 1);
        hot_unpin(r->p->hot, f);
    }
    return NULL;
}

static void test_race(void **state)
{
    pthread_t threads[3];
    struct place p;
    (void)state;

    place_new(&p);
    struct race r = {.p = &p};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_reader, &r), 0);
    for (unsigned round = 0; round < 30; round++) {
        _cleanup_(freep) char *path = file_of(&p, round % OBJECTS);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(hot_fill(p.hot, &p.objects[(round + i) % OBJECTS], NULL), ERR_OK);
        if (round % 3 == 0 && hot_has(p.hot, p.objects[round % OBJECTS].key))
            assert_true(truncate(path, 10) == 0 || access(path, F_OK) != 0); /* a reader may have found the last one */
        hot_retain(p.hot, &p.objects[round % 4], 4, NULL, 0);
        hot_scrub(p.hot, UINT64_MAX);
    }
    atomic_store(&r.stop, true);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(atomic_load(&r.good) > 0);
    hot_retain(p.hot, NULL, 0, NULL, 0);
    assert_int_equal(files_in(&p), 0);
    assert_int_equal((long)metric_value(metric_get(METRIC_GAUGE, "sluice_hot_tier_bytes", "", NULL)), 0);
    place_done(&p);
}

static void test_faults(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    struct place p;
    (void)state;

    place_new(&p);
    for (unsigned nth = 0;; nth++) {
        hot_close(p.hot);
        p.hot = NULL;
        p.os = faulty;
        os_fault_arm(faulty, FAULT_IO, nth, FAULT_ONCE);
        enum err_code rc = open_hot(&p, NULL);
        if (rc == ERR_OK)
            rc = hot_fill(p.hot, &p.objects[0], NULL);
        bool fired = os_fault_disarm(faulty);
        assert_true(rc == ERR_OK || fired);
        assert_true(rc != ERR_OK || readable(&p, 0));
        p.os = os_real();
        reopen(&p); /* what the fault left is harmless */
        hot_retain(p.hot, p.objects, 1, NULL, 0);
        fill(&p, 0);
        assert_true(readable(&p, 0));
        assert_int_equal(files_in(&p), 1);
        hot_retain(p.hot, NULL, 0, NULL, 0);
        assert_int_equal(files_in(&p), 0);
        if (!fired)
            break;
    }
    place_done(&p);
}

static void test_stop(void **state)
{
    struct place p;
    (void)state;

    place_new(&p);
    fill(&p, 0);
    hot_stop(p.hot);
    assert_int_equal(hot_fill(p.hot, &p.objects[1], NULL), ERR_CANCELLED);
    assert_true(readable(&p, 0));
    hot_stop(NULL);
    place_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill_pin_restart),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_damaged_while_pinned),
        cmocka_unit_test(test_other_bytes_in_the_store),
        cmocka_unit_test(test_budget_and_eviction),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_single_flight),
        cmocka_unit_test(test_race),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
