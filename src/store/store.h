/* store.h: an object store: exclusive create, read, list, delete. One table of calls; store/local is a directory
 * (catalog.md section 3, rules for the local file system), store/s3 a bucket, sim/ has a twin that loses replies.
 *
 * Keys are UTF-8 with '/' separators, no leading slash, no empty, "." or ".." element, < 1,024 bytes. Objects are immutable.
 * ERRORS  ERR_CONFLICT: the key exists, perhaps by this very call, as HTTP libraries repeat what a broken connection took: read back. ERR_NOT_FOUND. ERR_UNAVAILABLE: nothing happened. ERR_UNKNOWN: a create or delete that
 *   may have happened: only reading back decides (catalog.md R1). ERR_LIMIT: the disk is full. ERR_IO: the store is broken until it
 *   is opened again (local: a directory sync failed).
 * THREADS  any. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "os/os.h"

struct engine;
struct store;
#define STORE_REMOVE_MAX 1000u /* S3's limit of a request */
struct store_meta {
    uint64_t size;
    int64_t modified_us; /* the store's clock */
};
struct store_list_item {
    slice key; /* whole key; for a common prefix it ends with '/' */
    bool is_prefix;
    struct store_meta meta;
};
typedef bool (*store_list_fn)(void *arg, const struct store_list_item *item); /* false stops */
struct store_source { /* an object of another store, as it must be */
    struct store *store;
    slice key;
    uint64_t size;
    uint32_t crc32c;
    bool unseen; /* the new key is used by this call alone, and what is there counts for nothing before it is back */
};
struct store_ops {
    void (*free)(struct store *s);
    /* Creates `key` with these bytes, whole and durable, or does not. */
    enum err_code (*create)(struct store *s, slice key, slice bytes, struct err *err);
    /* A file that a writer fills through a descriptor: begin, write to *out, then publish or drop. publish consumes `f` when it
     * succeeds; after an error (ERR_CONFLICT: the key is taken) it is still the caller's: publish under another key, or drop.
     * `synced` false: the caller will call sync_group() before it relies on it; when that fails, upload again under new names. */
    enum err_code (*upload_begin)(struct store *s, struct os_file **out, struct err *err);
    enum err_code (*upload_publish)(struct store *s, struct os_file *f, slice key, bool synced, struct err *err);
    void (*upload_drop)(struct store *s, struct os_file *f);
    enum err_code (*sync_group)(struct store *s, const slice *keys, size_t count, struct err *err);
    /* Makes `key` of another store's object without its bytes coming here, exclusive and durable as create() is. The server tells the checksum
     * of what it copied, and before there is an object, unless from->unseen. ERR_CORRUPT: size or checksum is another. *copied false, with ERR_OK: nothing was done, read
     * and upload it: another kind of store, another server or login, or a server that tells no checksums. NULL: it never can. */
    enum err_code (*copy_from)(struct store *s, slice key, const struct store_source *from, bool *copied,
                               struct err *err);
    /* len UINT64_MAX: to the end. Appends to `out`. */
    enum err_code (*read)(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                          struct store_meta *meta, struct err *err);
    enum err_code (*stat)(struct store *s, slice key, struct store_meta *out, struct err *err);
    /* Keys with `prefix`, after `start_after` (may be empty), in byte order; with `delimiter` ('/' after the prefix) common
     * prefixes are rolled up, and listed when they come after `start_after` as text. An object whose facts the disk does not tell is
     * listed with size 0, modified at INT64_MAX. */
    enum err_code (*list)(struct store *s, slice prefix, slice start_after, bool delimiter, store_list_fn fn, void *arg,
                          struct err *err);
    enum err_code (*remove)(struct store *s, slice key, struct err *err); /* absent is ERR_OK */
    /* The same of STORE_REMOVE_MAX keys at most, in any order, perhaps in one request; an error is of one of them, others may be gone. NULL:
     * store_remove_many() does it one by one. */
    enum err_code (*remove_many)(struct store *s, const slice *keys, size_t count, struct err *err);
    /* Aborts uploads in parts that were begun before `before_us` by the store's clock and never ended, of keys that `ours` says yes to. NULL: the
     * store keeps none, or not for long. */
    enum err_code (*abort_uploads)(struct store *s, int64_t before_us, bool (*ours)(void *arg, slice key), void *arg,
                                   struct err *err);
    enum err_code (*now_us)(struct store *s, int64_t *out, struct err *err); /* the store's clock */
    /* A path that read_parquet can open (local: the file; else an address); NUL-terminated in `out`. The empty key: the folder that an
     * engine must be allowed to read. */
    void (*engine_path)(struct store *s, slice key, struct buf *out);
    /* NULL: nothing is needed. Before an engine reads such paths, each time: gives it the keys of now. */
    enum err_code (*engine_login)(struct store *s, struct engine *e, struct err *err);
    const char *(*describe)(struct store *s); /* "Local drive" and the like, contract 3.9 */
    /* What the server said of itself so far: "MinIO", "SeaweedFS 4.18"; nothing: it is not known. NULL: there is no server. */
    void (*product)(struct store *s, struct buf *out);
};
struct store {
    const struct store_ops *ops;
    bool remote;                  /* engine_path() is no file of this machine */
    unsigned parallel;            /* calls that are worth having on their way at one time; 0, 1: they wait for nobody */
    const char *engine_extension; /* remote: what an engine reads it with, "httpfs" or "azure" */
    const char *ca_file;          /* remote: PEM of certificates to trust; NULL: the system's */
    bool unverified;              /* remote: nor is the server's certificate looked at */
};
/* Reads an object to its end, in pieces: its size and checksum, and, where `copy` is given, its bytes into that file. */
MUST_CHECK enum err_code store_fetch(struct os *os, struct store *s, slice key, struct os_file *copy, uint64_t *size,
                                     uint32_t *crc, struct err *err);
/* ops->copy_from, if there is one. What has no answer counts as not copied: `key` may be taken all the same. */
MUST_CHECK enum err_code store_copy(struct store *to, slice key, const struct store_source *from, bool *copied,
                                    struct err *err);
/* Of any number of keys, in any order. */
MUST_CHECK enum err_code store_remove_many(struct store *s, const slice *keys, size_t count, struct err *err);
/* Opens or creates the directory; its file system must pass the probe (exclusive create, sync). */
MUST_CHECK enum err_code store_local_open(struct os *os, const char *dir, struct store **out, struct err *err);
/* An existing directory, to look at: nothing is probed or written, create, upload and remove answer ERR_DENIED. */
MUST_CHECK enum err_code store_local_open_reader(struct os *os, const char *dir, struct store **out, struct err *err);
bool store_key_valid(slice key);
