/* fault.h: a struct os whose nth IO call fails, for loops over every n in tests (c-style.md, Tests).
 *
 * It passes everything to an inner os; once armed it counts the calls that the kind of fault can hit, from 0, and fails the nth
 * one, or that and all after it, without passing it on (FAULT_SHORT passes on the first half of the bytes). Clock, random, threads
 * and locks never fail. THREADS  any; arm and disarm from one. */
#pragma once
#include "os/os.h"

enum fault_kind {
    FAULT_IO,       /* any call with a path or a file but close and fd: ERR_IO */
    FAULT_SHORT,    /* pwritev and allocate: half is done, then ERR_IO */
    FAULT_NO_SPACE, /* what needs room (create, pwritev, allocate, mkdir, link, rename): ERR_LIMIT */
    FAULT_SYNC,     /* sync and sync_dir: ERR_IO */
    FAULT_NO_FILES, /* what takes a descriptor (open, list, sync_dir): ERR_LIMIT, EMFILE */
};
enum fault_mode { FAULT_ONCE, FAULT_FROM_THEN_ON };

struct os *os_fault_new(struct os *inner);
void os_fault_free(struct os *os); /* NULL is fine */
void os_fault_arm(struct os *os, enum fault_kind kind, unsigned nth, enum fault_mode mode);
bool os_fault_disarm(struct os *os); /* did it fire since it was armed? */
DEFINE_CLEANUP(struct os *, os_fault_free)
