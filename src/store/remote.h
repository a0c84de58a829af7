/* remote.h: what stores behind HTTP have in common: what an answer means, what is sent again, uploads out of temporary files, pages of
 * lists, checksums, the server's clock, metrics. A dialect (s3.c, azure.c, gcs.c) says how requests look and are signed.
 *
 *   store_ops -> call (method, key, headers) -> dialect: URL and signature -> exchange -> outcome: an answer, again after a wait, or an error
 *
 * WHAT DECIDES  Nothing is decided by a lost reply: a create that may have happened answers ERR_UNKNOWN, 5xx too, and the caller reads
 *   back (catalog.md R1, R2). Uploads carry a nonce in their metadata and find out by themselves.
 * RETRIES  Reads, lists, removes and uploads are repeated with full jitter, `Retry-After` obeyed, until `retry_us_max`. Creates are not.
 * PACE  All requests but those of query engines go through one pace: see pace.h.
 * CHECKSUMS  The server checks each body that it stores by a checksum, reads check what it kept. An ETag is never taken for one.
 * CLOCK  now_us() is the server's Date and the time since; requests are signed with that time as well, so a wrong clock here is no
 *   reason to be refused.
 * THREADS  any, unless said otherwise. */
#pragma once
#include <stdatomic.h>

#include "base/arena.h"
#include "store/exchange.h"
#include "store/pace.h"
#include "store/store.h"

#define REMOTE_KEY_BYTES_MAX 1023u
#define REMOTE_HEADERS_MAX 8                 /* of a call; the dialect adds as many */
#define REMOTE_DOCUMENT_BYTES_MAX (8u << 20) /* pages of lists, errors */
#define REMOTE_PART_BYTES (16u << 20)        /* uploads up to this go whole, larger ones in such parts */
#define REMOTE_PARALLEL \
    16u /* small requests of one task that are worth having on their way: the pace has the last word */
#define REMOTE_PARTS_PARALLEL 4u /* on their way at one time, of all uploads of a store: 64 MiB of memory */
#define REMOTE_NONCE_HEX 32

struct remote;
struct remote_upload;
struct remote_page;

struct remote_call {
    const char *method;
    slice key;        /* without the store's prefix */
    bool bucket;      /* about the bucket: no key */
    const char *path; /* NULL: the dialect's, of key and bucket */
    slice query;      /* encoded, sorted by name */
    slice body;
    struct exchange_header extra[REMOTE_HEADERS_MAX]; /* lower case; signed too */
    size_t extra_count;
    uint64_t reply_max;
    bool repeatable; /* it does the same however often it is done */
    bool once;       /* nor may the HTTP library repeat it (exchange.h) */
};
struct remote_answer {
    struct exchange x;
    struct buf reply;
};
struct remote_request { /* as it goes out */
    struct buf url;
    struct exchange_header headers[2 * REMOTE_HEADERS_MAX]; /* values are copies, wiped in the end */
    size_t headers_count;
};
/* What a server means by the code of an error, where the status does not tell. */
enum remote_meaning {
    REMOTE_TAKEN = 1, /* a create lost: the key exists */
    REMOTE_NO_BUCKET, /* 404 is about the bucket, not about the key */
    REMOTE_CLOCK,     /* refused for its time, nothing was done: sign again by the clock of the answer */
    REMOTE_KEYS,      /* refused for its keys, nothing was done: try new ones, once */
    REMOTE_DOING,     /* a status that seems final is not: it may have happened */
};
struct remote_code {
    const char *code;
    enum remote_meaning meaning;
};
struct remote_dialect {
    const char *describe;                   /* "S3 bucket" */
    const char *nonce_header;               /* of the answer to HEAD: whose an object is */
    const char *scheme;                     /* "s3", of the store's address and of what an engine opens */
    const char *about_method, *about_query; /* a small request about the bucket */
    const char *checksum_header;            /* of reads: asks for the checksum; NULL: it comes unasked */
    const struct remote_code *codes;
    size_t codes_count;
    /* The URL, and headers that say who asks. `refused`: the keys of last time were. An error is one of the keys. */
    enum err_code (*request)(struct remote *r, const struct remote_call *c, bool refused, struct remote_request *out,
                             struct err *err);
    /* An exclusive create. With a nonce it is an upload: repeatable, the nonce in the metadata. */
    enum err_code (*put)(struct remote *r, slice key, slice bytes, slice nonce, struct err *err);
    /* Parts, and last what makes an object of them, if the key is free. ERR_CONFLICT: taken, perhaps by a try whose reply was lost. */
    enum err_code (*put_parts)(struct remote_upload *u, struct err *err);
    /* store_ops.copy_from for an object of a store of the same dialect, into u->key with u->nonce; NULL: it has no such request. */
    enum err_code (*copy)(struct remote_upload *u, const struct store_source *from, bool *copied, struct err *err);
    /* store_ops.remove_many and .abort_uploads; NULL: it has no such request. */
    enum err_code (*remove_many)(struct remote *r, const slice *keys, size_t count, struct err *err);
    enum err_code (*abort_uploads)(struct remote *r, int64_t before_us, bool (*ours)(void *arg, slice key), void *arg,
                                   struct err *err);
    /* Do the bytes of a whole object match the checksum that came with them, if one did? */
    bool (*intact)(const struct remote_answer *a);
    void (*list_query)(const struct remote *r, slice token, slice prefix, slice start_after, bool delimiter,
                       struct buf *query);
    enum err_code (*list_page)(struct remote_page *p, slice document, struct err *err);
    const char *engine_extension; /* store.h */
    enum err_code (*engine_login)(struct remote *r, slice scope, struct engine *e, struct err *err);
    void (*done)(struct remote *r); /* what is the dialect's own */
};

struct remote { /* first member of a store */
    struct store base;
    const struct remote_dialect *dialect;
    struct os *os;
    struct exchange_pool *pool;
    struct pace pace;
    char *bucket, *prefix, *temp_dir, *ca_file; /* prefix: "" or with a '/' at its end */
    bool read_only;
    int64_t retry_us_max;
    _Atomic int64_t clock_offset_us; /* server's clock minus ours, from its last Date */
    _Atomic bool clock_known;
    struct os_mutex *mu;
    struct os_cond *cond;
    unsigned parts_running; /* under mu */
    struct buf product;     /* under mu: of the last Server header, or what an error's document gives away */
};
struct remote_options {
    const char *bucket;
    const char *prefix;    /* keys begin with it and '/'; "" is the whole bucket */
    const char *ca_file;   /* PEM; NULL: the system's */
    bool unverified;       /* the server's certificate is not checked */
    const char *temp_dir;  /* uploads are written here first */
    bool read_only;        /* create, upload and remove answer ERR_DENIED */
    int64_t retry_us_max;  /* 0: 30 s */
    unsigned requests_max; /* at one time; 0, or more than PACE_PARALLEL_MAX: that many */
    int64_t stall_us_max;  /* less than 1 KiB/s for this long is a failure; 0: 20 s */
};

/* ---- opening */

/* Everything in `r`, which is zeros, but what is the dialect's own. */
void remote_init(struct remote *r, struct os *os, const struct remote_dialect *dialect,
                 const struct remote_options *opt);
void remote_done(struct remote *r);
/* "s3://bucket/prefix" in its parts, borrowed from `url`. ERR_INVALID says what is wrong with it. */
MUST_CHECK enum err_code remote_url_parse(slice url, slice *scheme, slice *bucket, slice *prefix, struct err *err);
/* "https://host[:port][/path]" in its parts, borrowed. */
struct remote_endpoint {
    slice scheme; /* with the "://" */
    slice host;   /* with the port */
    slice path;   /* "" or "/..." */
    bool tls;
};
MUST_CHECK enum err_code remote_endpoint_parse(slice text, struct remote_endpoint *out, struct err *err);

/* ---- for dialects: requests (remote.c) */

void remote_call_header(struct remote_call *c, const char *name, slice value);       /* borrows */
void remote_request_header(struct remote_request *q, const char *name, slice value); /* copies */
void remote_answer_done(struct remote_answer *a);
/* Sends until there is an answer of 2xx, or an error, or time is up. */
MUST_CHECK enum err_code remote_call(struct remote *r, const struct remote_call *c, struct remote_answer *a,
                                     struct err *err);
MUST_CHECK enum err_code remote_key_check(const struct remote *r, slice key, struct err *err);
int64_t remote_clock_us(struct remote *r); /* the server's, as far as it is known */
/* %XX and '+', in place of what `out` held. False: no such text. */
MUST_CHECK bool remote_url_decode(slice s, struct buf *out);
/* crc32c as object stores write it: base64 of four bytes, the highest first. */
#define REMOTE_CRC_TEXT 8
void remote_crc_text(uint32_t crc, char out[REMOTE_CRC_TEXT + 1]);

/* ---- for dialects: uploads in parts (remote_ops.c) */

struct remote_upload {
    struct remote *r;
    struct os_file *f; /* NULL: a copy at the server */
    slice key;
    uint64_t size;
    char nonce[REMOTE_NONCE_HEX + 1]; /* in the object's metadata: whose it is after a lost reply */
};
/* The part that begins at `at`, REMOTE_PART_BYTES or what is left, in place of what `out` held. */
MUST_CHECK enum err_code remote_upload_piece(struct remote_upload *u, uint64_t at, struct buf *out, struct err *err);
/* All of it, piece by piece, for a checksum of the whole. */
MUST_CHECK enum err_code remote_upload_walk(struct remote_upload *u, void (*add)(void *arg, slice bytes), void *arg,
                                            struct err *err);

/* remote_parts.c: all parts, REMOTE_PARTS_PARALLEL of them at a time; the last may be shorter. `put` is called in several threads, once for each
 * index from 0. After the first error no other part is begun. */
unsigned remote_parts_count(const struct remote_upload *u);
typedef enum err_code (*remote_part_fn)(void *arg, unsigned index, slice bytes, struct err *err);
MUST_CHECK enum err_code remote_parts_put(struct remote_upload *u, remote_part_fn put, void *arg, struct err *err);

/* ---- for dialects: pages of a list (remote_ops.c) */

struct remote_page {
    const struct remote *r;
    slice after; /* without the store's prefix */
    store_list_fn fn;
    void *arg;
    bool delimiter; /* what a page holds is put in order before it is handed out */
    struct store_list_item *held;
    size_t held_count, held_cap;
    struct arena arena;    /* their keys */
    struct buf key, token; /* token: of the next page; empty: there is none */
    struct store_meta meta;
    bool truncated, bad, stopped;
};
/* Hands out one key, whole as the server says it, or a prefix with '/' at its end. false: no more. */
bool remote_page_item(struct remote_page *p, slice key, bool is_prefix);
/* A page in XML: the paths of its elements. */
struct remote_list_names {
    const char *item, *key, *size, *modified; /* of an object */
    const char *prefix_item, *prefix;
    const char *truncated; /* "true": there must be a token; NULL: the token alone tells */
    const char *token;
    bool url_encoded; /* keys are */
};
MUST_CHECK enum err_code remote_page_xml(struct remote_page *p, slice document, const struct remote_list_names *names,
                                         struct err *err);

extern const struct store_ops remote_ops;
