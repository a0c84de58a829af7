/* xml.h: the small XML documents of object stores, over expat: every element with text, by its path. Entities of a document type are
 * refused, so is nesting beyond 16. THREADS any. */
#pragma once
#include "base/err.h"
#include "base/slice.h"

struct xml_element {
    slice path; /* local names from the root, "ListBucketResult/Contents/Key" */
    slice text; /* of the element itself, white space kept; empty for one that only has children */
};
/* Called at the end of each element, children first. false stops with ERR_CANCELLED. */
typedef bool (*xml_fn)(void *arg, const struct xml_element *e);
/* ERR_CORRUPT: not well-formed, too deep, or with a document type. */
MUST_CHECK enum err_code xml_walk(slice document, xml_fn fn, void *arg, struct err *err);
