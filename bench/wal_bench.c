/* wal_bench.c: appends a second, MB/s and CPU-seconds of the log alone: 64 requests in flight of 500 B (one row each) and 8 of 4 MiB,
 * acknowledged by WAL_SYNC and by WAL_WRITE. Rounds are interleaved, medians are printed.
 *
 *   bench_wal [DIR [ROUNDS [SECONDS]]]     DIR: a folder on the disk to measure, default "."; the folder made in it is removed
 * Appending is by callback, as the server does it: an answer sends the next record from a thread of its own pool (2). Segments are
 * sealed and released as they fill, so files are recycled as in a server whose store keeps up. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "wal/wal.h"

#define THREADS 2
#define FLIGHT_MAX 64
#define ROUNDS_MAX 25

struct slot { /* one request in flight */
    struct slot *next;
    int64_t sent_us;
};
struct run {
    const char *name;
    size_t record_bytes;
    unsigned flight;
    enum wal_ack ack;
    double per_s[ROUNDS_MAX], mb_per_s[ROUNDS_MAX], cpu_us[ROUNDS_MAX], p50_ms[ROUNDS_MAX], p99_ms[ROUNDS_MAX],
        per_sync[ROUNDS_MAX];
};
struct bench {
    struct os *os;
    struct wal *wal;
    const struct run *run;
    uint8_t *body;
    struct slot slots[FLIGHT_MAX];
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct slot *ready; /* under mu, as all below */
    unsigned open;
    bool stop;
    uint64_t released; /* sender threads */
    uint32_t *waits_us;
    size_t waits, waits_cap;
};

static void on_done_locked(struct bench *b, struct slot *s)
{
    *ARRAY_PUSH(b->waits_us, b->waits, b->waits_cap) = (uint32_t)(os_mono_us(b->os) - s->sent_us);
    s->next = b->ready;
    b->ready = s;
    b->open--;
    pthread_cond_signal(&b->cond);
}

static struct bench bench;

static void on_done(void *arg, enum err_code rc, const struct err *err)
{
    if (rc != ERR_OK)
        bench_die("append", err);
    pthread_mutex_lock(&bench.mu);
    on_done_locked(&bench, arg);
    pthread_mutex_unlock(&bench.mu);
}

static void *sender(void *arg)
{
    struct bench *b = arg;
    struct err err;

    for (;;) {
        pthread_mutex_lock(&b->mu);
        while (!b->ready && !b->stop)
            pthread_cond_wait(&b->cond, &b->mu);
        struct slot *s = b->stop ? NULL : b->ready;
        if (s) {
            b->ready = s->next;
            b->open++;
        }
        pthread_mutex_unlock(&b->mu);
        if (!s)
            return NULL;
        const struct os_iov iov[2] = {{b->body, 100}, {b->body + 100, b->run->record_bytes - 100}};
        struct wal_pos pos;
        s->sent_us = os_mono_us(b->os);
        if (wal_append(b->wal, iov, 2, b->run->ack, on_done, s, &pos, &err) != ERR_OK)
            bench_die("append", &err);
        uint64_t was = __atomic_load_n(&b->released, __ATOMIC_RELAXED);
        if (pos.segment > was + 3 &&
            __atomic_compare_exchange_n(&b->released, &was, pos.segment - 3, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            wal_release(b->wal, pos.segment - 3);
    }
}

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, struct run *run, unsigned round, double seconds)
{
    pthread_t threads[THREADS];
    struct wal_stat before, after;

    b->run = run;
    b->stop = false;
    b->ready = NULL;
    b->waits = 0;
    for (unsigned i = 0; i < run->flight; i++) {
        b->slots[i].next = b->ready;
        b->ready = &b->slots[i];
    }
    wal_stat(b->wal, &before);
    double cpu = bench_cpu_s();
    int64_t from = os_mono_us(b->os);
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, sender, b))
            bench_die("thread", NULL);
    b->os->ops->sleep_us(b->os, (int64_t)(seconds * 1e6));
    pthread_mutex_lock(&b->mu);
    b->stop = true;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->mu);
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    pthread_mutex_lock(&b->mu);
    while (b->open)
        pthread_cond_wait(&b->cond, &b->mu);
    pthread_mutex_unlock(&b->mu);
    double wall = (double)(os_mono_us(b->os) - from) / 1e6;
    cpu = bench_cpu_s() - cpu;
    wal_stat(b->wal, &after);
    uint64_t n = after.records - before.records;
    qsort(b->waits_us, b->waits, sizeof(*b->waits_us), by_u32);
    run->per_s[round] = (double)n / wall;
    run->mb_per_s[round] = (double)(n * run->record_bytes) / 1e6 / wall;
    run->cpu_us[round] = cpu * 1e6 / (double)n;
    size_t half = b->waits / 2, most = b->waits * 99 / 100;
    run->p50_ms[round] = b->waits_us[half] / 1e3;
    run->p99_ms[round] = b->waits_us[most] / 1e3;
    run->per_sync[round] = (double)n / (double)MAX(after.syncs - before.syncs, 1);
}

int main(int argc, char **argv)
{
    static struct run runs[] = {
        {.name = "500 B x64, sync", .record_bytes = 500, .flight = 64, .ack = WAL_SYNC},
        {.name = "500 B x64, relaxed", .record_bytes = 500, .flight = 64, .ack = WAL_WRITE},
        {.name = "4 MiB x8, sync", .record_bytes = 4u << 20, .flight = 8, .ack = WAL_SYNC},
        {.name = "4 MiB x8, relaxed", .record_bytes = 4u << 20, .flight = 8, .ack = WAL_WRITE},
    };
    unsigned rounds = argc > 2 ? (unsigned)MIN(MAX(strtol(argv[2], NULL, 10), 1), ROUNDS_MAX) : 5;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 1;
    const struct wal_options opt = {0};
    char *dir = bench_dir_new(argc > 1 ? argv[1] : ".");
    struct err err = {0};
    uint64_t cut;

    bench.os = os_real();
    bench.body = mem_alloc(4u << 20);
    bench.os->ops->random(bench.os, bench.body, 4u << 20);
    (void)pthread_mutex_init(&bench.mu, NULL);
    (void)pthread_cond_init(&bench.cond, NULL);
    if (wal_open(bench.os, dir, &opt, &bench.wal, &err) != ERR_OK ||
        wal_start(bench.wal, 0, NULL, NULL, &cut, &err) != ERR_OK)
        bench_die(dir, &err);
    for (unsigned r = 0; r < rounds; r++)
        for (size_t i = 0; i < ARRAY_LEN(runs); i++)
            measure(&bench, &runs[i], r, seconds);
    wal_close(bench.wal);
    bench_dir_remove(dir);
    printf("%-20s %12s %10s %10s %12s %10s %10s %14s\n", "wal", "CPU-us each", "MB/CPU-s", "MB/s", "appends/s",
           "p50 ms", "p99 ms", "appends/sync");
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        struct run *x = &runs[i];
        double cpu_us = bench_median(x->cpu_us, rounds);
        printf("%-20s %12.2f %10.0f %10.0f %12.0f %10.2f %10.2f ", x->name, cpu_us, (double)x->record_bytes / cpu_us,
               bench_median(x->mb_per_s, rounds), bench_median(x->per_s, rounds), bench_median(x->p50_ms, rounds),
               bench_median(x->p99_ms, rounds));
        if (x->ack == WAL_SYNC)
            printf("%14.1f\n", bench_median(x->per_sync, rounds));
        else
            printf("%14s\n", "-");
    }
    free(bench.waits_us);
    free(bench.body);
    free(dir);
    return 0;
}
