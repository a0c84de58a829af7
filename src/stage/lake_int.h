/* lake_int.h: what the files of stage/ share.
 *
 *   lake_ingest ── decode ──▶ [stream.ingest_mu: resolve, WAL position, row ids] ──▶ WAL ──done──▶ stage_publish ──▶ acknowledged
 *   flush thread: seal ▶ wait for the segment's last acknowledgement ▶ evolve ▶ Parquet ▶ commit ▶ (under the catalog's snapshot
 *   lock) drop the rows ▶ release the segment
 *
 * LOCKS  in this order, none held across IO but ingest_mu (which orders one stream's appends: decode, never the disk):
 *   stream.ingest_mu -> catalog's snapshot lock -> stream.mu;   lake.mu and lake.event_mu are leaves (the WAL's own lock is below lake.mu) */
#pragma once
#include <stdatomic.h>

#include "base/map.h"
#include "base/metrics.h"
#include "base/ulid.h"
#include "stage/lake.h"

#define ROW_ID_SEGMENT_SHIFT 28 /* row id = WAL segment << 28 | ordinal of the row in (stream, segment) */
#define SMALL_BATCH_ROWS 64     /* requests up to this size are copied into the stream's open block */
#define OPEN_BLOCK_ROWS_MIN 16
#define OPEN_BLOCK_ROWS_MAX 4096
#define OPEN_BLOCK_BYTES_MAX (2u << 20) /* about; a row of a thousand columns has 17 KB */
#define OPEN_BLOCK_TEXT_BYTES 128       /* a row: how much of its arena may be unused; thousands of streams have one */
#define NAME_LOCKS 64
/* Columns shrink about 4x as Parquet: files of less than a quarter of this are called small, and a flush of many of them may wait for more rows. */
#define SMALL_KEY_BYTES (4u * 65536)
#define SEGMENT_KEYS_MAX 16384 /* distinct (stream, hour, partition) of one segment: one DATA record must hold them */

struct stage_group { /* rows of one stream from one WAL segment, oldest block first */
    uint64_t segment;
    struct batch **blocks;
    size_t count, cap;
    struct batch *open; /* last block, if it may be appended to */
    uint64_t rows, raw_bytes, bytes;
    uint64_t ordinals; /* row ids given, published or not */
    int64_t tmin_us, tmax_us;
};
struct tail_waiter {
    struct tail_waiter *next;
    uint64_t after;
    void (*wake)(void *arg);
    void *arg;
};
struct pending;
struct stage_stream { /* one incarnation */
    _Atomic uint32_t refs;
    struct lake *lake;
    struct sid sid;
    char *name;
    struct os_mutex *ingest_mu; /* orders resolve and WAL append of this stream */
    struct os_mutex *mu;
    struct schema *schema;        /* under mu; grows, but for restage.c */
    bool internal, static_schema; /* of its settings, as is */
    char *partition;              /* under mu; custom_partition */
    struct stage_group *groups;   /* under mu; ascending by segment */
    size_t groups_count, groups_cap;
    uint64_t ordinal_segment, ordinal_next;      /* under ingest_mu: next row id in the current segment */
    struct pending *pending_head, *pending_tail; /* under mu: appended, not yet published, in row id order */
    uint64_t next_row_id;                        /* under mu: first id that was not given yet */
    uint64_t stale_segment;                      /* under mu: the last with a stale record; 0: none */
    struct tail_waiter *waiters;                 /* under mu */
    uint64_t counted;          /* under lake.mu: 1 + lake.seals when it was last counted in open_keys */
    _Atomic bool dead;         /* dropped; set once, under mu and lake.mu */
    _Atomic bool out;          /* out of service, as the catalog says: takes no rows */
    _Atomic uint64_t restaged; /* how often its schema did not grow, but was another */
};
struct segment_use { /* under lake.mu */
    uint64_t segment;
    uint32_t inflight;
    uint64_t bytes;
};
struct object_waiter { /* ack=object: answered when its segment is committed */
    struct object_waiter *next;
    uint64_t segment;
    struct sid sid;
    bool parked; /* park.c has its rows, the store has not */
    lake_done_fn done;
    void *arg;
    struct lake_ingested result;
};
struct parked { /* park.c: a file of rows of a stream out of service */
    struct sid sid;
    uint64_t segment; /* whose records they were */
    uint32_t part;
    uint64_t into; /* segment with the record that brought them back */
    bool stuck;    /* it could not go back in this round */
    bool whole; /* on its way out: the rows of this segment that no file has, all of them; a commit may count on it */
    struct buf body;
};
struct moved { /* rows of an heir (stage_find_heir) */
    struct wal_pos pos;
    struct sid sid; /* who has them */
};
struct park { /* on their way to files */
    struct parked *items;
    size_t count, cap;
    uint64_t bytes;
};
struct lake_event_row {
    char *line; /* JSON without count */
    uint64_t rows, times;
};
struct lake {
    struct os *os;
    struct lake_options opt;
    struct store *store;
    struct catalog *cat;
    struct wal *wal;
    struct segment_writer *writer;
    struct hot *hot;      /* or NULL */
    bool hot_behind;      /* hot thread: the last look at it did not get to its end */
    struct os_file *lock; /* flock on the data directory */
    char node_id[27];

    struct os_mutex *mu;
    struct os_cond *idle; /* flush asked or done; stop; while answer_waiters: inflight of some segment fell to 0 */
    uint64_t forgotten;   /* incarnations that left by_name */
    struct map by_name, by_sid;   /* live incarnations; all that are live or may have rows (one reference each) */
    struct segment_use *segments; /* ascending */
    size_t segments_count, segments_cap;
    int64_t open_since_us;          /* monotonic: first row of what is not flushed; 0: none */
    uint64_t open_bytes, open_keys; /* since the last flush began: of all streams; streams that got rows */
    uint64_t seals;                 /* flushes begun */
    _Atomic uint64_t room_bytes;    /* large requests wait for room below it: about twice what a flush takes */
    _Atomic uint64_t coming_bytes;  /* of large requests between admission and stage */
    _Atomic uint32_t room_waiters;
    struct object_waiter *object_waiters;
    bool flush_asked, stopping;
    _Atomic bool giving_up;    /* a stop comes: nobody waits for minutes any more */
    bool flush_failing;        /* the last flush did: nobody waits for room */
    unsigned answer_waiters;   /* flushes that wait for the answers of their segments */
    struct decoder **decoders; /* free ones */
    size_t decoders_count, decoders_cap;

    struct os_mutex *flush_mu; /* one flush at a time; outermost */
    struct wal_pos replay_at;  /* at the start: the record at hand; from there on nothing is staged. {0}: no replay */
    uint64_t committed;        /* under flush_mu: highest WAL segment in the catalog */
    char file_stem[80];        /* under flush_mu: what names of files begin with until the next commit */
    uint64_t file_number;      /* under flush_mu: of the next file with that stem */
    struct park park;          /* under flush_mu, or before the start ends */
    struct parked *park_done;  /* the same: files that went back and are to be removed */
    size_t park_done_count, park_done_cap;
    struct moved *moved; /* the same: WAL entries whose rows another incarnation than their own has staged */
    size_t moved_count, moved_cap;
    _Atomic bool parked; /* there may be such files; set under flush_mu */
    bool park_returns;   /* under flush_mu: of a stream that is in service already */
    /* By hash of the name (lake_name_mu): one create or drop of a name at a time, so that no create is answered between a
     * DEAD slot and stage_forget(); held across the catalog's IO, outermost. */
    struct os_mutex *name_mu[NAME_LOCKS];
    _Atomic uint64_t stage_rows, stage_bytes;

    struct os_mutex *event_mu;
    struct map event_rows; /* by line */
    struct os_thread *threads[6];

    struct metric *m_rows, *m_requests, *m_stage_rows, *m_stage_bytes, *m_flushes, *m_flush_seconds, *m_flush_errors,
        *m_files, *m_file_bytes, *m_replayed, *m_dropped, *m_hot_missing, *m_hot_missing_bytes;
};

/* stream.c */
struct os_mutex *lake_name_mu(struct lake *lake, slice name);
struct stage_stream *stage_stream_ref(struct stage_stream *s);
void stage_stream_unref(struct stage_stream *s);
DEFINE_CLEANUP(struct stage_stream *, stage_stream_unref)
struct stage_stream *stage_new(struct lake *lake, struct stream_version *v); /* in no table */
/* What the table has for `name`, or NULL. *forgotten (may be NULL): how often streams were forgotten so far. */
struct stage_stream *stage_lookup(struct lake *lake, slice name, uint64_t *forgotten);
/* The live incarnation of `name`, from the table or the catalog. ERR_NOT_FOUND. */
MUST_CHECK enum err_code stage_find(struct lake *lake, slice name, struct stage_stream **out, struct err *err);
/* The incarnation of a WAL record; ERR_NOT_FOUND: it is dead. */
MUST_CHECK enum err_code stage_find_sid(struct lake *lake, slice name, const struct sid *sid, struct stage_stream **out,
                                        struct err *err);
/* Stale rows of it are in the WAL above what is committed. */
bool stage_has_stale(struct stage_stream *s);
/* Makes a batch visible. Takes the batch. */
void stage_publish(struct stage_stream *s, uint64_t segment, struct batch *batch, uint64_t raw_bytes);
void stage_take_config(struct stage_stream *s); /* from the catalog, which other nodes may have changed */
/* Removes groups <= segment; their batches are handed to `out` (to be unreffed outside of locks). Under the snapshot lock. */
struct batch_list {
    struct batch **ptr;
    size_t count, cap;
};
void stage_drop_groups(struct stage_stream *s, uint64_t segment, struct batch_list *out);
void batch_list_done(struct batch_list *l);
void stage_forget(struct lake *lake, struct stage_stream *s); /* out of the table by name */
void stage_wake_tails(struct stage_stream *s);
struct schema *stage_schema(struct stage_stream *s); /* a reference to the schema of this moment */
/* `s` with the field ids that `head` gives to fields of the same name and type. */
struct schema *stage_adopt_ids(const struct schema *s, const struct schema *head);
/* What a reader of both sees: stage_adopt_ids(), and behind it the head's other columns. The caller's to unref. */
struct schema *stage_read_schema(struct schema *mine, const struct schema *head);

/* record.c: one WAL record = one request */
struct record {
    struct sid sid;
    slice name;
    bool newline_delimited, internal;
    bool
        stale; /* accepted when the catalog was not fresh: if the incarnation is dead, the rows are for whom the name means */
    uint8_t flatten;
    uint32_t flatten_level;
    int64_t p_timestamp_us;
    struct decode_pair *pairs;
    uint32_t pairs_count;
    slice body;
};
void record_encode(const struct record *r, struct buf *head); /* everything but the body's bytes */
MUST_CHECK enum err_code record_decode(slice bytes, struct arena *arena, struct record *out, struct err *err);

/* ingest.c */
struct pending { /* a request between its WAL append and its acknowledgement */
    struct pending *next;
    struct stage_stream *stream;
    struct batch *batch;
    struct buf head;
    struct wal_pos pos;
    uint64_t row_id, raw_bytes;
    uint64_t coming; /* its part of lake.coming_bytes */
    struct lake_ingested result;
    enum lake_ack ack;
    bool stale;
    lake_done_fn done;
    void *arg;
    bool finished;
};
struct decoder *lake_decoder_take(struct lake *lake);
void lake_decoder_give(struct lake *lake, struct decoder *d);
enum err_code lake_replay_record(void *arg, struct wal_pos pos, slice body, struct err *err); /* wal_replay_fn */

/* The rows of a record with a stream that was found. Under the stream's ingest_mu, or before requests are taken. */
MUST_CHECK enum err_code lake_replay_rows(struct lake *lake, struct stage_stream *s, struct wal_pos pos, slice record,
                                          struct err *err);

/* park.c */
MUST_CHECK enum err_code park_open(struct lake *lake, struct err *err); /* before the replay */
MUST_CHECK enum err_code park_add(struct lake *lake, uint64_t segment, const struct sid *sid, slice record,
                                  struct err *err);
/* Starts anew with this stream's rows of one segment, unless they are whole: then *want is false. */
MUST_CHECK enum err_code park_begin(struct lake *lake, uint64_t segment, const struct sid *sid, bool *want,
                                    struct err *err);
void park_whole(struct lake *lake, uint64_t upto); /* a commit of `upto` follows: its files stay as they are */
MUST_CHECK enum err_code park_write(struct lake *lake, struct err *err); /* before a commit */
bool park_holds(const struct lake *lake, uint64_t segment, const struct sid *sid);
void park_forget(struct lake *lake, uint64_t upto); /* what is committed is in files beside the WAL */
/* A WAL record that brings a file back: which, and its records, one by one with park_next(). */
bool park_record(slice bytes, struct parked *from, slice *body);
bool park_next(slice *body, slice *record);
void moved_note(struct lake *lake, struct wal_pos pos, const struct sid *sid);
void moved_forget(struct lake *lake, uint64_t upto);
/* Calls `fn` for each record of a WAL entry that is staged, with the incarnation that has its rows: its own, or an heir. */
typedef enum err_code (*staged_fn)(void *arg, const struct sid *owner, struct wal_pos pos, slice record,
                                   struct err *err);
MUST_CHECK enum err_code park_staged(const struct lake *lake, struct wal_pos pos, slice body, staged_fn fn, void *arg,
                                     struct err *err);
void park_done_note(struct lake *lake, const struct parked *p, uint64_t into);
bool park_is_done(const struct lake *lake, const struct parked *p);
MUST_CHECK enum err_code park_clean(struct lake *lake, uint64_t upto, struct err *err); /* before a commit of `upto` */
/* Where rows of a dead incarnation go, if they were stale: ERR_NOT_FOUND: nowhere. */
MUST_CHECK enum err_code stage_find_heir(struct lake *lake, const struct record *r, struct stage_stream **out,
                                         struct err *err);
void lake_unpark(struct lake *lake);        /* what can go back, goes back; logs */
void lake_unpark_locked(struct lake *lake); /* the same, under flush_mu */

/* restage.c: another node gave a name another type. Under flush_mu. */
MUST_CHECK enum err_code stage_restage(struct stage_stream *s, struct err *err);

/* flush.c */
void lake_wait_answered(struct lake *lake, uint64_t upto); /* L2: until every record of segments <= upto is answered */
/* Commits WAL segments (lake->committed, upto]; rows of them must all be published. Under flush_mu. */
MUST_CHECK enum err_code flush_segments(struct lake *lake, uint64_t upto, struct err *err);
MUST_CHECK enum err_code lake_save_identity(void *arg, const struct lane_identity *id, struct err *err);
/* ack=object: answers those whose segment is committed; all of them, with `failed`, if it is given. */
void lake_answer_object_waiters(struct lake *lake, const struct err *failed);
uint64_t lake_flush_bytes(const struct lake *lake); /* under lake.mu: how much may be open before a flush */
void lake_flush_thread(void *arg);
void lake_fold_thread(void *arg);
void lake_maintenance_thread(void *arg);
void lake_names_thread(void *arg);
void lake_event_thread(void *arg);
void lake_events_write(struct lake *lake);
void lake_hot_thread(void *arg);
