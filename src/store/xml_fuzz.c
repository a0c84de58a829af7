/* xml_fuzz.c: any bytes as a document of an object store. */
#include "store/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(void *arg, const struct xml_element *e)
{
    (void)arg;
    return e->path.len != 0 && !slice_starts(e->path, slice_lit("/"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ASSERT(xml_walk(slice_of(data, size), look, NULL, NULL) != ERR_CANCELLED);
    return 0;
}
