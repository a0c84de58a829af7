/* json_int.h: what the files of the JSON decoder share.
 *
 *   json.c         the body: records, the fast way (no arrays): text to cells in one pass
 *   json_keys.c    keys: which column a path of keys means, kept from body to body
 *   json_rows.c    records with arrays: a tree, exploded into rows or gathered into lists
 *   json_resolve.c cells to columns under a schema
 *   json_schema.c  schema/detect and static schemas
 * KEYS  a node for each object path, with a table of its keys; a key knows the key that followed it in the last row, so
 *   most keys are recognised by comparing bytes, and the name that it flattens to. Names are flattened paths; several
 *   keys may share one. All that lives in the decoder's key memory and survives bodies; it is thrown away when it grows
 *   beyond KEYS_BYTES_MAX. Nothing of it may change the outcome of a body: it only makes it faster.
 * CELLS  a body yields entries, one for each name in order of appearance. An entry has a column of cells for each class of value
 *   it met, in the batch being built. `valid` holds a code for what resolve must know of a cell, 0 is no value. */
#pragma once
#include "base/map.h"
#include "codec/json_dom.h"
#include "decode/instant.h"
#include "decode/json.h"

#define KEYS_BYTES_MAX (64u << 20) /* memory of keys: bounds what a body of ever new keys can make us hold */
#define NAME_BYTES_MAX 65536u      /* of a flattened name: nested long keys would multiply */

enum cell_class {
    CELL_NUMBER, /* 8 bytes as read; code: enum json_number_kind */
    CELL_TEXT,
    CELL_BOOL,
    CELL_TIME, /* microseconds; only where the hint has a timestamp. Code 2: the text held a '.' */
    CELL_LIST, /* list_slot.offset is an index into decoded.lists */
    CELL_CLASSES
};

struct list_item {
    uint8_t kind; /* enum type_kind: NULL, BOOL, INT64, FLOAT64, UTF8 */
    union {
        bool truth;
        int64_t i;
        double d;
        struct text text;
    };
};
struct list_cell {
    uint32_t count;
    uint8_t item; /* type of all its items: TYPE_NULL if none has a value; TYPE_FLOAT64 may hold INT64 items */
    struct list_item items[];
};

struct key;
struct entry {          /* one name in one body; in the batch's arena */
    uint64_t row_stamp; /* the row that set it last, by decoder.row_stamp */
    const struct key *row_key;
    struct column *cells[CELL_CLASSES];
    slice name;
    uint32_t number_codes; /* mask of 1 << code */
    bool nested;           /* the first key that gave it was inside an object */
};
struct decoded {
    struct batch *batch;
    struct entry **entries;
    size_t entries_count, entries_cap;
    struct list_cell **lists;
    size_t lists_count, lists_cap;
    uint32_t *record_of_row; /* NULL: row i is record i; else [rows] */
    size_t record_cap;
    struct instant_cache instants;
};

struct name {
    slice text;
    uint64_t generation; /* of `entry` */
    struct entry *entry;
    uint64_t hint_version;    /* of decoder.hint, for which hint_time was looked up */
    bool hint_time;           /* its column is a timestamp */
    struct list_cell *gather; /* json_rows.c: the list being gathered for this name, if gather_stamp is the array's */
    uint64_t gather_stamp;
};
struct node;
struct key {
    uint8_t quoted[16];  /* "key": as it stands in compact text, if quoted_len <= 16 */
    const uint8_t *far;  /* the same if longer */
    uint32_t quoted_len; /* 0: the key has bytes that text escapes, never compare */
    bool at;             /* its flattened path begins with '@', which the name shows as '_' */
    slice bytes;
    struct key *next; /* followed in the last row */
    uint64_t seen;    /* object that had it last: duplicates */
    struct node *parent;
    struct node *object; /* made when it first has a member */
    struct name *name;   /* made when it first has a value */
};
struct node {
    struct map keys;
    struct key *first;
    slice prefix;       /* flattened path and '_'; empty for the root */
    struct node *older; /* all nodes, to free their tables */
};

enum step {
    STEP_OK,
    STEP_JSON,    /* malformed: see the reader */
    STEP_REFUSED, /* decoder.err is set */
    STEP_TREE,    /* an array: this record goes the slow way */
    STEP_DEEP,    /* rows were made of arrays, and now the body turns out too deep for that: again without */
    STEP_KEYS,    /* the key memory is full */
};

struct decoder {
    struct json_reader reader;
    const struct decode_options *opt; /* of the body being read, as the next ones */
    struct schema *hint;              /* a reference, kept to compare with the next one */
    uint64_t hint_version;            /* grows when hint changes; an address may come back */
    struct decoded *out;
    struct err err;
    bool malformed;
    uint32_t record;     /* index of the record being read */
    uint32_t columns;    /* entries with a value */
    uint64_t generation; /* a number for each pass over a body */
    uint64_t row_stamp;  /* for each row, also for one that is given up */
    uint64_t instances;  /* for each object read */
    uint64_t exploded_bytes;
    enum decode_flatten flatten;
    bool deep, exploded, records_tracked;
    bool tree_next; /* the last record had arrays, so this one may */
    uint8_t *text_at, *text_end;
    struct arena tree; /* of one record */
    /* key memory */
    struct arena keys;
    size_t keys_bytes;
    struct node *root, *nodes;
    struct map names;
};

/* json_keys.c */
void keys_reset(struct decoder *d);
struct node *key_object(struct decoder *d, struct key *k); /* NULL: out of key memory, or the name too long */
struct key *node_key(struct decoder *d, struct node *node, slice bytes); /* found or made; NULL as above */
struct entry *key_entry_slow(struct decoder *d, struct key *k); /* STEP_KEYS or STEP_REFUSED when NULL: entry_step() */
enum step key_step(const struct decoder *d);                    /* why one of these gave NULL */
/* The entry that `k` sets in this row. A second key for the same name: the later value wins, so the earlier is cleared. */
static inline struct entry *key_entry(struct decoder *d, struct key *k)
{
    struct name *name = k->name;

    if (__builtin_expect(!name || name->generation != d->generation || name->entry->row_stamp == d->row_stamp, 0))
        return key_entry_slow(d, k);
    name->entry->row_stamp = d->row_stamp;
    name->entry->row_key = k;
    return name->entry;
}

/* json.c: writing the cell of the row being built; false: decoder.err is set */
struct column *cell_column_new(struct decoder *d, struct entry *e, enum cell_class class);
static inline struct column *cell_column(struct decoder *d, struct entry *e, enum cell_class class)
{
    return __builtin_expect(e->cells[class] != NULL, 1) ? e->cells[class] : cell_column_new(d, e, class);
}
struct text keep_text(struct decoder *d, slice s);
bool put_number(struct decoder *d, struct entry *e, struct json_number n);
bool put_text(struct decoder *d, struct key *k, struct entry *e, slice s);
bool put_bool(struct decoder *d, struct entry *e, bool truth);
bool row_begin(struct decoder *d);
void row_end(struct decoder *d);
enum step refuse(struct decoder *d, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));
/* For loops over rows: the next row from `row` on that may have a value; passes over eight nulls at a time, as columns that few
 * rows have are common. */
static inline uint32_t row_skip(const uint8_t *valid, uint32_t row, uint32_t rows)
{
    while (row < rows && rows - row >= 8 && le64_get(valid + row) == 0)
        row += 8;
    return row;
}
/* json_rows.c: the record at the cursor, all rows of it */
enum step read_tree(struct decoder *d);
