#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/hash.h"

static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
#define BOUNDS ARRAY_LEN(bounds)

struct metric {
    struct metric *next; /* in its family */
    char *labels;        /* "" if none */
    bool dropped;        /* under mu */
    _Atomic double value;
    _Atomic uint64_t counts[BOUNDS + 1];
    bool histogram;
};
struct family {
    struct family *next; /* sorted by name */
    enum metric_kind kind;
    const char *name, *help;
    struct metric *series;
    struct metric **table; /* by hash of labels; NULL until it is worth it */
    size_t count, cap;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct family *families; /* under mu */

static struct family *family_get(enum metric_kind kind, const char *name, const char *help)
{
    struct family **at = &families;

    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    if (*at && strcmp((*at)->name, name) == 0)
        return *at;
    struct family *f = mem_zalloc(sizeof(*f));
    f->kind = kind;
    f->name = name;
    f->help = help;
    f->next = *at;
    *at = f;
    return f;
}

static struct metric **slot_of(struct family *f, const char *labels)
{
    size_t i = hash64(slice_str(labels), 0) & (f->cap - 1);
    while (f->table[i] && strcmp(f->table[i]->labels, labels) != 0)
        i = (i + 1) & (f->cap - 1);
    return &f->table[i];
}

static void family_grow(struct family *f)
{
    free(f->table);
    f->cap = f->cap ? f->cap * 2 : 16;
    f->table = mem_zalloc(f->cap * sizeof(*f->table));
    for (struct metric *m = f->series; m; m = m->next)
        *slot_of(f, m->labels) = m;
}

struct metric *metric_get(enum metric_kind kind, const char *name, const char *help, const char *labels)
{
    if (!labels)
        labels = "";
    pthread_mutex_lock(&mu);
    struct family *f = family_get(kind, name, help);
    if (f->count * 2 >= f->cap)
        family_grow(f);
    struct metric **at = slot_of(f, labels);
    if (!*at) {
        struct metric *m = mem_zalloc(sizeof(*m));
        m->labels = mem_str(slice_str(labels));
        m->histogram = kind == METRIC_HISTOGRAM;
        m->next = f->series;
        f->series = m;
        f->count++;
        *at = m;
    }
    struct metric *m = *at;
    m->dropped = false;
    pthread_mutex_unlock(&mu);
    return m;
}

void metric_add(struct metric *m, double by)
{
    double old = atomic_load_explicit(&m->value, memory_order_relaxed);
    while (
        !atomic_compare_exchange_weak_explicit(&m->value, &old, old + by, memory_order_relaxed, memory_order_relaxed))
        ;
}

void metric_set(struct metric *m, double value)
{
    atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

void metric_observe(struct metric *m, double seconds)
{
    size_t i = 0;
    while (i < BOUNDS && seconds > bounds[i])
        i++;
    atomic_fetch_add_explicit(&m->counts[i], 1, memory_order_relaxed);
    metric_add(m, seconds);
}

double metric_value(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

void metric_drop(const char *name, const char *labels)
{
    pthread_mutex_lock(&mu);
    for (struct family *f = families; f; f = f->next) {
        if (strcmp(f->name, name) != 0 || !f->cap)
            continue;
        struct metric *m = *slot_of(f, labels ? labels : "");
        if (m) {
            m->dropped = true; /* handles stay valid */
            metric_set(m, 0);
        }
    }
    pthread_mutex_unlock(&mu);
}

static void print_number(struct buf *out, double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        buf_fmt(out, "%lld\n", (long long)v);
    else
        buf_fmt(out, "%.17g\n", v);
}

static void print_series(struct buf *out, const struct family *f, struct metric *m)
{
    const char *sep = m->labels[0] ? "," : "";

    if (f->kind != METRIC_HISTOGRAM) {
        buf_fmt(out, m->labels[0] ? "%s{%s} " : "%s%s ", f->name, m->labels);
        print_number(out, metric_value(m));
        return;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i <= BOUNDS; i++) {
        sum += atomic_load_explicit(&m->counts[i], memory_order_relaxed);
        if (i < BOUNDS)
            buf_fmt(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", f->name, m->labels, sep, bounds[i],
                    (unsigned long long)sum);
        else
            buf_fmt(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", f->name, m->labels, sep, (unsigned long long)sum);
    }
    buf_fmt(out, m->labels[0] ? "%s_sum{%s} %.9g\n" : "%s_sum%s %.9g\n", f->name, m->labels, metric_value(m));
    buf_fmt(out, m->labels[0] ? "%s_count{%s} %llu\n" : "%s_count%s %llu\n", f->name, m->labels,
            (unsigned long long)sum);
}

void metrics_print(struct buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    pthread_mutex_lock(&mu);
    for (struct family *f = families; f; f = f->next) {
        buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, kinds[f->kind]);
        for (struct metric *m = f->series; m; m = m->next)
            if (!m->dropped)
                print_series(out, f, m);
    }
    pthread_mutex_unlock(&mu);
}

void metric_label(struct buf *out, const char *key, slice value)
{
    if (out->len)
        buf_byte(out, ',');
    buf_fmt(out, "%s=\"", key);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == '\\' || c == '"')
            buf_byte(out, '\\');
        if (c == '\n')
            buf_str(out, "\\n");
        else
            buf_byte(out, c);
    }
    buf_byte(out, '"');
}
