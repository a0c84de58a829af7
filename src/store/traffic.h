/* traffic.h: requests to object stores, counted as they are billed, and what they cost at list price: metrics, and a summary for people.
 *
 *   sluice_store_requests_total{operation,by,status}  sluice_store_{sent,received}_bytes_total{by}  sluice_store_cost_dollars_total{operation}
 *
 * PRICE  S3 Standard, Azure's hot tier and Google's standard class ask the same in their cheapest regions: 5 dollars a million for what
 *   writes or lists, 0.40 for what reads, nothing for a delete. Answers 5xx, and none, are free. Storage, and traffic that leaves the
 *   region, come on top. It is an estimate: whoever has other prices multiplies the counts.
 * THREADS  any. */
#pragma once
#include "base/buf.h"

enum traffic_operation { TRAFFIC_PUT, TRAFFIC_LIST, TRAFFIC_GET, TRAFFIC_DELETE };
enum traffic_by {
    TRAFFIC_SERVER,  /* the store's own client */
    TRAFFIC_QUERIES, /* engines: ranges of files */
};
/* What an HTTP request counts as: HEAD reads, a POST writes. `bucket`: it is about the bucket, not about one key. */
enum traffic_operation traffic_operation(const char *method, bool bucket);
/* status 0: there was no answer. */
void traffic_requests(enum traffic_operation op, enum traffic_by by, long status, uint64_t count);
void traffic_bytes(enum traffic_by by, uint64_t sent, uint64_t received);
/* {"put":1,"list":2,"get":3,"delete":4,"sentBytes":5,"receivedBytes":6,"dollars":0.000016} of this process so far. */
void traffic_json(struct buf *out);
