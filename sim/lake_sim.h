/* lake_sim.h: what the worlds of the whole lake share: lake_sim.c runs them, lake_codec.c stands in the place of the Parquet encoder. */
#pragma once
#include "sim/bucket.h"
#include "sim/sim.h"
#include "stage/lake.h"

#define LAKE_NODES_MAX 4
#define LAKE_NAMES 3

struct request;
struct lake_world {
    struct world *world;
    struct sim_store *store; /* NULL: store/local.c, on the node's own disk */
    struct bucket *bucket;   /* of `store` */
    struct lake_node *nodes[LAKE_NODES_MAX];
    unsigned nodes_count;
    struct request **requests;
    size_t requests_count, requests_cap;
    struct request **by_row; /* by row id */
    size_t rows_count, rows_cap;
    struct drop_op *drops;
    size_t drops_count, drops_cap;
    struct gone *gone;
    size_t gone_count, gone_cap;
    uint64_t clock;      /* counts what happens, for "before" and "after" */
    uint64_t sets;       /* of rows that were seen together */
    bool clones, cloned; /* a disk may get a twin; it has one */
    bool last;           /* everything is committed */
    bool quiet;          /* no faults any more: every call must succeed */
    bool pair;           /* two nodes, each with a disk of its own */
    bool background, retention, moves;
    unsigned drops_permille; /* of client operations */
    int64_t pace_us;
    struct waitq rounds; /* fibers that did their share of this step */
    uint64_t round;
    struct lake_options opt;
};
struct lake_node {
    struct lake_world *lw;
    struct sim_node *node;
    struct lake_proc *proc;
    bool owner;     /* has a disk that matters */
    bool power_cut; /* since the last start */
};
struct lake_proc { /* one start of a node */
    struct lake_world *lw;
    struct lake_node *n;
    struct os *os;
    struct lake *lake;
    struct sim_disk *disk;
    unsigned attached;
    uint64_t started; /* lake_world.clock */
    bool ready, stop, gave_up, ok;
    struct waitq answers;
    unsigned open, running; /* requests without an answer; fibers at work */
    struct fiber *main;
    struct store *files;
};

/* ---- lake_codec.c */
struct lake_proc *lake_proc_here(struct world *w);
/* Rows of a view that the stage shows; ids in the order of the rows. An allocation of the caller's. */
uint64_t *lake_view_ids(const struct schema *schema, const struct batch_view *v);
