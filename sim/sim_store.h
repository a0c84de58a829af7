/* sim_store.h: one object store shared by the nodes of a world. Create, read, list and remove take effect at one instant
 * (that is what catalog.md section 3 requires of a store); everything around that instant goes wrong by the seed:
 * the answer is lost; the request is held for seconds or hours and lands long after its sender timed out, crashed or was
 * fenced; it is sent twice; it is refused; the sender waits hours for its answer; a LIST is cut into pages between which
 * others write; the store's clock jumps; a node is cut off.
 * The checker reads objects directly and is told of each create and remove in the instant in which it takes effect.
 * THREADS  one. */
#pragma once
#include "sim/world.h"
#include "store/store.h"

struct sim_store;
struct sim_object {
    slice key, bytes;
    int64_t modified_us;                /* the store's clock */
    uint64_t number;                    /* of its creation, over all objects */
    const struct sim_node *volatile_on; /* published without a sync: a power cut of this node may take it */
};
struct sim_store_faults {  /* permille of creates and removes */
    slice only;            /* of keys with this prefix; refusals are for all */
    unsigned lost;         /* done, ERR_UNKNOWN */
    unsigned held;         /* ERR_UNKNOWN now, done later */
    unsigned stalled;      /* done later, and the caller waits for it */
    unsigned doubled;      /* done, and once more later */
    unsigned in_flight;    /* done within a second: its sender may crash meanwhile */
    unsigned refused;      /* ERR_UNAVAILABLE; of reads and lists too */
    int64_t hold_us_max;   /* how long held and stalled ones may take */
    unsigned page_max;     /* keys in a page of a LIST */
    unsigned parallel;     /* store.h: of the clients that are made from now on */
    bool volatile_uploads; /* an upload published without sync may be lost with its node: a store on a local disk */
};
struct sim_store *sim_store_new(struct world *w);
struct sim_store_faults *sim_store_faults(struct sim_store *st);
void sim_store_clock_jump(struct sim_store *st, int64_t by_us);
int64_t sim_store_now(const struct sim_store *st);
/* What one process on node n uses. */
struct store *sim_store_client(struct sim_store *st, struct sim_node *n);
/* While set, store_local_open() of a node gives a client of this store instead (the linker sends it here). */
extern struct sim_store *sim_store_instead;
void sim_store_crashed(struct sim_store *st, const struct sim_node *n); /* power cut: takes volatile uploads */

/* ---- the checker's view */
const struct sim_object *sim_store_find(const struct sim_store *st, slice key);
size_t sim_store_count(const struct sim_store *st);
const struct sim_object *sim_store_at(const struct sim_store *st, size_t index); /* in key order */
size_t sim_store_lower(const struct sim_store *st, slice key);                   /* first index with key >= */
enum sim_store_event { SIM_CREATED, SIM_REMOVING /* it is still there */ };
void sim_store_watch(struct sim_store *st, void (*fn)(void *arg, enum sim_store_event e, const struct sim_object *o),
                     void *arg);
void sim_store_damage(struct sim_store *st, slice key, size_t at); /* flips a byte */
