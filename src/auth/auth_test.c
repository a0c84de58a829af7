/* auth_test.c: the table of contract 4.1 as far as the root user goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "auth/auth.h"
#include "base/mem.h"

static void test_check(void **state)
{
    static const struct {
        const char *header;
        enum auth_result want;
    } rows[] = {
        {NULL, AUTH_NONE},
        {"Basic YWRtaW46YWRtaW4=", AUTH_OK},     /* admin:admin */
        {"Basic YWRtaW46YWRtaW4", AUTH_OK},      /* padding left out */
        {"Basic IGFkbWluIDogYWRtaW4g", AUTH_OK}, /* " admin : admin " */
        {"basic YWRtaW46YWRtaW4=", AUTH_NONE},
        {"Bearer YWRtaW46YWRtaW4=", AUTH_NONE},
        {"Basic YWRtaW4=", AUTH_NONE}, /* admin */
        {"Basic !!!", AUTH_NONE},
        {"Basic ", AUTH_NONE},
        {"Basic YWRtaW46YWRtaW5h", AUTH_REFUSED}, /* admin:admina */
        {"Basic YWRtaW46", AUTH_REFUSED},         /* admin: */
        {"Basic Ym9iOmFkbWlu", AUTH_REFUSED},     /* bob:admin */
    };
    struct auth *a = auth_new(slice_lit("admin"), slice_lit("admin"));
    struct auth_user user;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (auth_check(a, slice_str(rows[i].header), &user) != rows[i].want)
            fail_msg("%s", rows[i].header);
    assert_string_equal(user.name, "admin");
    auth_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_check)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
