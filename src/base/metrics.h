/* metrics.h: counters, gauges and histograms of this process, printed as Prometheus text 0.0.4.
 *
 * Register once (static storage duration of `name` and `help`), keep the handle, bump it from any thread: a bump is one
 * relaxed atomic add. Labelled series are looked up by their label text under a lock, so keep the handle where it is
 * hot. Handles live until the process ends. THREADS any. */
#pragma once
#include "base/buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
struct metric; /* one series */

/* `labels` is the text between the braces, e.g. "stream=\"app\",format=\"json\"", or NULL. The same (name, labels)
 * gives the same handle. Histograms are in seconds with fixed bounds 1 ms .. 60 s. */
struct metric *metric_get(enum metric_kind kind, const char *name, const char *help, const char *labels);
void metric_add(struct metric *m, double by);
void metric_set(struct metric *m, double value);
void metric_observe(struct metric *m, double seconds);
double metric_value(const struct metric *m);
void metric_drop(const char *name, const char *labels); /* forget a series, e.g. of a deleted stream */
void metrics_print(struct buf *out);                    /* families sorted by name */
/* Escapes a label value into `out`: backslash, quote, newline. */
void metric_label(struct buf *out, const char *key, slice value);
