/* sim.h: what sluice-sim runs: workloads, each a world from a seed. */
#pragma once
#include "sim/world.h"

struct workload {
    const char *name;
    /* Builds nodes in the empty world `w`, runs them, checks. World_failed() tells the result. */
    void (*run)(struct world *w);
    bool (*mutant)(unsigned k); /* is this the workload that must catch mutant k? NULL: none */
};
extern const struct workload workload_disk, workload_wal, workload_store, workload_catalog, workload_script,
    workload_lake;
extern const struct workload *const workloads[]; /* NULL at the end */
/* Which mutant the code under test is now, 0: none (src/base/mutant.h). */
extern unsigned sluice_mutant;
