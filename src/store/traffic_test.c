/* traffic_test.c: what requests count as, and what they cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "store/traffic.h"

static void test_operations(void **state)
{
    (void)state;
    assert_int_equal(traffic_operation("GET", false), TRAFFIC_GET);
    assert_int_equal(traffic_operation("HEAD", false), TRAFFIC_GET);
    assert_int_equal(traffic_operation("GET", true), TRAFFIC_LIST);
    assert_int_equal(traffic_operation("PUT", false), TRAFFIC_PUT);
    assert_int_equal(traffic_operation("POST", false), TRAFFIC_PUT);   /* an upload's begin and end */
    assert_int_equal(traffic_operation("POST", true), TRAFFIC_DELETE); /* of many */
    assert_int_equal(traffic_operation("DELETE", false), TRAFFIC_DELETE);
}

static void test_cost(void **state)
{
    struct buf text = BUF_INIT;
    (void)state;

    traffic_requests(TRAFFIC_PUT, TRAFFIC_SERVER, 200, 1000000);
    traffic_requests(TRAFFIC_LIST, TRAFFIC_SERVER, 200, 200000);
    traffic_requests(TRAFFIC_GET, TRAFFIC_QUERIES, 206, 500000);
    traffic_requests(TRAFFIC_GET, TRAFFIC_SERVER, 404, 500000); /* costs as well */
    traffic_requests(TRAFFIC_PUT, TRAFFIC_SERVER, 503, 7);      /* these do not */
    traffic_requests(TRAFFIC_PUT, TRAFFIC_SERVER, 0, 3);
    traffic_requests(TRAFFIC_DELETE, TRAFFIC_SERVER, 204, 12);
    traffic_bytes(TRAFFIC_SERVER, 100, 20);
    traffic_bytes(TRAFFIC_QUERIES, 0, 3);
    traffic_json(&text);
    assert_string_equal(buf_cstr(&text), "{\"put\":1000010,\"list\":200000,\"get\":1000000,\"delete\":12,"
                                         "\"sentBytes\":100,\"receivedBytes\":23,\"dollars\":6.400000}");
    text.len = 0;
    metrics_print(&text);
    assert_non_null(
        strstr(buf_cstr(&text), "sluice_store_requests_total{operation=\"put\",by=\"server\",status=\"5xx\"} 7\n"));
    assert_non_null(
        strstr(buf_cstr(&text), "sluice_store_requests_total{operation=\"put\",by=\"server\",status=\"none\"} 3\n"));
    assert_non_null(strstr(buf_cstr(&text), "sluice_store_cost_dollars_total{operation=\"put\"} 5\n"));
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_operations), cmocka_unit_test(test_cost)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
