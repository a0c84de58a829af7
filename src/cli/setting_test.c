/* setting_test.c: texts become the right values, the strongest source wins, mistakes are named and near words offered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/setting.h"

#include "base/banned.h"

/* Goal: every form of a size, and none that only looks like one. */
static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes; /* negative: refused */
    } cases[] = {
        {"0", 0},
        {"1", 1},
        {"64MiB", 64 << 20},
        {"64 MiB", 64 << 20},
        {" 64mib ", 64 << 20},
        {"1.5GiB", 1610612736},
        {"0.5KiB", 512},
        {"2GB", 2000000000},
        {"2g", 2000000000},
        {"10kB", 10000},
        {"7B", 7},
        {"4EiB", INT64_C(4) << 60},
        {"16EiB", -1},
        {"99999999999999999999", -1},
        {"", -1},
        {"MiB", -1},
        {"-1", -1},
        {"1.", -1},
        {"1.MiB", -1},
        {"1x", -1},
        {"1MiB2", -1},
        {"1,5MiB", -1},
        {"0x10", -1},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t n = 0;
        struct err err = {0};
        enum err_code rc = parse_size(slice_str(cases[i].text), 0, &n, &err);
        if (cases[i].bytes < 0 ? rc != ERR_INVALID : rc != ERR_OK || n != (uint64_t)cases[i].bytes)
            fail_msg("size '%s': code %d, %llu", cases[i].text, rc, (unsigned long long)n);
    }
}

/* Goal: the same for durations; a bare number only where a unit is agreed. */
static void test_durations(void **state)
{
    static const struct {
        const char *text;
        uint64_t unit;
        int64_t us;
    } cases[] = {
        {"10s", 0, 10000000},
        {"250ms", 0, 250000},
        {"1h30m", 0, 5400000000},
        {"1h 30m", 0, 5400000000},
        {"1.5s", 0, 1500000},
        {"7d", 0, 604800000000},
        {"3us", 0, 3},
        {"5", 1000000, 5000000},
        {"5", 0, -1},
        {"", 0, -1},
        {"s", 0, -1},
        {"10 parsecs", 0, -1},
        {"10S", 0, -1},
        {"1h30", 1000000, -1},
        {"99999999999999d", 0, -1},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t n = 0;
        struct err err = {0};
        enum err_code rc = parse_duration(slice_str(cases[i].text), cases[i].unit, &n, &err);
        if (cases[i].us < 0 ? rc != ERR_INVALID : rc != ERR_OK || n != (uint64_t)cases[i].us)
            fail_msg("duration '%s': code %d, %llu", cases[i].text, rc, (unsigned long long)n);
    }
}

/* Goal: what is printed reads back as the same number. */
static void test_print_and_parse(void **state)
{
    uint64_t n = 1, back;
    struct err err;
    (void)state;

    for (unsigned i = 0; i < 4000; i++) {
        _cleanup_(buf_done) struct buf size = BUF_INIT, time = BUF_INIT;
        n = n * 6364136223846793005u + 1442695040888963407u;
        uint64_t v = (n >> (n % 64)) & ~((UINT64_C(1) << (n >> 58)) - 1);
        print_size(&size, v);
        print_duration(&time, v);
        assert_int_equal(parse_size(buf_view(&size), 0, &back, &err), ERR_OK);
        assert_true(back == v);
        assert_int_equal(parse_duration(buf_view(&time), 0, &back, &err), ERR_OK);
        assert_true(back == v);
    }
}

static void test_nearest(void **state)
{
    static const char *const words[] = {"data", "addr", "query-memory", "query-threads"};
    static const struct {
        const char *word, *want;
    } cases[] = {{"dta", "data"},    {"daat", "data"},
                 {"adr", "addr"},    {"query-memroy", "query-memory"},
                 {"addres", "addr"}, {"quarymemory", "query-memory"},
                 {"zzz", NULL},      {"x", NULL}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = nearest(cases[i].word, words, ARRAY_LEN(words));
        if ((got == NULL) != (cases[i].want == NULL) || (got && strcmp(got, cases[i].want) != 0))
            fail_msg("nearest to '%s' is %s", cases[i].word, got ? got : "none");
    }
}

/* Goal: the table itself is sound: names, defaults within their limits, no name or alias twice. */
static void test_table(void **state)
{
    struct config c;
    (void)state;

    config_init(&c); /* asserts that every default is a value */
    config_done(&c);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings[i];
        assert_non_null(s->name);
        assert_non_null(s->help);
        assert_true(s->scope != 0);
        assert_true((s->preset != NULL) != (s->auto_text != NULL));
        bool number = s->kind == SETTING_COUNT || s->kind == SETTING_PERCENT || s->kind == SETTING_SIZE ||
                      s->kind == SETTING_TIME;
        assert_true(number == (s->max != 0));
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(s->name, settings[k].name);
            assert_true(!s->before || strcmp(s->before, settings[k].name) != 0);
            assert_true(!settings[k].before || strcmp(settings[k].before, s->name) != 0);
            if (s->alias && settings[k].alias)
                assert_string_not_equal(s->alias, settings[k].alias);
        }
        for (size_t k = 0; s->alias && k < settings_ignored_count; k++)
            assert_string_not_equal(s->alias, settings_ignored[k].alias);
    }
}

/* Goal: each source alone, and every pair: the stronger wins whatever comes first. */
static void test_precedence(void **state)
{
    static const char *const texts[] = {[SOURCE_FILE] = "1.1.1.1:1",
                                        [SOURCE_ALIAS] = "2.2.2.2:2",
                                        [SOURCE_ENV] = "3.3.3.3:3",
                                        [SOURCE_FLAG] = "4.4.4.4:4"};
    (void)state;

    for (int a = SOURCE_FILE; a <= SOURCE_FLAG; a++)
        for (int b = SOURCE_FILE; b <= SOURCE_FLAG; b++) {
            struct config c;
            struct err err;
            config_init(&c);
            assert_string_equal(config_text(&c, SET_ADDR), "0.0.0.0:8000");
            assert_int_equal(config_set(&c, SET_ADDR, texts[a], (enum setting_source)a, "a", &err), ERR_OK);
            assert_int_equal(config_set(&c, SET_ADDR, texts[b], (enum setting_source)b, "b", &err), ERR_OK);
            assert_string_equal(config_text(&c, SET_ADDR), texts[MAX(a, b)]);
            config_done(&c);
        }
}

static enum err_code load(struct config *c, char *const *env, const char *yaml, struct buf *warnings, struct err *err)
{
    config_init(c);
    TRY(config_environment(c, env, warnings, err));
    if (yaml)
        TRY(config_yaml(c, "t.yaml", slice_str(yaml), err));
    return config_finish(c, err);
}

/* Goal: environment and file meet: names, aliases with the contract's units, nesting, the place of each value. */
static void test_sources(void **state)
{
    char *env[] = {"HOME=/nowhere",
                   "SLUICE_QUERY_MEMORY=1GiB",
                   "P_QUERY_MEMORY_LIMIT=2147483648",
                   "P_SQL_TIMEOUT=30",
                   "P_FS_DIR=/srv/store",
                   "P_CORS=false",
                   NULL};
    struct config c;
    struct err err = {0};
    _cleanup_(buf_done) struct buf warnings = BUF_INIT;
    (void)state;

    if (load(&c, env, "# comment\nquery:\n  memory: 3GiB\n  engines: 4\ndata: /srv\nflush_age: 2s\npassword: '0123'\n",
             &warnings, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(config_number(&c, SET_QUERY_MEMORY), 1 << 30);
    assert_string_equal(c.values[SET_QUERY_MEMORY].where, "SLUICE_QUERY_MEMORY");
    assert_int_equal(config_number(&c, SET_QUERY_TIMEOUT), 30000000);
    assert_string_equal(config_text(&c, SET_STORE), "/srv/store");
    assert_string_equal(config_text(&c, SET_WAL), "/srv/wal");
    assert_int_equal(config_number(&c, SET_CORS), 0);
    assert_int_equal(config_number(&c, SET_QUERY_ENGINES), 4);
    assert_string_equal(c.values[SET_QUERY_ENGINES].where, "t.yaml:4: query_engines");
    assert_int_equal(config_number(&c, SET_FLUSH_AGE), 2000000);
    assert_string_equal(config_text(&c, SET_PASSWORD), "0123");
    assert_int_equal(warnings.len, 0);
    config_done(&c);
}

/* Goal: a setting that was renamed is found by its old name in every place, and a later one wins, whichever name it has. */
static void test_renamed(void **state)
{
    char *old[] = {"SLUICE_S3_CA_CERT=/old", NULL},
         *both[] = {"SLUICE_S3_CA_CERT=/old", "SLUICE_STORE_CA_CERT=/new", NULL};
    char *none[] = {NULL};
    const struct {
        char **env;
        const char *file, *want, *where;
    } cases[] = {{old, "", "/old", "SLUICE_S3_CA_CERT"},
                 {both, "", "/new", "SLUICE_STORE_CA_CERT"},
                 {none, "s3_ca_cert: /file\n", "/file", "t.yaml:1: s3_ca_cert"},
                 {none, "s3:\n  ca_cert: /file\n", "/file", "t.yaml:2: s3_ca_cert"},
                 {old, "store_ca_cert: /file\n", "/old", "SLUICE_S3_CA_CERT"}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c;
        struct err err = {0};
        _cleanup_(buf_done) struct buf warnings = BUF_INIT;
        if (load(&c, cases[i].env, cases[i].file, &warnings, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(config_text(&c, SET_STORE_CA_CERT), cases[i].want);
        assert_string_equal(c.values[SET_STORE_CA_CERT].where, cases[i].where);
        assert_int_equal(warnings.len, 0);
        config_done(&c);
    }
}

/* Goal: what is wrong is refused, and the message says where and what to do. */
static void test_mistakes(void **state)
{
    static const struct {
        const char *env, *yaml, *says;
    } cases[] = {
        {"SLUICE_QUERY_MEMORY=much", NULL, "SLUICE_QUERY_MEMORY: 'much' is no size"},
        {"SLUICE_QUERY_MEMORY=1KiB", NULL, "at least 64MiB"},
        {"P_MAX_EVENT_PAYLOAD_SIZE=104857601", NULL, "at most 100MiB"},
        {"SLUICE_CORS=perhaps", NULL, "neither true nor false"},
        {"SLUICE_LOG_LEVEL=loud", NULL, "debug, info, warn or error"},
        {"SLUICE_USERNAME=a:b", NULL, "colon"},
        {"SLUICE_PASSWORD=", NULL, "needs a name and a password"},
        {"SLUICE_TLS_CERT=/c.pem", NULL, "tls-key"},
        {"SLUICE_DATA= ", NULL, "a path is missing"},
        {"SLUICE_PASSWORD_FILE=/does/not/exist", NULL, "SLUICE_PASSWORD_FILE"},
        {"A=b", "adr: x\n", "t.yaml:1: adr is no setting: did you mean addr?"},
        {"A=b", "query:\n  memroy: 1GiB\n", "t.yaml:2: query_memroy is no setting: did you mean query_memory?"},
        {"A=b", "query_memory: 1\n", "t.yaml:1: query_memory: too small"},
        {"A=b", "addr: [1, 2]\n", "needs a single value"},
        {"A=b", "addr: a:1\naddr: b:1\n", "t.yaml"},
        {"A=b", "query:\n  memory: 1GiB\nquery_memory: 2GiB\n", "given twice"},
        {"A=b", "config: other.yaml\n", "can not name another"},
        {"A=b", "password: null\n", "t.yaml:1: password has no value"},
        {"A=b", "addr: x:1\ndata: ~\n", "t.yaml:2: data has no value"},
        {"A=b", "password:\n", "t.yaml:1: password has no value"},
        {"A=b", "- addr\n", "one setting a line"},
        {"A=b", "addr: [\n", "no valid YAML"},
        {"A=b", "addr: x:1\ndata: a: b\n", "t.yaml:2:"},
        {"A=b", "just words\n", "one setting a line"},
        {"A=b", "a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: 1}}}}}}}}}}\n", "nested too deep"},
        {"A=b", "flush_size: 2GiB\nstage_max: 1GiB\n", "flush-size is larger"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c;
        struct err err = {0};
        _cleanup_(buf_done) struct buf warnings = BUF_INIT;
        _cleanup_(freep) char *entry = mem_str(slice_str(cases[i].env));
        char *env[] = {entry, NULL};
        enum err_code rc = load(&c, env, cases[i].yaml, &warnings, &err);
        if (rc == ERR_OK || !strstr(err.msg, cases[i].says))
            fail_msg("case %zu: code %d, '%s' does not say '%s'", i, rc, err.msg, cases[i].says);
        config_done(&c);
    }
}

/* Goal: what has no effect is said, what belongs to others is left alone. */
static void test_warnings(void **state)
{
    char *env[] = {"SLUICE_ADRR=x", "SLUICE_PORT_8000_TCP=tcp", "P_KAFKA_TOPICS=b", "P_MODE=all",
                   "P_GRPC_PORT=1", "P_UNHEARD_OF=1",           "PATH=/bin",        NULL};
    struct config c;
    struct err err = {0};
    _cleanup_(buf_done) struct buf warnings = BUF_INIT;
    (void)state;

    assert_int_equal(load(&c, env, NULL, &warnings, &err), ERR_OK);
    const char *text = buf_cstr(&warnings);
    assert_non_null(strstr(text, "SLUICE_ADRR: no setting has this name: did you mean SLUICE_ADDR?\n"));
    assert_non_null(strstr(text, "P_KAFKA_TOPICS: "));
    assert_non_null(strstr(text, "P_GRPC_PORT: "));
    assert_null(strstr(text, "P_MODE"));
    assert_null(strstr(text, "UNHEARD"));
    assert_null(strstr(text, "8000_TCP"));
    config_done(&c);
}

/* Goal: the variables of a deployment on S3 mean what they say; two places for the files, or a key that would be ignored, are refused. */
static void test_bucket(void **state)
{
    char *good[] = {"P_S3_BUCKET=logs", "P_S3_URL=http://127.0.0.1:9000", "P_S3_REGION=eu-west-1", NULL};
    char *twice[] = {"P_S3_BUCKET=logs", "P_FS_DIR=/srv/store", NULL};
    char *key[] = {"P_S3_SSEC_ENCRYPTION_KEY=SSE-C:AES256:AAAA", NULL};
    struct config c;
    struct err err = {0};
    _cleanup_(buf_done) struct buf warnings = BUF_INIT;
    (void)state;

    assert_int_equal(load(&c, good, NULL, &warnings, &err), ERR_OK);
    assert_string_equal(config_text(&c, SET_STORE), "s3://logs");
    assert_string_equal(config_text(&c, SET_S3_ENDPOINT), "http://127.0.0.1:9000");
    assert_string_equal(config_text(&c, SET_S3_REGION), "eu-west-1");
    config_done(&c);
    assert_int_equal(load(&c, twice, NULL, &warnings, &err), ERR_INVALID);
    assert_string_equal(err.msg, "P_S3_BUCKET and P_FS_DIR name two places for the files: remove one of them");
    config_done(&c);
    assert_int_equal(load(&c, key, NULL, &warnings, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "P_S3_SSEC_ENCRYPTION_KEY: "));
    config_done(&c);
}

/* Goal: the contract's way to write a percentage; a hot tier beside files that are local is refused. */
static void test_hot_tier(void **state)
{
    static const struct {
        const char *text;
        uint64_t want; /* 0: refused */
    } percents[] = {{"80.0", 80}, {"7%", 7},  {"100", 100}, {"99.9 %", 99}, {"0", 0},
                    {"101", 0},   {"80.", 0}, {"x", 0},     {"%", 0}};
    char *bucket[] = {"P_S3_BUCKET=logs", "P_HOT_TIER_DIR=/srv/hot", "P_HOT_TIER_DOWNLOAD_CHUNK_SIZE=5242880", NULL};
    char *folder[] = {"P_HOT_TIER_DIR=/srv/hot", NULL};
    struct config c;
    struct err err = {0};
    _cleanup_(buf_done) struct buf warnings = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(percents); i++) {
        config_init(&c);
        enum err_code rc = config_set(&c, SET_MAX_DISK_USAGE, percents[i].text, SOURCE_FLAG, "--max-disk-usage", &err);
        assert_int_equal(rc, percents[i].want ? ERR_OK : ERR_INVALID);
        assert_true(rc != ERR_OK || config_number(&c, SET_MAX_DISK_USAGE) == percents[i].want);
        config_done(&c);
    }
    assert_int_equal(load(&c, bucket, NULL, &warnings, &err), ERR_OK);
    assert_string_equal(config_text(&c, SET_HOT_TIER_DIR), "/srv/hot");
    assert_int_equal(config_number(&c, SET_HOT_TIER_CHUNK), 5u << 20);
    config_done(&c);
    assert_int_equal(load(&c, folder, NULL, &warnings, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "P_HOT_TIER_DIR: "));
    config_done(&c);
}

/* Goal: the password of a file, its strength against a plain one. */
static void test_password_file(void **state)
{
    char path[] = "/tmp/sluice-setting-test-XXXXXX";
    int fd = mkstemp(path);
    struct err err = {0};
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hunter2\r\nrest\n", 14), 14);
    (void)close(fd);
    static const struct {
        enum setting_source file, plain;
        const char *want; /* NULL: refused */
    } cases[] = {{SOURCE_ENV, SOURCE_DEFAULT, "hunter2"},
                 {SOURCE_ENV, SOURCE_FILE, "hunter2"},
                 {SOURCE_ENV, SOURCE_FLAG, "plain"},
                 {SOURCE_ENV, SOURCE_ENV, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c;
        config_init(&c);
        assert_int_equal(config_set(&c, SET_PASSWORD_FILE, path, cases[i].file, "f", &err), ERR_OK);
        if (cases[i].plain != SOURCE_DEFAULT)
            assert_int_equal(config_set(&c, SET_PASSWORD, "plain", cases[i].plain, "p", &err), ERR_OK);
        enum err_code rc = config_finish(&c, &err);
        assert_int_equal(rc, cases[i].want ? ERR_OK : ERR_INVALID);
        if (cases[i].want)
            assert_string_equal(config_text(&c, SET_PASSWORD), cases[i].want);
        config_done(&c);
    }
    (void)unlink(path);
}

static void test_machine(void **state)
{
    static const struct {
        const char *address;
        bool loopback;
    } cases[] = {{"127.0.0.1:8000", true}, {"127.9.9.9:1", true}, {"localhost:8000", true}, {"[::1]:8000", true},
                 {"0.0.0.0:8000", false},  {"[::]:8000", false},  {":8000", false},         {"10.0.0.1:8000", false}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (host_is_loopback(cases[i].address) != cases[i].loopback)
            fail_msg("%s", cases[i].address);
    assert_true(machine_memory() >= (1u << 20));
    assert_true(machine_cores() >= 1);
    assert_true(machine_disk_free("/tmp/does/not/exist/yet") > 0);
    assert_true(machine_disk_free("relative") > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_durations), cmocka_unit_test(test_print_and_parse),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_table),     cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_sources), cmocka_unit_test(test_mistakes),  cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_bucket),  cmocka_unit_test(test_hot_tier),  cmocka_unit_test(test_password_file),
        cmocka_unit_test(test_machine), cmocka_unit_test(test_renamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
