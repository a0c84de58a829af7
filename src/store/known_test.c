/* Goal: the products of catalog.md section 3 are told apart by what their servers say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/known.h"

static void test_table(void **state)
{
    static const struct {
        const char *product;
        enum store_verdict verdict;
    } cases[] = {
        {"", STORE_FINE},
        {"AmazonS3", STORE_FINE},
        {"MinIO", STORE_FINE},
        {"Werkzeug/3.1.3 Python/3.11.2", STORE_FINE},
        {"VERSITYGW", STORE_DENIED},
        {"versitygw", STORE_DENIED},
        {"Garage", STORE_DENIED},
        {"SeaweedFS S3", STORE_DENIED},
        {"SeaweedFS 30GB 3.88", STORE_DENIED},
        {"SeaweedFS 30GB 4.17", STORE_DENIED},
        {"SeaweedFS 30GB 4.18", STORE_FINE},
        {"SeaweedFS 4.18.1", STORE_FINE},
        {"SeaweedFS 5.0", STORE_FINE},
        {"SeaweedFS 4.x", STORE_DENIED},
        {"SeaweedFS 4.", STORE_DENIED},
        {"SeaweedFS 99999999999999999999.1", STORE_DENIED},
        {"SeaweedF", STORE_FINE},
        {"Ceph Object Gateway (squid)", STORE_DOUBTFUL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why;
        assert_int_equal(store_known(slice_str(cases[i].product), &why), cases[i].verdict);
        assert_true((cases[i].verdict == STORE_FINE) == (why[0] == 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
