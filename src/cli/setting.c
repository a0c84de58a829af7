/* setting.c: from texts of flags, environment and file to checked values. */
#include "cli/setting.h"

#include <fnmatch.h>
#include <inttypes.h>

#include "base/log.h"
#include "os/os.h"

#include "base/banned.h"

#define PASSWORD_BYTES_MAX 4096

static char upper(char c)
{
    return c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

void setting_env(const struct setting *s, struct buf *out)
{
    buf_str(out, "SLUICE_");
    for (const char *c = s->name; *c; c++)
        buf_byte(out, (uint8_t)upper(*c));
}

void setting_file_key(const struct setting *s, struct buf *out)
{
    for (const char *c = s->name; *c; c++)
        buf_byte(out, (uint8_t)(*c == '-' ? '_' : *c));
}

static bool spelled(void (*spell)(const struct setting *s, struct buf *out), const struct setting *s, const char *text)
{
    const struct setting both[] = {{.name = s->name}, {.name = s->before}};
    bool is = false;

    for (size_t i = 0; i < ARRAY_LEN(both) && both[i].name && !is; i++) {
        _cleanup_(buf_done) struct buf own = BUF_INIT;
        spell(&both[i], &own);
        is = strcmp(buf_cstr(&own), text) == 0;
    }
    return is;
}

bool setting_is_env(const struct setting *s, const char *variable)
{
    return spelled(setting_env, s, variable);
}

bool setting_is_file_key(const struct setting *s, const char *key)
{
    return spelled(setting_file_key, s, key);
}

/* ---- one value */

void setting_number(const struct setting *s, uint64_t n, struct buf *out)
{
    if (s->kind == SETTING_SIZE)
        print_size(out, n);
    else if (s->kind == SETTING_TIME)
        print_duration(out, n);
    else if (s->kind == SETTING_PERCENT)
        buf_fmt(out, "%" PRIu64 "%%", n);
    else
        buf_fmt(out, "%" PRIu64, n);
}

static bool parse_bool(slice s, uint64_t *out)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eq_nocase(s, slice_str(words[i]))) {
            *out = i % 2;
            return true;
        }
    return false;
}

bool setting_is_truth(const char *word)
{
    uint64_t ignored;
    return parse_bool(slice_str(word), &ignored);
}

/* The contract's server writes 80.0: what comes after the point is cut. */
static bool parse_percent(slice s, uint64_t *out)
{
    size_t n = 0;

    if (s.len && s.ptr[s.len - 1] == '%')
        s = slice_trim(slice_head(s, s.len - 1));
    while (n < s.len && s.ptr[n] != '.')
        n++;
    uint64_t fraction;
    return slice_u64(slice_head(s, n), out) && (n == s.len || slice_u64(slice_from(s, n + 1), &fraction));
}

static enum err_code check_range(const struct setting *s, uint64_t n, struct err *err)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    if (s->max == 0 || (n >= s->min && n <= s->max))
        return ERR_OK;
    if (n < s->min) {
        buf_str(&b, "too small: at least ");
        setting_number(s, s->min, &b);
    } else {
        buf_str(&b, "too large: at most ");
        setting_number(s, s->max, &b);
    }
    return err_set(err, ERR_INVALID, "%s", buf_cstr(&b));
}

static enum err_code parse_value(const struct setting *s, const char *text, uint64_t unit, uint64_t *out,
                                 struct err *err)
{
    slice t = slice_trim(slice_str(text));
    enum log_level level;

    switch (s->kind) {
    case SETTING_TEXT: return ERR_OK;
    case SETTING_PATH: return t.len ? ERR_OK : err_set(err, ERR_INVALID, "a path is missing");
    case SETTING_BOOL:
        return parse_bool(t, out) ? ERR_OK : err_set(err, ERR_INVALID, "'%s' is neither true nor false", text);
    case SETTING_COUNT:
        if (!slice_u64(t, out))
            return err_set(err, ERR_INVALID, "'%s' is no whole number", text);
        break;
    case SETTING_PERCENT:
        if (!parse_percent(t, out))
            return err_set(err, ERR_INVALID, "'%s' is no percentage, such as 80 or 80%%", text);
        break;
    case SETTING_SIZE: TRY(parse_size(t, unit, out, err)); break;
    case SETTING_TIME: TRY(parse_duration(t, unit, out, err)); break;
    case SETTING_LEVEL:
        if (!log_parse_level(text, &level))
            return err_set(err, ERR_INVALID, "'%s' is no level: debug, info, warn or error", text);
        *out = level;
        return ERR_OK;
    default: ASSERT(false);
    }
    return check_range(s, *out, err);
}

enum err_code config_set(struct config *c, enum setting_id id, const char *text, enum setting_source source,
                         const char *where, struct err *err)
{
    const struct setting *s = &settings[id];
    struct value *v = &c->values[id];
    uint64_t n = 0;

    if (parse_value(s, text, source == SOURCE_ALIAS && s->alias_unit ? s->alias_unit : s->unit, &n, err) != ERR_OK)
        return err_wrap(err, "%s", where);
    if (source < v->source)
        return ERR_OK;
    v->text = arena_str(&c->arena, slice_str(text));
    v->where = arena_str(&c->arena, slice_str(where));
    v->number = n;
    v->source = source;
    return ERR_OK;
}

void config_init(struct config *c)
{
    struct err err;

    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        if (settings[i].preset)
            ASSERT(config_set(c, (enum setting_id)i, settings[i].preset, SOURCE_DEFAULT, "default", &err) == ERR_OK);
}

void config_done(struct config *c)
{
    arena_done(&c->arena);
}

/* ---- environment */

static slice env_name(const char *entry, const char **value)
{
    const char *eq = strchr(entry, '=');
    *value = eq ? eq + 1 : "";
    return slice_of(entry, eq ? (size_t)(eq - entry) : strlen(entry));
}

static void unknown_variable(const char *name, struct buf *warnings)
{
    struct buf all[SETTINGS_COUNT] = {0};
    const char *names[SETTINGS_COUNT];

    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        setting_env(&settings[i], &all[i]);
        names[i] = buf_cstr(&all[i]);
    }
    const char *near = nearest(name, names, SETTINGS_COUNT);
    buf_fmt(warnings, "%s: no setting has this name%s%s%s\n", name, near ? ": did you mean " : "", near ? near : "",
            near ? "?" : "");
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        buf_done(&all[i]);
}

/* Of Kubernetes (for a service of this name), of our own tests and of our other programs. */
static bool of_others(const char *name)
{
    static const char *const patterns[] = {"SLUICE_PORT",   "SLUICE_PORT_*", "SLUICE_SERVICE_*", "SLUICE_BIN",
                                           "SLUICE_SOAK",   "SLUICE_SOURCE", "SLUICE_SHARED",    "SLUICE_TEST_*",
                                           "SLUICE_BUILD*", "SLUICE_CACHE*"};

    for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

static enum err_code own_variable(struct config *c, const char *name, const char *value, struct buf *warnings,
                                  struct err *err)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        if (setting_is_env(&settings[i], name))
            return config_set(c, (enum setting_id)i, value, SOURCE_ENV, name, err);
    if (!of_others(name))
        unknown_variable(name, warnings);
    return ERR_OK;
}

static enum err_code alias_variable(struct config *c, const char *name, const char *value, struct buf *warnings,
                                    struct err *err)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        if (settings[i].alias && strcmp(settings[i].alias, name) == 0)
            return config_set(c, (enum setting_id)i, value, SOURCE_ALIAS, name, err);
    if (strcmp(name, "P_MODE") == 0 && slice_eq_nocase(slice_str(value), slice_lit("all")))
        return ERR_OK;
    for (size_t i = 0; i < settings_ignored_count; i++)
        if (fnmatch(settings_ignored[i].alias, name, 0) == 0) {
            if (strcmp(name, "P_S3_SSEC_ENCRYPTION_KEY") == 0) /* to go on without it would do harm */
                return err_set(err, ERR_INVALID, "%s: %s", name, settings_ignored[i].why);
            buf_fmt(warnings, "%s: %s\n", name, settings_ignored[i].why);
        }
    return ERR_OK; /* P_ is no prefix of ours alone: what nobody knows is somebody else's */
}

enum err_code config_environment(struct config *c, char *const *env, struct buf *warnings, struct err *err)
{
    for (; *env; env++) {
        const char *value;
        slice name = env_name(*env, &value);
        bool own = slice_starts(name, slice_lit("SLUICE_")), alias = slice_starts(name, slice_lit("P_"));
        if (!own && !alias)
            continue;
        _cleanup_(freep) char *text = mem_str(name);
        if (own)
            TRY(own_variable(c, text, value, warnings, err));
        else
            TRY(alias_variable(c, text, value, warnings, err));
    }
    return ERR_OK;
}

/* ---- what depends on other settings and on the machine */

static void set_auto_text(struct config *c, enum setting_id id, const char *text)
{
    if (!c->values[id].text)
        c->values[id] = (struct value){.text = text, .source = SOURCE_DEFAULT, .where = "default"};
}

static void set_auto(struct config *c, enum setting_id id, uint64_t n)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    if (c->values[id].text)
        return;
    n = MAX(n, settings[id].min);
    setting_number(&settings[id], n, &b);
    c->values[id] = (struct value){.text = arena_str(&c->arena, buf_view(&b)),
                                   .number = n,
                                   .source = SOURCE_DEFAULT,
                                   .where = "default, from this machine"};
}

/* A share of the memory is a round number of MiB. */
static uint64_t share(uint64_t memory, unsigned parts, uint64_t max)
{
    uint64_t n = MIN(memory / parts, max);
    return n & ~((UINT64_C(1) << 20) - 1);
}

static enum err_code read_password(struct config *c, struct err *err)
{
    const struct value *file = &c->values[SET_PASSWORD_FILE];
    struct value *password = &c->values[SET_PASSWORD];
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t len;

    if (!file->text || (password->source != SOURCE_DEFAULT && password->source > file->source))
        return ERR_OK;
    if (password->source == file->source)
        return err_set(err, ERR_INVALID, "%s and %s both give the password: keep one", password->where, file->where);
    if (os_read_file(os_real(), file->text, PASSWORD_BYTES_MAX, &bytes, &len, err) != ERR_OK)
        return err_wrap(err, "%s", file->where);
    const uint8_t *end = len ? memchr(bytes, '\n', len) : NULL;
    slice first = slice_of(bytes, end ? (size_t)(end - bytes) : len);
    if (first.len && first.ptr[first.len - 1] == '\r')
        first.len--;
    if (first.len == 0 || memchr(first.ptr, 0, first.len))
        return err_set(err, ERR_INVALID, "%s: the first line of %s is no password", file->where, file->text);
    password->text = arena_str(&c->arena, first);
    password->source = file->source;
    password->where = file->where;
    return ERR_OK;
}

static enum err_code place_store(struct config *c, struct err *err)
{
    static const struct {
        enum setting_id bucket;
        const char *scheme;
    } clouds[] = {{SET_S3_BUCKET, "s3"}, {SET_AZURE_CONTAINER, "az"}, {SET_GCS_BUCKET, "gs"}};
    const struct value *store = &c->values[SET_STORE], *named = store->text ? store : NULL;

    for (size_t i = 0; i < ARRAY_LEN(clouds); i++) {
        const struct value *bucket = &c->values[clouds[i].bucket];
        if (!bucket->text)
            continue;
        if (named)
            return err_set(err, ERR_INVALID, "%s and %s name two places for the files: remove one of them",
                           bucket->where, named->where);
        named = bucket;
        set_auto_text(c, SET_STORE, arena_fmt(&c->arena, "%s://%s", clouds[i].scheme, bucket->text));
    }
    if (!named)
        set_auto_text(c, SET_STORE, arena_fmt(&c->arena, "%s/store", c->values[SET_DATA].text));
    return ERR_OK;
}

enum err_code config_finish(struct config *c, struct err *err)
{
    uint64_t memory = machine_memory();
    unsigned cores = machine_cores();
    const char *data = c->values[SET_DATA].text;

    set_auto_text(c, SET_WAL, arena_fmt(&c->arena, "%s/wal", data));
    TRY(place_store(c, err));
    if (c->values[SET_HOT_TIER_DIR].text && !strstr(config_text(c, SET_STORE), "://"))
        return err_set(err, ERR_INVALID,
                       "%s: files are on this machine already, in %s: a hot tier goes with --store in a bucket",
                       c->values[SET_HOT_TIER_DIR].where, config_text(c, SET_STORE));
    set_auto(c, SET_NETWORK_THREADS,
             2 * MAX(cores, 2)); /* they decode small requests, and one may have to wait for its core */
    set_auto(c, SET_INFLIGHT_MAX, share(memory, 8, UINT64_C(512) << 20));
    set_auto(c, SET_STAGE_MAX, share(memory, 8, UINT64_C(1) << 30));
    set_auto(c, SET_QUERY_THREADS, cores);
    set_auto(c, SET_QUERY_MEMORY, share(memory, 2, UINT64_MAX));
    set_auto(c, SET_QUERY_SPILL, share(machine_disk_free(data), 2, UINT64_MAX));
    TRY(read_password(c, err));
    if (!c->values[SET_USERNAME].text[0] || !c->values[SET_PASSWORD].text[0])
        return err_set(err, ERR_INVALID,
                       "the root user needs a name and a password: set --username and SLUICE_PASSWORD");
    if (strchr(c->values[SET_USERNAME].text, ':'))
        return err_set(err, ERR_INVALID, "%s: the name of the root user can not have a colon",
                       c->values[SET_USERNAME].where);
    if (!c->values[SET_TLS_CERT].text != !c->values[SET_TLS_KEY].text)
        return err_set(err, ERR_INVALID, "HTTPS needs both --tls-cert and --tls-key: one of them is missing");
    if (config_number(c, SET_FLUSH_SIZE) > config_number(c, SET_STAGE_MAX))
        return err_set(err, ERR_INVALID,
                       "flush-size is larger than stage-max: rows would never be written before ingest stops");
    return ERR_OK;
}
