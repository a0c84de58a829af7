/* catalog_int.h: what the files of this room share.
 *
 *   cluster.c  the store as a whole
 *   catalog.c  open, close, the tables of streams; create, drop, configure, evolve
 *   view.c     stream_version: what a snapshot sees; plan.c, prune.c: which files of it
 *   session.c  our lane: OPEN, DATA, SEAL          lanes.c  reading lanes of everybody, checkpoints
 *   news.c     which heads moved: what a checkpoint says of it, and what is read anew after one
 *   damage.c   streams out of service           nodes.c   who else is there, and what they deleted
 *   fold.c     lane records into heads              gc.c, reconcile.c, compact.c, index.c, expire.c, report.c  maintenance
 *
 * IN MEMORY  A stream has its newest known head and the entries of lane records that this head does not cover (`unfolded`); a version
 * is the two together, made anew under `mu` whenever one changes. A lane has `pos`: every record up to it stands in the streams' lists
 * (or is covered by their heads). Our own lane's pos moves in catalog_commit(), in the same critical section in which the stage lets go
 * of the rows; other lanes' in lane_load().
 *
 * HELD  Another folder may fold our record before our commit has returned. A head that covers a slot of our lane above pos is
 * not shown yet (stream->held): the stage still shows those rows. The commit shows it. Only while our lane is lane_busy().
 *
 * BARE  Who creates a stream appends its LIVE name slot and nothing else: head 0 follows from that slot's bytes, so whoever loads the stream
 * knows it without asking. Head 0 is written, by whoever comes first, before the next head or the first other object of the incarnation
 * (catalog_anchor()): where other objects stand and no head does, heads were lost.
 *
 * DUTIES  catalog_fold() runs beside the other rounds of maintenance: it is what shows others' rows here, and a merge takes a minute. Those others
 * one task calls, one after the other: what they keep from round to round (compact_at to uploads_us, bad_inputs) has no lock, and compact.c
 * takes a claim of this start that it meets between rounds for one that nobody works for. To a fold, and to the tasks that evolve, create
 * and drop, they are what the same rounds of another node would be, as all that is decided is decided by slots; besides
 *   - shards and stale belong to the gate "fold". gc looks at them inside it, once, and sees checkpoints that stand in the store
 *   - heads are edited inside their gates, each edit on the newest; a merge is between two edits, so that no fold waits for one, but an
 *     upload of filters is in one
 *   - head, version and damage of a stream change at any time: looked at under mu, used by reference
 *   - names of objects come from random numbers, never from counters
 *   - what gc deletes, a fold may be reading: it takes a slot that is missing for one that was collected, and looks again (lanes.c, GHOSTS)
 *
 * LOCKS  mu guards all of struct catalog that is not constant, and is never held across IO. A gate is a named section across IO (one
 * append per sequence and process): tasks wait for it on `cond`. Order: gate "session" or "fold", then a name's, then a head's. */
#pragma once
#include "catalog/append.h"
#include "catalog/catalog.h"
#include "catalog/head.h"
#include "os/parallel.h"

struct lane {
    char name[24];
    uint64_t pos; /* SLOT_NONE: nothing read */
};
struct unfolded {
    const struct lane *lane;
    uint64_t slot;
    struct entry *entry;
};
struct stream {
    uint32_t refs;
    struct sid sid;
    char *name;
    uint64_t name_slot; /* its LIVE slot: of two incarnations the later one has the higher */
    struct head *head;
    struct unfolded *unfolded; /* in slot order per lane */
    size_t unfolded_count, unfolded_cap;
    struct stream_version *version; /* NULL once dead */
    bool held, dead;
    uint64_t record_round; /* news.c: records of it were read, last in this round of the fold; 0: all are told */
    bool head_moved;       /* news.c: by us, for another reason than a record */
    char *damage;          /* why it is out of service (no version then), or NULL; head may be NULL */
    uint64_t compact_slot; /* compaction found nothing to gain in this head */
    int64_t compact_after_us;
    uint64_t index_slot; /* the same of filters */
    int64_t index_after_us;
};
struct carried {
    char wal_id[33];
    uint64_t segment;
};
struct carried_list {
    struct carried *items;
    size_t count, cap;
};
struct session { /* changed only inside the gate "session", and under mu */
    bool open, appending;
    bool undecided; /* an append without an answer: the same lane is OPENed next */
    bool lost;      /* fenced, and no other lane taken yet */
    struct lane *lane;
    char spare[24]; /* taken after a fencing, and not named in the header yet */
    struct nonce nonce;
    struct seq_tail tail;
    struct carried_list carried; /* of the tail */
    uint64_t committed;          /* highest segment of wal_id known to be committed */
    char wal_id[33];
    uint64_t base, upto; /* of lane_identity */
    bool cloned, forked;
    struct nonce *mine; /* every session of this process */
    size_t mine_count, mine_cap;
    enum err_code (*header)(void *arg, const struct lane_identity *id, struct err *err);
    void *header_arg;
    struct buf old_stem; /* mutant 16 only */
};
struct node_seen {
    char *key;
    int64_t first_us; /* monotonic */
};
struct shard {
    struct seq_tail tail;
    struct head_wm *pos; /* lanes and their folded slots in the tail checkpoint; texts owned */
    size_t pos_count, pos_cap;
};
struct stale { /* a checkpoint of another folder was read, these heads were not read anew yet */
    bool all;
    struct sid *sids; /* some of them twice */
    size_t count, cap;
};
struct catalog {
    struct os *os;
    struct store *store;
    struct seq_io io;
    uint32_t shards_count;
    char cluster[27];
    struct buf probe; /* of catalog_probe() */
    int64_t snapshot_retention_us, fence_us;
    int64_t
        validated_us; /* under mu: every name in by_name was LIVE then, or nobody else could have deleted it; monotonic */
    int64_t beat_us;              /* under mu: the last registration; monotonic */
    int64_t alive_since_us;       /* under mu: others have counted us as living since; monotonic; 0: never yet */
    bool registered;              /* under mu: with the lane that we have */
    struct node_seen *nodes_seen; /* under mu: registrations of others */
    size_t nodes_seen_count;
    char node_id[64];
    char *endpoint, *temp_dir;
    struct os_mutex *mu;
    struct os_cond *cond;
    struct map gates;   /* names of sections entered */
    struct map by_name; /* -> struct stream; live ones */
    struct map by_sid;
    struct map bad_names;  /* -> struct bad_name: their slot cannot be read */
    struct map told;       /* damage that was reported; key and value are its text */
    struct map bad_inputs; /* -> struct bad_input of compact.c: files that it leaves alone; one task at a time */
    catalog_damage_fn on_damage;
    void *damage_arg;
    struct lane **lanes;
    size_t lanes_count, lanes_cap;
    struct session session;
    struct shard *shards; /* inside the gate "fold" */
    struct stale stale;   /* the same gate */
    uint64_t fold_round;  /* under mu: from 1 */
    uint64_t news_told;   /* under mu: looks at checkpoints of others that found one */
    uint32_t filters_min;
    size_t compact_at,
        index_at;  /* one task at a time calls catalog_compact(), catalog_index(), catalog_scrub(), catalog_gc() */
    char boot[33]; /* names this start of the node in its claims */
    int64_t compact_since_us; /* the same task: its first round, by the store's clock; 0: none yet */
    size_t scrub_stream, scrub_file;
    struct sid gc_after;
    int64_t uploads_us; /* the same task: when unfinished uploads were looked for; monotonic, 0 never */
};

/* cluster.c: reads the tail of .sluice/cluster, or makes the first slot. */
#define SHARDS_MAX 256u
MUST_CHECK enum err_code cluster_open(struct catalog *cat, const struct catalog_options *opt, struct err *err);

void gate_enter(struct catalog *cat, slice name);
void gate_leave(struct catalog *cat, slice name);

/* ---- streams (catalog.c) */
struct stream *stream_get(struct catalog *cat, const struct sid *sid); /* a reference, or NULL */
struct stream *stream_ref(struct catalog *cat, struct stream *s);
void stream_unref(struct catalog *cat, struct stream *s);
/* References to all streams, in the order of their sids; free() the array after unref of each. */
struct stream **streams_all(struct catalog *cat, size_t *count);
void streams_release(struct catalog *cat, struct stream **all, size_t count);
/* Under mu: makes the version from head and unfolded, unless held. */
void stream_rebuild(struct catalog *cat, struct stream *s);
void streams_unhold(struct catalog *cat); /* under mu: versions that waited for our lane's pos (HELD) */
/* Takes over the reference when the head is newer than the known one. */
void stream_install(struct catalog *cat, struct stream *s, struct head *h);
MUST_CHECK enum err_code stream_reload(struct catalog *cat, struct stream *s,
                                       struct err *err); /* the tail head, from the store */
/* The stream of a record: cached, or its name is LIVE with this sid. *out NULL: neither. */
MUST_CHECK enum err_code stream_of_record(struct catalog *cat, slice name, const struct sid *sid, struct stream **out,
                                          struct err *err);
void stream_forget(struct catalog *cat, struct stream *s);
/* Edits a copy of the tail head and appends it; again when another was first. `edit` may do IO; leaves *changed false: nothing to do.
 * ERR_NOT_FOUND: the incarnation is dead. */
typedef enum err_code (*head_edit_fn)(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err);
MUST_CHECK enum err_code head_update(struct catalog *cat, struct stream *s, head_edit_fn edit, void *arg,
                                     struct err *err);
void stream_dir_put(struct buf *out, slice name, const struct sid *sid); /* "<enc-name>/<sid>/" */
/* The newest names: the tail slot's state. */
struct name_state {
    uint64_t slot; /* SLOT_NONE: never used */
    struct nonce nonce;
    bool live;
    struct sid sid;
};
MUST_CHECK enum err_code name_state_get(const struct slot *s, struct name_state *out, struct err *err);
/* Appends the DEAD head of an incarnation that is dead by name. */
MUST_CHECK enum err_code head_kill(struct catalog *cat, struct stream *s, struct err *err);

/* The tail of a name, and its stream if it is LIVE: damage.c looks again with it. */
MUST_CHECK enum err_code name_pull(struct catalog *cat, slice name, uint64_t listed, struct name_state *state,
                                   struct stream **out, struct err *err);

/* ---- nodes.c */
void nodes_seen_done(struct node_seen *items, size_t count);
MUST_CHECK enum err_code node_beat(struct catalog *cat, struct err *err);
MUST_CHECK enum err_code nodes_others(struct catalog *cat, size_t *out,
                                      struct err *err); /* registered nodes that are alive, but for us */
/* The same, to be asked about; nodes_seen_done() when done. */
MUST_CHECK enum err_code nodes_living(struct catalog *cat, struct node_seen **out, size_t *count, struct err *err);
bool node_lives(const struct node_seen *living, size_t count, slice node_id);
/* Of work that any node could do, and that two need not: is it ours? The others that live are asked by nobody; each reckons the same. */
bool nodes_turn(const struct catalog *cat, const struct node_seen *living, size_t count, const struct sid *sid);
struct name_tail {
    char *enc;
    uint64_t tail; /* slot */
};
struct name_tails {
    struct catalog *cat;
    struct name_tail *items;
    size_t count, cap;
};
MUST_CHECK enum err_code names_list(struct catalog *cat, struct name_tails *out, struct err *err); /* of the store */
void name_tails_done(struct name_tails *t);
/* Lanes that living nodes say they own. *unsure: one of them cannot be read. */
struct lane_owned {
    char (*names)[24];
    size_t count, cap;
    bool unsure;
};
MUST_CHECK enum err_code nodes_lanes(struct catalog *cat, struct lane_owned *out, struct err *err);
/* ERR_UNAVAILABLE: the DEAD slot `state` is younger than the fence. */
MUST_CHECK enum err_code fence_check(struct catalog *cat, slice name, const struct name_state *state, struct err *err);

/* ---- damage.c */
/* Is this what reading one object answers when the object, not the store, is at fault? */
static inline bool is_damage(enum err_code rc)
{
    return rc == ERR_CORRUPT || rc == ERR_INVALID;
}
/* seq_read_tail() of what belongs to one stream: ERR_CORRUPT also where the disk does not read the slot (ERR_IO), if the store takes and syncs
 * a new object in the same moment. */
MUST_CHECK enum err_code tail_read(struct catalog *cat, slice seq, enum slot_type type, uint64_t listed,
                                   struct slot *out, struct err *err);
void stream_quarantine(struct catalog *cat, struct stream *s, const struct err *why);
bool stream_damaged(struct catalog *cat, const struct stream *s);
/* ERR_CORRUPT and why, if it is out of service. */
MUST_CHECK enum err_code stream_check(struct catalog *cat, const struct stream *s, struct err *err);
void name_quarantine(struct catalog *cat, slice name, const struct err *why);
bool name_bad(struct catalog *cat, slice name);
void name_good(struct catalog *cat, slice name);
/* Part of a stream is out of reach: told once. */
void damage_note(struct catalog *cat, slice stream, const char *why);
/* manifest_load() of a head; *whole false: it is damaged or missing, and noted. */
MUST_CHECK enum err_code manifest_try(struct catalog *cat, const struct head *h, struct manifest *m,
                                      const struct slm **out, bool *whole, struct err *err);
/* compact.c */
void bad_inputs_done(struct catalog *cat);
/* Checks the file of an entry, whose key in->key is, and where the store is remote takes a copy of it: in->copy, to be closed also after an error.
 * ERR_CORRUPT: it is damaged or missing, and noted as such. */
MUST_CHECK enum err_code input_take(struct catalog *cat, const struct entry *e, struct merge_input *in,
                                    struct err *err);
/* Looks again at all that is out of service. */
void damage_retry(struct catalog *cat);
void quarantine_done(struct catalog *cat);

/* ---- versions (view.c) */
struct stream_version {
    _Atomic uint32_t refs;
    struct store *store;
    struct head *head;
    struct entry_list tail; /* unfolded */
    struct stream_stats stats;
};
struct stream_version *version_new(struct store *store, struct head *head, const struct unfolded *u, size_t n);

/* ---- lanes (lanes.c) */
struct record_file {
    struct sid sid;
    struct stream *stream; /* reference, or NULL: dropped */
    struct entry *entry;
};
struct record {
    uint64_t slot;
    struct record_file *files;
    size_t count, cap;
};
struct records {
    struct record *items;
    size_t count, cap;
};
void records_done(struct catalog *cat, struct records *r);
struct lane *lane_get(struct catalog *cat, slice name); /* under mu; made when new */
/* Decodes one lane record. */
MUST_CHECK enum err_code record_get(struct catalog *cat, const struct slot *s, struct record *out, struct err *err);
/* Reads the records of (lane->pos, upto], where upto is on the lane's chain; pos moves over what is folded and may be gone. Takes the
 * gate "fold". */
MUST_CHECK enum err_code lane_catch_up(struct catalog *cat, struct lane *lane, uint64_t upto, struct records *out,
                                       struct err *err);
/* Under mu: adds them to their streams, moves pos, makes versions. */
void records_apply(struct catalog *cat, struct lane *lane, const struct records *r);
/* All lanes of the bucket, read as far as they go, with the check that what was read is genuine (R11). Inside the gate "fold". */
MUST_CHECK enum err_code lanes_load(struct catalog *cat, struct err *err);
/* After another folder's checkpoint: heads moved under our versions. */
MUST_CHECK enum err_code heads_reload(struct catalog *cat, struct err *err);
MUST_CHECK enum err_code lanes_list(struct catalog *cat, bool (*fn)(void *arg, slice lane), void *arg, struct err *err);
/* Reads the tail checkpoint of a shard anew if there is one above the known. *moved: there was. */
MUST_CHECK enum err_code shard_refresh(struct catalog *cat, uint32_t shard, bool *moved, struct err *err);
/* Our lane, and an append of ours there whose outcome the stage was not told yet: nothing above pos may be shown before that, and what
 * stands there may be a ghost when we were fenced long ago. Then the lane is left alone. Under mu. */
bool lane_busy(const struct catalog *cat, const struct lane *lane);
uint64_t shard_pos(const struct shard *s, slice lane);
bool carried_get(const struct slot *s, slice wal_id, uint64_t *segment);
/* An OPEN of our own WAL by another process: a copy of our disk. *upto: the last segment that it has. Under mu, or in the gate. */
bool session_is_twin(const struct catalog *cat, const struct slot *s, uint64_t *upto);

/* ---- news.c */
struct news { /* what a checkpoint tells of */
    struct news_item {
        struct stream *stream;
        bool moved; /* for another reason than a record */
    } * items;
    size_t count, cap;
    bool moved; /* one of them */
};
void news_record(const struct catalog *cat, struct stream *s); /* under mu: a record names it */
void news_head(struct catalog *cat, struct stream *s);         /* its head was appended to by us, not for a record */
/* Under mu, as the positions of the next checkpoints are taken: the number of the round, for news_end(). */
uint64_t news_round(struct catalog *cat);
/* The streams of a shard, out of `all`, that the next checkpoint has to name; before its append. */
void news_take(struct catalog *cat, uint32_t shard, struct stream **all, size_t count, struct news *out);
bool news_fit(const struct news *n);                  /* else the checkpoint names none, which means all */
void news_put(const struct news *n, struct buf *out); /* as JSON */
/* After it. written false: it is not in the store, or does not cover all that was read up to `round`. */
void news_end(struct catalog *cat, struct news *n, bool written, uint64_t round);
/* A new tail was found: takes what it names, and what those between name, into cat->stale. */
MUST_CHECK enum err_code news_read(struct catalog *cat, slice seq, const struct seq_tail *known,
                                   const struct slot *tail, struct err *err);
uint64_t news_told(struct catalog *cat); /* another number: what was read of a stream that is in no table may be old */
struct stream **news_streams(struct catalog *cat, size_t *count); /* of cat->stale; for streams_release() */
void stale_clear(struct stale *s);
void stale_merge(struct stale *to, struct stale *from); /* empties `from` */

/* ---- fold.c: moves inline entries into manifests when there are too many; before the head's append. */
MUST_CHECK enum err_code head_spill(struct catalog *cat, struct head *h, struct err *err);

/* ---- reconcile.c: "<enc-name>/<sid>/", and what the sequence of the name says of it */
struct incarnations { /* all directories of that depth, in the order of their names */
    char **items;
    size_t count, cap;
    struct storage_class stray; /* objects beside them */
};
static inline void storage_count(struct storage_class *c, uint64_t bytes)
{
    c->objects++;
    c->bytes += bytes;
}
MUST_CHECK enum err_code incarnations_list(struct catalog *cat, struct incarnations *out, struct err *err);
void incarnations_done(struct incarnations *l);
enum name_fate { FATE_UNKNOWN, FATE_LIVE, FATE_DEAD };
bool incarnation_parse(slice prefix, struct buf *name, struct sid *sid);
MUST_CHECK enum err_code incarnation_fate(struct catalog *cat, slice name, const struct sid *sid, enum name_fate *out,
                                          struct err *err);
