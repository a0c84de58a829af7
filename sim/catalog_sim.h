/* catalog_sim.h: what the catalog's worlds share: catalog_sim.c runs them by chance, catalog_script.c by scripts. */
#pragma once
#include "catalog/catalog_int.h"
#include "sim/bucket.h"
#include "sim/sim.h"

#define NODES_MAX 4
#define NAMES 3
#define HOUR_US SIM_HOUR

struct row {
    struct sim_row row;
    struct sid sid;
    unsigned name;
};
struct segment {
    bool sealed;
    struct row *rows;
    size_t count, cap;
};
struct disk { /* a WAL: what survives any crash */
    struct lane_identity header;
    struct segment *segments; /* number is index + 1 */
    size_t count, cap;
    unsigned attached; /* counts owners: an older one gets ERR_IO */
};
struct cw { /* the world of this workload */
    struct world *world;
    struct sim_store *store;
    struct bucket *bucket;
    struct cnode *nodes[NODES_MAX];
    unsigned nodes_count;
    struct disk **disks;
    size_t disks_count, disks_cap;
    uint64_t rows;
    bool stop, quiet; /* quiet: no faults any more, so every call must succeed */
    uint32_t shards;
    int64_t pace_us, fence_us;
    struct waitq rounds; /* fibers that did their share of this step */
    uint64_t round;
    unsigned weights[16]; /* of maintenance */
    unsigned drops;       /* permille of client operations */
    unsigned naps;        /* permille of maintenance rounds that stop half way for hours */
};
struct cnode {
    struct cw *cw;
    struct sim_node *node;
    struct disk *disk;
    struct proc *proc;
};
struct proc { /* one start of a node */
    struct cw *cw;
    struct cnode *n;
    struct os *os;
    struct store *store;
    struct catalog *cat;
    struct disk *disk;
    unsigned attached;
    uint64_t committed, segments_max; /* what a process that lost its disk may still know of */
    unsigned visible;
    bool ready, stop, final_ok, unclear;
    struct fiber *fibers[4];
};

enum duty { DUTY_FOLD, DUTY_GC, DUTY_RECONCILE, DUTY_COMPACT, DUTY_EXPIRE, DUTY_REPORT, DUTY_SCRUB, DUTIES };
extern const char *const names[NAMES];

struct cw *cw_new(struct world *w);
struct cnode *cw_add_node(struct cw *cw); /* down, with an empty disk */
/* Faults off, everybody stopped, held requests land; then every disk is flushed, one node cleans up, and all is compared. */
void cw_finish(struct cw *cw);
struct proc *proc_start(struct cnode *n, void (*fn)(void *arg));
void proc_main(void *arg); /* opens, then ingests, flushes and maintains until told to stop */
bool proc_open(struct proc *p, struct err *err);
void disk_move(struct cnode *from, struct cnode *to, void (*fn)(void *arg));
enum err_code flush(struct proc *p, struct err *err);
void ingest(struct proc *p, unsigned name);
void query(struct proc *p, unsigned name);
enum err_code duty(struct proc *p, enum duty what, struct catalog_work *w, struct err *err);
void check_rc(struct proc *p, const char *what, enum err_code rc, const struct err *err);
