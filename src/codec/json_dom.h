/* json_dom.h: a JSON text as a tree in an arena, for the few places that need one value more than once: records with
 * arrays (decode/), schema bodies, tests. Duplicate keys are refused here; everything else as json_reader.h says. */
#pragma once
#include "base/arena.h"
#include "codec/json_reader.h"

enum dom_kind { DOM_NULL, DOM_BOOL, DOM_NUMBER, DOM_STRING, DOM_ARRAY, DOM_OBJECT };
struct json_member;
struct json_value {
    uint8_t kind; /* enum dom_kind */
    bool truth;
    uint32_t count; /* of items or members */
    slice raw;      /* its bytes in the text */
    union {
        struct json_number num;
        slice string;                /* unescaped; in the text or in the arena */
        struct json_value *items;    /* [count] */
        struct json_member *members; /* [count], in the text's order */
    };
    uint64_t tag; /* the caller's */
};
struct json_member {
    slice key;
    struct json_value value;
    void *tag; /* the caller's */
};

/* Reads one value at the cursor into `a`; what follows is the caller's. False: see the reader's error. The tree points
 * into the text. `depth`: of objects and arrays around the value already. */
MUST_CHECK bool json_dom_read(struct json_reader *r, struct arena *a, unsigned depth, struct json_value *out);
/* The whole text is one value. ERR_INVALID with the offset. */
MUST_CHECK enum err_code json_dom_parse(slice text, struct arena *a, struct json_value *out, struct err *err);
const struct json_value *json_dom_get(const struct json_value *object, const char *key); /* NULL: no object or no key */
