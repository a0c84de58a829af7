/* auth_fuzz.c: any bytes as an Authorization header; nobody gets in who does not know the password. */
#include "auth/auth.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct auth *a;
    struct auth_user user;

    if (!a)
        a = auth_new(slice_lit("admin"), slice_lit("a password that no fuzzer finds by chance"));
    ASSERT(auth_check(a, slice_of(data, size), &user) != AUTH_OK);
    return 0;
}
