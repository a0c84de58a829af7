/* setting.h: everything that can be configured, as one table. It drives the flags, the environment, the configuration file, --help,
 * `sluice config check` and docs/configuration.md (a test compares), so that the four never disagree.
 *
 * A setting has one name, "query-memory", from which its other spellings follow:
 *   flag --query-memory, environment SLUICE_QUERY_MEMORY, in the file query_memory: (or nested, query: {memory: ...}).
 * A name that it had before is taken in the same places and shown in none but its help.
 * Strength, weakest first: default, file, the contract's P_ variable, SLUICE_ variable, flag. A stronger source replaces a weaker one
 * as a whole; a value is checked wherever it comes from, even where a stronger one hides it.
 * THREADS one. TESTS setting_test.c */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/units.h"

enum setting_id {
    SET_CONFIG,
    SET_DATA,
    SET_WAL,
    SET_STORE,
    SET_STORE_CA_CERT,
    SET_S3_BUCKET,
    SET_S3_ENDPOINT,
    SET_S3_REGION,
    SET_S3_ACCESS_KEY,
    SET_S3_SECRET_KEY,
    SET_S3_PATH_STYLE,
    SET_S3_CACHE_CONTROL_NO_STORE,
    SET_S3_TLS_SKIP_VERIFY,
    SET_S3_RETRY,
    SET_STORE_REQUESTS_MAX,
    SET_AWS_METADATA_ENDPOINT,
    SET_AWS_IMDSV1_FALLBACK,
    SET_AZURE_CONTAINER,
    SET_AZURE_ACCOUNT,
    SET_AZURE_ENDPOINT,
    SET_AZURE_ACCESS_KEY,
    SET_AZURE_TENANT_ID,
    SET_AZURE_CLIENT_ID,
    SET_AZURE_CLIENT_SECRET,
    SET_GCS_BUCKET,
    SET_GCS_ENDPOINT,
    SET_GCS_KEY_FILE,
    SET_GCS_TLS_SKIP_VERIFY,
    SET_ADDR,
    SET_USERNAME,
    SET_PASSWORD,
    SET_PASSWORD_FILE,
    SET_TLS_CERT,
    SET_TLS_KEY,
    SET_CORS,
    SET_CONNECTIONS_MAX,
    SET_KEEP_ALIVE,
    SET_NETWORK_THREADS,
    SET_LOG_LEVEL,
    SET_BODY_MAX,
    SET_INFLIGHT_MAX,
    SET_FLATTEN_LEVEL,
    SET_COLUMNS_MAX,
    SET_STAGE_MAX,
    SET_WAL_SEGMENT,
    SET_WAL_MAX,
    SET_DISK_RESERVE,
    SET_FLUSH_SIZE,
    SET_FLUSH_AGE,
    SET_FLUSH_IDLE,
    SET_FOLD_INTERVAL,
    SET_COMPACT_INTERVAL,
    SET_INDEX_INTERVAL,
    SET_GC_INTERVAL,
    SET_RETENTION_INTERVAL,
    SET_SCRUB_INTERVAL,
    SET_HOT_TIER_DIR,
    SET_HOT_TIER_MAX,
    SET_MAX_DISK_USAGE,
    SET_HOT_TIER_FILES,
    SET_HOT_TIER_CHUNK,
    SET_QUERY_ENGINES,
    SET_QUERY_THREADS,
    SET_QUERY_MEMORY,
    SET_QUERY_SPILL,
    SET_QUERY_QUEUE,
    SET_QUERY_TIMEOUT,
    SET_SERVER,
    SET_CA_CERT,
    SETTINGS_COUNT
};
enum setting_kind {
    SETTING_TEXT,
    SETTING_PATH,
    SETTING_BOOL,    /* true, false, yes, no, on, off, 1, 0 */
    SETTING_COUNT,   /* a whole number */
    SETTING_PERCENT, /* 80, 80%, 80.0; whole ones */
    SETTING_SIZE,    /* bytes: 1048576, 64MiB, 1GB */
    SETTING_TIME,    /* microseconds: 10s, 500ms, 1h30m */
    SETTING_LEVEL,   /* debug, info, warn, error */
};
enum setting_source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ALIAS, SOURCE_ENV, SOURCE_FLAG };
enum setting_scope { SCOPE_SERVER = 1, SCOPE_CLIENT = 2, SCOPE_STORE = 4 /* commands that open a store directory */ };

struct setting {
    const char *name;
    const char *alias; /* the contract's variable, or NULL */
    enum setting_kind kind;
    unsigned scope;
    uint64_t
        unit; /* SIZE: bytes, TIME: microseconds that a bare number means; 0: a bare number needs a unit (TIME), is bytes (SIZE) */
    uint64_t alias_unit;   /* the same in the alias, where the contract has its own */
    uint64_t min, max;     /* of numbers */
    const char *preset;    /* default as text; NULL: see auto_text */
    const char *auto_text; /* how the default comes about when it depends on the machine */
    const char *help;      /* a sentence */
    bool secret;           /* never printed */
    const char *before;    /* a name that it had; NULL */
};
extern const struct setting settings[SETTINGS_COUNT];
/* Variables of the contract that we know and that do nothing here; `why` says what to do instead. */
struct setting_ignored {
    const char *alias, *why;
};
extern const struct setting_ignored settings_ignored[];
extern const size_t settings_ignored_count;

void setting_number(const struct setting *s, uint64_t n, struct buf *out); /* as one writes it */
bool setting_is_truth(const char *word);                                   /* a value of SETTING_BOOL */
void setting_env(const struct setting *s, struct buf *out);                /* "SLUICE_QUERY_MEMORY" */
void setting_file_key(const struct setting *s, struct buf *out);           /* "query_memory" */
bool setting_is_env(const struct setting *s, const char *variable);        /* by either name, as the next */
bool setting_is_file_key(const struct setting *s, const char *key);

/* ---- values */
struct value {
    const char *text; /* as given, or a default; NULL: none */
    uint64_t number;  /* BOOL, COUNT, SIZE, TIME, LEVEL */
    enum setting_source source;
    const char *where; /* "--data", "SLUICE_DATA", "P_FS_DIR", "sluice.yaml:3" */
};
struct config {
    struct arena arena;
    struct value values[SETTINGS_COUNT];
};
/* Defaults only. The caller's to config_done(). */
void config_init(struct config *c);
void config_done(struct config *c);
/* One value from a source; a weaker source does not replace a stronger one, but is checked. ERR_INVALID names the place and an example. */
MUST_CHECK enum err_code config_set(struct config *c, enum setting_id id, const char *text, enum setting_source source,
                                    const char *where, struct err *err);
/* Environment, aliases included; as `environ`. What has no effect goes to `warnings`, a line each: variables of the contract that do
 * nothing here, and SLUICE_ names that are no setting, with the nearest one. They are no errors, because others set variables of this
 * form too: Kubernetes gives every container of a namespace SLUICE_PORT and the like when a service is called sluice. */
MUST_CHECK enum err_code config_environment(struct config *c, char *const *env, struct buf *warnings, struct err *err);
/* YAML; `path` is for messages. */
MUST_CHECK enum err_code config_yaml(struct config *c, const char *path, slice text, struct err *err);
/* Fills what depends on other settings and on the machine (paths below data, memory shares), reads password_file, and checks what no
 * single value shows. Last. */
MUST_CHECK enum err_code config_finish(struct config *c, struct err *err);

static inline const char *config_text(const struct config *c, enum setting_id id)
{
    return c->values[id].text;
}
static inline uint64_t config_number(const struct config *c, enum setting_id id)
{
    return c->values[id].number;
}

/* ---- helpers */
/* The candidate nearest to `word`, or NULL when none is near: Damerau-Levenshtein distance at most a third of the length, at least 1. */
const char *nearest(const char *word, const char *const *candidates, size_t count);
bool host_is_loopback(const char *address); /* of "host:port" */
/* Bytes of memory that this process may use: the machine's, or less where a control group says so. */
uint64_t machine_memory(void);
unsigned machine_cores(void);
uint64_t machine_disk_free(const char *path); /* of the nearest existing parent; 0: unknown */
