/* yaml.c: the configuration file. Keys are settings with _ for -, flat or nested ("query: {memory: 1GiB}" is query_memory); values are
 * scalars, read as text, so that a password of digits stays what was written. */
#include <libfyaml.h>

#include "cli/setting.h"

#include "base/banned.h"

#define YAML_BYTES_MAX (1u << 20)
#define YAML_DEPTH_MAX 8

struct yaml {
    struct config *c;
    const char *path;
    bool seen[SETTINGS_COUNT];
    struct err *err;
};

static int line_of(struct fy_node *n)
{
    struct fy_token *t = fy_node_get_type(n) == FYNT_SCALAR ? fy_node_get_scalar_token(n) : NULL;
    const struct fy_mark *m = t ? fy_token_start_mark(t) : NULL;
    return m ? m->line + 1 : 0;
}

static enum err_code unknown_key(struct yaml *y, const char *key, int line)
{
    struct buf all[SETTINGS_COUNT] = {0};
    const char *names[SETTINGS_COUNT];

    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        setting_file_key(&settings[i], &all[i]);
        names[i] = buf_cstr(&all[i]);
    }
    const char *near = nearest(key, names, SETTINGS_COUNT);
    (void)err_set(y->err, ERR_INVALID, "%s:%d: %s is no setting: %s%s%s", y->path, line, key,
                  near ? "did you mean " : "see sluice config check --help", near ? near : "", near ? "?" : "");
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        buf_done(&all[i]);
    return ERR_INVALID;
}

/* As YAML 1.2 has it: nothing at all, or one of these words without quotes. */
static bool is_null(struct fy_node *value)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    size_t len;
    const char *text = fy_node_get_scalar(value, &len);

    if (fy_node_get_style(value) != FYNS_PLAIN)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eq(slice_of(text ? text : "", text ? len : 0), slice_str(words[i])))
            return true;
    return false;
}

static enum err_code set_scalar(struct yaml *y, const char *key, struct fy_node *value, int line)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (!setting_is_file_key(&settings[i], key))
            continue;
        if (i == SET_CONFIG)
            return err_set(y->err, ERR_INVALID, "%s:%d: a configuration file can not name another one", y->path, line);
        if (y->seen[i])
            return err_set(y->err, ERR_INVALID, "%s:%d: %s is given twice", y->path, line, key);
        y->seen[i] = true;
        if (is_null(value)) /* `password: ~` must not make ~ the password */
            return err_set(
                y->err, ERR_INVALID,
                "%s:%d: %s has no value: write one (\"null\" in quotes if it is that text), or remove the line",
                y->path, line, key);
        size_t len;
        const char *text = fy_node_get_scalar(value, &len);
        if (text && memchr(text, 0, len))
            return err_set(y->err, ERR_INVALID, "%s:%d: %s holds a zero byte", y->path, line, key);
        _cleanup_(freep) char *copy = mem_str(slice_of(text ? text : "", text ? len : 0));
        _cleanup_(freep) char *where = mem_fmt("%s:%d: %s", y->path, line, key);
        return config_set(y->c, (enum setting_id)i, copy, SOURCE_FILE, where, y->err);
    }
    return unknown_key(y, key, line);
}

static enum err_code read_mapping(struct yaml *y, struct fy_node *map, const char *prefix, unsigned depth)
{
    void *it = NULL;
    struct fy_node_pair *pair;

    if (depth > YAML_DEPTH_MAX)
        return err_set(y->err, ERR_INVALID, "%s: nested too deep", y->path);
    while ((pair = fy_node_mapping_iterate(map, &it))) {
        struct fy_node *k = fy_node_pair_key(pair), *v = fy_node_pair_value(pair);
        size_t len = 0;
        const char *name = k && fy_node_is_scalar(k) ? fy_node_get_scalar(k, &len) : NULL;
        int line = k ? line_of(k) : 0;
        if (!name || memchr(name, 0, len))
            return err_set(y->err, ERR_INVALID, "%s: a key must be a plain word", y->path);
        _cleanup_(freep) char *key = mem_fmt("%s%s%.*s", prefix, *prefix ? "_" : "", (int)MIN(len, 200), name);
        if (v && fy_node_is_mapping(v))
            TRY(read_mapping(y, v, key, depth + 1));
        else if (v && fy_node_is_scalar(v) && !fy_node_is_alias(v))
            TRY(set_scalar(y, key, v, line));
        else
            return err_set(y->err, ERR_INVALID, "%s:%d: %s needs a single value", y->path, line, key);
    }
    return ERR_OK;
}

/* The library prints its diagnostics to a stream: the first line of them is the message. */
static struct fy_document *parse(const char *path, slice text, struct err *err)
{
    char *said = NULL;
    size_t said_len = 0;
    FILE *f = open_memstream(&said, &said_len);
    ASSERT(f);
    struct fy_diag_cfg dcfg;
    fy_diag_cfg_default(&dcfg);
    dcfg.fp = f;
    dcfg.colorize = false;
    struct fy_diag *diag = fy_diag_create(&dcfg);
    struct fy_parse_cfg cfg = {.diag = diag};
    struct fy_document *doc = fy_document_build_from_string(&cfg, (const char *)text.ptr, text.len);
    (void)fclose(f);
    if (!doc) {
        char *nl = said ? strchr(said, '\n') : NULL;
        if (nl)
            *nl = 0;
        const char *what = said && *said == '<' ? strchr(said, '>') : NULL; /* it calls the text <memory-@0x...> */
        (void)err_set(err, ERR_INVALID, "%s%s%s (no valid YAML)", path, what ? "" : ": ",
                      what            ? what + 1
                      : said && *said ? said
                                      : "it can not be read");
    }
    fy_diag_destroy(diag);
    free(said);
    return doc;
}

enum err_code config_yaml(struct config *c, const char *path, slice text, struct err *err)
{
    struct yaml y = {.c = c, .path = path, .err = err};
    slice t = slice_trim(text);

    if (text.len > YAML_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "%s is larger than a configuration file can be (1 MiB)", path);
    if (t.len == 0)
        return ERR_OK;
    struct fy_document *doc = parse(path, text, err);
    if (!doc)
        return ERR_INVALID;
    struct fy_node *root = fy_document_root(doc);
    enum err_code rc = ERR_OK;
    if (root && fy_node_is_mapping(root))
        rc = read_mapping(&y, root, "", 0);
    else if (root && !(fy_node_is_scalar(root) && fy_node_get_scalar0(root) && !*fy_node_get_scalar0(root)))
        rc = err_set(err, ERR_INVALID, "%s: write one setting a line, for example  addr: 127.0.0.1:8000", path);
    fy_document_destroy(doc);
    return rc;
}
