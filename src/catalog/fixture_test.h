/* fixture_test.h: for unit tests: one process with a catalog over a directory, on a machine whose clocks a test can set forward. What fails in
 * it fails the test that runs. */
#pragma once
#include "catalog/catalog_int.h"

#define HOUR INT64_C(3600000000)
#define T0 (INT64_C(492000) * HOUR) /* 2026-02-16T00:00:00Z */

struct node { /* one process: what survives is the directory and the identity */
    char dir[64];
    struct os *os;
    struct store *store;
    struct catalog *cat;
    struct lane_identity id;
    uint64_t committed;
    unsigned visible, headers;
};
extern int64_t skew_us, mono_skew_us; /* what was superseded an hour ago may be collected */
extern slice file_bytes;              /* what data files hold */
extern struct os_ops skewed_ops;      /* the calls of that machine */
struct os *os_skewed(void);
int node_setup(void **state);
int node_teardown(void **state);
void node_start_as(struct node *n, const char *node_id, bool session);
void node_start(struct node *n, bool session);
void node_stop(struct node *n);
enum err_code save_header(void *arg, const struct lane_identity *id, struct err *err);
struct sid create(struct node *n, const char *name);
/* Commits `count` files of one row in hour `hour`. */
enum err_code commit(struct node *n, const struct sid *sid, const char *name, int hour, unsigned count);
/* Makes a file of six bytes of any inputs that are there. */
enum err_code fake_merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                         struct os_file *out, struct segment_stats *stats, struct err *err);
/* For catalog_configure(): all of the settings at arg. */
void take_config(void *arg, struct stream_config *config);
void count_bad(void *arg, slice key, const char *why); /* for catalog_scrub(): arg is an unsigned */
