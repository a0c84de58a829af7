/* append.h: sequences of slots: finding the tail, reading, and the one append function of catalog.md section 4.
 *
 * R1  An append without a definite answer is repeated with the same bytes at the same slot, until the store decides. It gives up
 *     only while nothing can have happened (ERR_UNAVAILABLE, ERR_LIMIT), or when the store refuses for good (ERR_IO): a lane must then
 *     be OPENed again before anything else, which decides the slot as a crash recovery would.
 * R2  A 2xx is not yet a commit: the LIST that follows it decides (ghost guard).
 * Tails are found by LIST, never by probing.
 * THREADS  any; one append per sequence and process at a time is the caller's business (catalog_int.h: gate). */
#pragma once
#include "catalog/names.h"
#include "os/os.h"
#include "store/store.h"

struct seq_io {
    struct os *os;
    struct store *store;
};
enum append_kind {
    APPEND_NAME, /* names are never collected: GET decides */
    APPEND_DATA, /* as others; a record that is on the chain but collected counts as lost, and `carried` says the rest (session.c) */
    APPEND_OPEN,  /* below the tail: fenced already */
    APPEND_OTHER, /* the next slot's prev_nonce decides */
};
struct seq_tail {
    uint64_t slot;      /* SLOT_NONE: the sequence is empty */
    struct nonce nonce; /* of that slot */
};
struct append {
    slice seq; /* prefix */
    enum append_kind kind;
    enum slot_type type;
    struct seq_tail tail; /* that the body was computed from */
    struct nonce nonce;   /* names this append; made before the first PUT */
    slice body;
};
void seq_nonce(const struct seq_io *io, struct nonce *out);
/* Highest slot after `after` (SLOT_NONE: of all); *out SLOT_NONE when there is none. */
MUST_CHECK enum err_code seq_find_tail(const struct seq_io *io, slice seq, uint64_t after, uint64_t *out,
                                       struct err *err);
MUST_CHECK enum err_code seq_read(const struct seq_io *io, slice seq, enum slot_type type, uint64_t slot,
                                  struct slot *out, struct err *err);
/* Tail and its contents; out->body NULL and seq SLOT_NONE when the sequence is empty. */
MUST_CHECK enum err_code seq_read_tail(const struct seq_io *io, slice seq, enum slot_type type, struct slot *out,
                                       struct err *err);
/* The same. `listed`: the tail as a LIST told it a moment ago, which is not asked again; or SLOT_NONE. *of_object: an error is of reading the
 * slot, not of the LIST that found it. */
MUST_CHECK enum err_code seq_read_tail_at(const struct seq_io *io, slice seq, enum slot_type type, uint64_t listed,
                                          struct slot *out, bool *of_object, struct err *err);
/* ERR_OK: committed at tail.slot + 1. ERR_CONFLICT: lost. ERR_UNAVAILABLE, ERR_LIMIT: nothing happened. Others: see R1. */
MUST_CHECK enum err_code seq_append(const struct seq_io *io, const struct append *a, struct err *err);
