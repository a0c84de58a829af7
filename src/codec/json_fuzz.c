/* json_fuzz.c: any bytes: our reader and jansson say the same. */
#include "codec/json_agree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ASSERT(readers_agree((slice){data, size}));
    return 0;
}
