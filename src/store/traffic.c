/* traffic.c: see traffic.h. */
#include "store/traffic.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/metrics.h"

#include "base/banned.h"

#define OPERATIONS 4
#define CLASSES 6

static const char *const operations[OPERATIONS] = {"put", "list", "get", "delete"};
static const double dollars[OPERATIONS] = {5e-6, 5e-6, 4e-7, 0};
static const char *const parties[] = {"server", "queries"};
static const char *const classes[CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

static _Atomic uint64_t asked[OPERATIONS], billed[OPERATIONS], sent_bytes, received_bytes; /* of this process */

enum traffic_operation traffic_operation(const char *method, bool bucket)
{
    if (strcmp(method, "DELETE") == 0 || (strcmp(method, "POST") == 0 && bucket)) /* of many keys in one */
        return TRAFFIC_DELETE;
    if (strcmp(method, "GET") == 0)
        return bucket ? TRAFFIC_LIST : TRAFFIC_GET;
    return strcmp(method, "HEAD") == 0 ? TRAFFIC_GET : TRAFFIC_PUT;
}

static struct metric *requests(enum traffic_operation op, enum traffic_by by, size_t class)
{
    char labels[96];

    (void)snprintf(labels, sizeof(labels), "operation=\"%s\",by=\"%s\",status=\"%s\"", operations[op], parties[by],
                   classes[class]);
    return metric_get(METRIC_COUNTER, "sluice_store_requests_total",
                      "Requests to the object store, by what they are billed as, who made them, and the class of the "
                      "answer; none: no answer",
                      labels);
}

static struct metric *cost(enum traffic_operation op)
{
    char labels[40];

    (void)snprintf(labels, sizeof(labels), "operation=\"%s\"", operations[op]);
    return metric_get(METRIC_COUNTER, "sluice_store_cost_dollars_total",
                      "What these requests cost, estimated at the list price of large clouds", labels);
}

static struct metric *bytes(bool sent, enum traffic_by by)
{
    char labels[40];

    (void)snprintf(labels, sizeof(labels), "by=\"%s\"", parties[by]);
    return sent ? metric_get(METRIC_COUNTER, "sluice_store_sent_bytes_total",
                             "Bytes of bodies sent to the object store", labels)
                : metric_get(METRIC_COUNTER, "sluice_store_received_bytes_total",
                             "Bytes of bodies received from the object store", labels);
}

void traffic_requests(enum traffic_operation op, enum traffic_by by, long status, uint64_t count)
{
    size_t class = status >= 100 && status < 600 ? (size_t)status / 100 : 0;

    metric_add(requests(op, by, class), (double)count);
    atomic_fetch_add_explicit(&asked[op], count, memory_order_relaxed);
    if (class < 2 || class > 4)
        return;
    metric_add(cost(op), dollars[op] * (double)count);
    atomic_fetch_add_explicit(&billed[op], count, memory_order_relaxed);
}

void traffic_bytes(enum traffic_by by, uint64_t sent, uint64_t received)
{
    metric_add(bytes(true, by), (double)sent);
    metric_add(bytes(false, by), (double)received);
    atomic_fetch_add_explicit(&sent_bytes, sent, memory_order_relaxed);
    atomic_fetch_add_explicit(&received_bytes, received, memory_order_relaxed);
}

void traffic_json(struct buf *out)
{
    double spent = 0;

    buf_byte(out, '{');
    for (size_t op = 0; op < OPERATIONS; op++) {
        buf_fmt(out, "\"%s\":%" PRIu64 ",", operations[op], atomic_load_explicit(&asked[op], memory_order_relaxed));
        spent += dollars[op] * (double)atomic_load_explicit(&billed[op], memory_order_relaxed);
    }
    buf_fmt(out, "\"sentBytes\":%" PRIu64 ",\"receivedBytes\":%" PRIu64 ",\"dollars\":%.6f}",
            atomic_load_explicit(&sent_bytes, memory_order_relaxed),
            atomic_load_explicit(&received_bytes, memory_order_relaxed), spent);
}
