/* known.c: what is known of products that a probe cannot show (catalog.md section 3): whether of two creates of one key at once exactly one
 * wins depends on the moment, and a probe meets few moments. */
#include "store/known.h"

#include "base/mem.h"

#include "base/banned.h"

static const struct known {
    const char *
        product; /* the Server header begins with it, in any case; Garage has none, store/s3.c tells it by its errors */
    unsigned major, minor;     /* releases from here on are fine; 0.0: none is */
    enum store_verdict before; /* of those before, and of what tells no version */
    const char *why;
} table[] = {
    {"VERSITYGW", 0, 0, STORE_DENIED,
     "it looks whether a key is free and then writes: two creates at once may both be told that they won"},
    {"Garage", 0, 0, STORE_DENIED, "it has no exclusive create"},
    {"SeaweedFS", 4, 18, STORE_DENIED,
     "releases before 4.18 look whether a key is free and then write: two creates at once may both be told that they "
     "won"},
    {"Ceph Object Gateway", 0, 0, STORE_DOUBTFUL,
     "its conditional writes were repaired in the course of 2025: run the newest release of its series"},
};

/* The last word that reads like "4.18", "3.88.1". */
static bool version_of(slice product, unsigned *major, unsigned *minor)
{
    bool found = false;

    while (product.len) {
        const uint8_t *blank = memchr(product.ptr, ' ', product.len);
        slice word = slice_head(product, blank ? (size_t)(blank - product.ptr) : product.len);
        const uint8_t *dot = word.len ? memchr(word.ptr, '.', word.len) : NULL;
        slice rest = dot ? slice_from(word, (size_t)(dot - word.ptr) + 1) : (slice){0};
        const uint8_t *next = rest.len ? memchr(rest.ptr, '.', rest.len) : NULL;
        uint64_t a, b;
        product = slice_from(product, MIN(word.len + 1, product.len));
        if (!dot || !slice_u64(slice_head(word, (size_t)(dot - word.ptr)), &a) ||
            !slice_u64(slice_head(rest, next ? (size_t)(next - rest.ptr) : rest.len), &b) || a > 9999 || b > 9999)
            continue;
        *major = (unsigned)a;
        *minor = (unsigned)b;
        found = true;
    }
    return found;
}

enum store_verdict store_known(slice product, const char **why)
{
    unsigned major = 0, minor = 0;

    *why = "";
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct known *k = &table[i];
        slice name = slice_str(k->product);
        if (product.len < name.len || !slice_eq_nocase(slice_head(product, name.len), name))
            continue;
        if ((k->major || k->minor) && version_of(slice_from(product, name.len), &major, &minor) &&
            (major > k->major || (major == k->major && minor >= k->minor)))
            return STORE_FINE;
        *why = k->why;
        return k->before;
    }
    return STORE_FINE;
}
