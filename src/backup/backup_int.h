/* backup_int.h: what the files of this room share.
 *
 *   place.c    reading catalogs and points, closing a place        copy.c   lists of objects, and threads that work them off
 *   backup.c   store -> place        restore.c   place -> store        verify.c, remove.c   place alone        imports.c   what was imported */
#pragma once
#include "backup/backup.h"

/* ---- copy.c */
struct job {
    slice key;
    uint64_t bytes; /* of a file */
    uint32_t crc32c;
    int type; /* enum slot_type; 0: a manifest or a data file */
    uint64_t slot;
    bool there; /* in the place where it goes: nothing to do */
};
struct jobs {
    struct arena arena;
    struct job *items;
    size_t count, cap;
    uint64_t files, bytes, rows; /* of cuts that were added */
};
void jobs_done(struct jobs *j);
/* The objects of a point whose cut has its versions; only the streams that `wanted` names (count 0: all). */
MUST_CHECK enum err_code jobs_add(struct jobs *j, const struct point *p, const slice *wanted, size_t wanted_count,
                                  struct err *err);
void jobs_sort(struct jobs *j); /* by key, each once */
/* Marks what `to` has. With another length than it should: removed there, and to be copied again. */
MUST_CHECK enum err_code jobs_mark(struct jobs *j, struct store *to, struct backup_totals *totals, struct err *err);
/* Calls `fn` for each job that is not `there`, env->parallel at a time. The first error ends it. */
typedef enum err_code (*job_fn)(void *arg, const struct job *job, struct err *err);
MUST_CHECK enum err_code jobs_run(const struct backup_env *env, const struct jobs *j, const char *what, job_fn fn,
                                  void *arg, struct err *err);
/* *gone: the error is that an object of `from` is not there any more. */
MUST_CHECK enum err_code jobs_copy(const struct backup_env *env, struct jobs *j, const char *what, struct store *from,
                                   struct store *to, struct backup_totals *totals, bool *gone, struct err *err);

/* ---- imports.c: a cut, and the records of imports that say of its rows what they are of, no more and no less */
MUST_CHECK enum err_code imports_cut(struct catalog *cat, struct store *from, struct point *out, struct err *err);

/* ---- place.c */
/* `backup`: the slot says that, with the store's id; `restore`: with the point's. */
struct place {
    uint64_t tail; /* of the cluster sequence; SLOT_NONE: there is none */
    struct nonce nonce;
    char backup_of[33];
    char restore_of[33]; /* nonce of the point; with `done`, it is a store now */
    bool done;
    struct buf streams; /* of the restore, as JSON text */
};
MUST_CHECK enum err_code place_look(const struct seq_io *io, struct place *out, struct err *err);
void place_done(struct place *p);
/* ERR_INVALID, and which, when there is any object. */
MUST_CHECK enum err_code place_empty(struct store *s, const char *what, struct err *err);
/* Appends a slot above `p`; ERR_CONFLICT: another was first. */
MUST_CHECK enum err_code place_append(const struct seq_io *io, const struct place *p, slice body, struct err *err);

/* A catalog that is only looked at. Damage of streams goes to `bad` (may be NULL). */
DEFINE_CLEANUP(struct catalog *, catalog_close)
MUST_CHECK enum err_code look_open(struct os *os, struct store *s, catalog_damage_fn bad, void *arg,
                                   struct catalog **out, struct err *err);
/* Tail of the sequence of points. ERR_CONFLICT: a removal has not ended. */
MUST_CHECK enum err_code points_tail(const struct seq_io *io, struct seq_tail *out, struct err *err);
/* Moves *tail to the sequence's tail. *removed: there was a removal in between. */
MUST_CHECK enum err_code points_since(const struct seq_io *io, struct seq_tail *tail, bool *removed, struct err *err);
/* Appends a slot to `tail`; its number. */
MUST_CHECK enum err_code points_append(const struct seq_io *io, const struct seq_tail *tail, slice body,
                                       struct nonce *nonce, struct err *err);
/* The numbers of the points of a place, ascending; free() it. ERR_INVALID: it is no place of backups. */
MUST_CHECK enum err_code points_list(const struct seq_io *io, uint64_t **out, size_t *count, struct err *err);
/* `number` SLOT_NONE: the newest. */
MUST_CHECK enum err_code point_read(const struct seq_io *io, uint64_t number, struct point *out, struct err *err);
void seq_points(struct buf *out);
/* Fills in the versions of the point's cut, from the place. *cat and *view must outlive it. */
MUST_CHECK enum err_code point_open(struct os *os, struct store *place, struct point *p, catalog_damage_fn bad,
                                    void *arg, struct store **view, struct catalog **cat, struct err *err);
