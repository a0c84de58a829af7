/* point_test.c: a point read back is the one written; what is wrong in one is refused; its view lists its slots as a store does, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "backup/point.h"

#define SID "01kjvktcgre5t2x7w4c6h0ryaq"
#define GOOD                                                                                        \
    "{\"bytes\":7,\"checkpoints\":[5,-1],\"cluster\":\"c1\",\"damaged\":[\"bad\"],\"files\":3,"     \
    "\"imports\":[[\"~57eb/" SID "/_import/00000000000000000003\",120,4000000000]],"                \
    "\"lanes\":{\"n00001\":[6,8]},\"rows\":9,\"shards\":2,\"streams\":[[\"Web\",\"" SID "\",0,12]," \
    "[\"web\",\"01kjvktcgre5t2x7w4c6h0ryar\",2,0]],\"taken\":1772603999812000,\"unasked\":[\"01kk\"]}"

static enum err_code decode(const char *text, struct point *out)
{
    struct slot s = {.type = SLOT_POINT, .seq = 4};
    struct err err;

    s.body = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(s.body);
    enum err_code rc = point_decode(&s, out, &err);
    slot_done(&s);
    return rc;
}

static void test_round_trip(void **state)
{
    struct buf text = BUF_INIT;
    struct point p;
    (void)state;

    assert_int_equal(decode(GOOD, &p), ERR_OK);
    assert_int_equal(p.number, 4);
    assert_int_equal(p.cut.streams_count, 2);
    assert_true(p.cut.checkpoints[1] == SLOT_NONE);
    point_encode(&p, &text);
    assert_string_equal(buf_cstr(&text), GOOD);
    buf_done(&text);
    point_done(&p);
}

/* Each replaces a piece of GOOD by one that cannot be true. */
static void test_refused(void **state)
{
    static const struct {
        const char *piece, *by;
    } wrongs[] = {{"\"shards\":2", "\"shards\":3"},
                  {"\"shards\":2", "\"shards\":0"},
                  {"[5,-1]", "[5,-2]"},
                  {"[5,-1]", "[5,null]"},
                  {"[6,8]", "[9,8]"},
                  {"[6,8]", "[6]"},
                  {"[6,8]", "[0,1000000]"},
                  {"n00001", "../x"},
                  {"Web", "W.b"},
                  {"Web", "../../etc"},
                  {"\"" SID "\",0,12", "\"x\",0,12"},
                  {"\"" SID "\",0,12", "\"" SID "\",-1,12"},
                  {"\"" SID "\",0,12", "\"" SID "\",0"},
                  {"[\"bad\"]", "[7]"},
                  {"\"rows\":9", "\"rows\":-9"},
                  {"\"cluster\":\"c1\"", "\"cluster\":1"},
                  {"[\"~57eb", "[7,\"~57eb"},
                  {",120,", ",-1,"},
                  {",4000000000]", ",4294967296]"},
                  {"~57eb/", "../"},
                  {"~57eb/", "x/~57eb/"},
                  {"_import/", "_head/"},
                  {"/_import/0", "/_import/x"},
                  {"/_import/0", "/_import/0/0"}};
    (void)state;

    for (size_t i = 0; i < sizeof(wrongs) / sizeof(*wrongs); i++) {
        struct buf text = BUF_INIT;
        const char *at = strstr(GOOD, wrongs[i].piece);
        struct point p;
        assert_non_null(at);
        buf_put(&text, GOOD, (size_t)(at - GOOD));
        buf_str(&text, wrongs[i].by);
        buf_str(&text, at + strlen(wrongs[i].piece));
        if (decode(buf_cstr(&text), &p) != ERR_CORRUPT)
            fail_msg("taken: %s", buf_cstr(&text));
        buf_done(&text);
    }
}

struct seen {
    struct buf text;
};

static bool see(void *arg, const struct store_list_item *item)
{
    struct seen *s = arg;
    buf_slice(&s->text, item->key);
    buf_str(&s->text, item->is_prefix ? " /\n" : "\n");
    return true;
}

static void listed(struct store *s, const char *prefix, const char *after, bool delimiter, const char *want)
{
    struct seen seen = {BUF_INIT};

    assert_int_equal(s->ops->list(s, slice_str(prefix), slice_str(after), delimiter, see, &seen, NULL), ERR_OK);
    assert_string_equal(buf_cstr(&seen.text), want);
    buf_done(&seen.text);
}

#define N(n) "000000000000000000" n
static void test_view(void **state)
{
    char dir[] = "/tmp/sluice-point-XXXXXX";
    struct store *place, *view;
    struct buf out = BUF_INIT;
    struct point p;
    struct err err;
    (void)state;

    assert_non_null(mkdtemp(dir));
    assert_int_equal(store_local_open(os_real(), dir, &place, &err), ERR_OK);
    assert_int_equal(place->ops->create(place, slice_lit(".sluice/lanes/n00001/" N("08")), slice_lit("in"), &err),
                     ERR_OK);
    assert_int_equal(place->ops->create(place, slice_lit(".sluice/lanes/n00001/" N("09")), slice_lit("later"), &err),
                     ERR_OK);
    assert_int_equal(decode(GOOD, &p), ERR_OK);
    view = point_view_new(place, &p);
    listed(view, ".sluice/lanes/", "", true, ".sluice/lanes/n00001/ /\n");
    listed(view, ".sluice/lanes/n00001/", ".sluice/lanes/n00001/" N("06"), true,
           ".sluice/lanes/n00001/" N("07") "\n.sluice/lanes/n00001/" N("08") "\n");
    listed(view, ".sluice/names/", "", false, ".sluice/names/web/" N("02") "\n.sluice/names/~57eb/" N("00") "\n");
    listed(view, "", "", true, ".sluice/ /\nweb/ /\n~57eb/ /\n");
    assert_int_equal(view->ops->read(view, slice_lit(".sluice/lanes/n00001/" N("08")), 0, UINT64_MAX, &out, NULL, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&out), "in");
    assert_int_equal(view->ops->read(view, slice_lit(".sluice/lanes/n00001/" N("09")), 0, UINT64_MAX, &out, NULL, &err),
                     ERR_NOT_FOUND);
    out.len = 0;
    assert_int_equal(view->ops->read(view, slice_lit(".sluice/cluster/" N("00")), 0, UINT64_MAX, &out, NULL, &err),
                     ERR_OK);
    struct slot s;
    assert_int_equal(slot_decode(buf_view(&out), SLOT_CLUSTER, 0, &s, &err), ERR_OK);
    slot_done(&s);
    assert_int_equal(view->ops->create(view, slice_lit("x"), slice_lit("y"), &err), ERR_DENIED);
    buf_done(&out);
    view->ops->free(view);
    place->ops->free(place);
    point_done(&p);
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_view)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
