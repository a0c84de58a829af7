/* aws_keys.c: see aws_keys.h. */
#include "store/aws_keys.h"

#include <jansson.h>
#include <stdio.h>

#include "base/timetext.h"
#include "store/credential.h"
#include "store/xml.h"

#include "base/banned.h"

#define FILE_BYTES_MAX (1u << 20)

struct aws_key_source {
    struct os *os;
    struct aws_key_options opt; /* its strings are ours */
    struct exchange_pool *pool;
    struct os_mutex *mu;
    /* under mu, held over a renewal: the others wait for it */
    struct buf access, secret, token;
    struct credential_age age;
};

/* What a source found; moved into the source when whole. */
struct found {
    struct buf access, secret, token;
    int64_t expires_us;
};

static const char *env_of(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static const char *env(const struct aws_key_source *s, const char *name)
{
    const char *v = (s->opt.env ? s->opt.env : env_of)(name);
    return v && *v ? v : NULL;
}

static char *copy(const char *s)
{
    return s ? mem_str(slice_str(s)) : NULL;
}

struct aws_key_source *aws_key_source_new(struct os *os, const struct aws_key_options *opt)
{
    struct aws_key_source *s = mem_zalloc(sizeof(*s));

    s->os = os;
    s->opt = *opt;
    s->opt.access_key = copy(opt->access_key);
    s->opt.secret_key = copy(opt->secret_key);
    s->opt.region = copy(opt->region ? opt->region : "us-east-1");
    s->opt.metadata_endpoint = copy(opt->metadata_endpoint ? opt->metadata_endpoint : "http://169.254.169.254");
    s->opt.sts_endpoint = copy(opt->sts_endpoint);
    s->opt.ca_file = NULL;
    s->pool = credential_pool(opt->ca_file);
    s->mu = os->ops->mutex_new(os);
    return s;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool aws_key_source_same(const struct aws_key_source *a, const struct aws_key_source *b)
{
    return same_text(a->opt.access_key, b->opt.access_key) && same_text(a->opt.secret_key, b->opt.secret_key) &&
           same_text(a->opt.region, b->opt.region) && same_text(a->opt.metadata_endpoint, b->opt.metadata_endpoint) &&
           same_text(a->opt.sts_endpoint, b->opt.sts_endpoint) && a->opt.env == b->opt.env;
}

static void wipe_text(const char *s)
{
    if (s)
        explicit_bzero((char *)(uintptr_t)s, strlen(s));
    free((char *)(uintptr_t)s);
}

static void found_done(struct found *f)
{
    buf_wipe(&f->access);
    buf_wipe(&f->secret);
    buf_wipe(&f->token);
}

void aws_key_source_free(struct aws_key_source *s)
{
    if (!s)
        return;
    exchange_pool_free(s->pool);
    s->os->ops->mutex_free(s->os, s->mu);
    buf_wipe(&s->access);
    buf_wipe(&s->secret);
    buf_wipe(&s->token);
    wipe_text(s->opt.access_key);
    wipe_text(s->opt.secret_key);
    wipe_text(s->opt.region);
    wipe_text(s->opt.metadata_endpoint);
    wipe_text(s->opt.sts_endpoint);
    free(s);
}

void aws_key_copy_done(struct aws_key_copy *c)
{
    buf_wipe(&c->bytes);
    c->keys = (struct aws_keys){0};
}

static void put(struct buf *out, slice s)
{
    out->len = 0;
    buf_slice(out, s);
}

/* ---- given, environment, profile */

static bool from_text(const char *access, const char *secret, const char *token, struct found *out)
{
    if (!access || !secret)
        return false;
    put(&out->access, slice_str(access));
    put(&out->secret, slice_str(secret));
    put(&out->token, slice_str(token ? token : ""));
    out->expires_us = CREDENTIAL_NEVER;
    return true;
}

static slice next_line(slice *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    slice line = slice_head(*rest, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_from(*rest, line.len + 1);
    return slice_trim(line);
}

/* [profile] lines of name = value; '#' and ';' begin comments. */
static bool profile_find(slice text, slice profile, struct found *out)
{
    bool here = false;

    while (text.len) {
        slice line = next_line(&text);
        if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';')
            continue;
        if (line.ptr[0] == '[') {
            slice name = slice_trim(slice_of(line.ptr + 1, line.len - (line.len > 1 ? 2 : 1)));
            here = slice_ends(line, slice_lit("]")) && slice_eq(name, profile);
            continue;
        }
        const uint8_t *eq = memchr(line.ptr, '=', line.len);
        if (!here || !eq)
            continue;
        slice key = slice_trim(slice_head(line, (size_t)(eq - line.ptr)));
        slice value = slice_trim(slice_from(line, (size_t)(eq - line.ptr) + 1));
        if (slice_eq_nocase(key, slice_lit("aws_access_key_id")))
            put(&out->access, value);
        else if (slice_eq_nocase(key, slice_lit("aws_secret_access_key")))
            put(&out->secret, value);
        else if (slice_eq_nocase(key, slice_lit("aws_session_token")))
            put(&out->token, value);
    }
    out->expires_us = CREDENTIAL_NEVER;
    return out->access.len && out->secret.len;
}

/* ERR_NOT_FOUND: no such file. */
static enum err_code from_profile(struct aws_key_source *s, struct found *out, struct err *err)
{
    const char *file = env(s, "AWS_SHARED_CREDENTIALS_FILE"), *profile = env(s, "AWS_PROFILE"), *home = env(s, "HOME");
    _cleanup_(freep) char *path = file ? copy(file) : mem_fmt("%s/.aws/credentials", home ? home : "");
    uint8_t *bytes = NULL;
    size_t len = 0;

    TRY(os_read_file(s->os, path, FILE_BYTES_MAX, &bytes, &len, err));
    bool ok = profile_find(slice_of(bytes, len), slice_str(profile ? profile : "default"), out);
    explicit_bzero(bytes, len);
    free(bytes);
    if (ok)
        return ERR_OK;
    if (!profile && !file)
        return err_set(err, ERR_NOT_FOUND, "%s has no keys in [default]", path);
    return err_set(err, ERR_INVALID, "%s has no keys in [%s]", path, profile ? profile : "default");
}

/* ---- asked for over HTTP */

static slice member(const json_t *doc, const char *name)
{
    const json_t *v = json_object_get(doc, name);
    return json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v)) : (slice){NULL, 0};
}

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"} of the container's and of the instance's service. */
static enum err_code from_document(slice text, struct found *out, const char *who, struct err *err)
{
    json_t *doc = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    slice expires = member(doc, "Expiration");

    put(&out->access, member(doc, "AccessKeyId"));
    put(&out->secret, member(doc, "SecretAccessKey"));
    put(&out->token, member(doc, "Token"));
    bool ok = out->access.len && out->secret.len;
    if (expires.len)
        ok = ok && time_parse_rfc3339(expires, true, &out->expires_us);
    else
        out->expires_us = CREDENTIAL_NEVER;
    json_decref(doc);
    return ok ? ERR_OK : err_set(err, ERR_INVALID, "credentials of %s: its answer holds no keys", who);
}

static enum err_code from_container(struct aws_key_source *s, struct found *out, struct err *err)
{
    const char *full = env(s, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *relative = env(s, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *token = env(s, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    const char *token_file = env(s, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    _cleanup_(freep) char *url = relative ? mem_fmt("http://169.254.170.2%s", relative) : copy(full);
    _cleanup_(buf_wipe) struct buf reply = BUF_INIT;
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct exchange_header header = {"Authorization", slice_str(token ? token : "")};
    size_t len = 0;

    if (token_file) {
        TRY(os_read_file(s->os, token_file, FILE_BYTES_MAX, &bytes, &len, err));
        header.value = slice_trim(slice_of(bytes, len));
    }
    TRY(credential_ask(s->pool, "GET", url, header.value.len ? &header : NULL, slice_lit(""), &reply, "the container",
                       err));
    return from_document(buf_view(&reply), out, "the container", err);
}

/* IMDSv2: a session token, then the role's name, then its keys. A service that refuses the first may be of version 1. */
static enum err_code from_instance(struct aws_key_source *s, struct found *out, struct err *err)
{
    static const char who[] = "the instance's role";
    const char *named = env(s, "AWS_EC2_METADATA_SERVICE_ENDPOINT"), *base = named ? named : s->opt.metadata_endpoint;
    const struct exchange_header lifetime = {"X-aws-ec2-metadata-token-ttl-seconds", slice_lit("21600")};
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;
    _cleanup_(buf_wipe) struct buf role = BUF_INIT;
    _cleanup_(buf_wipe) struct buf reply = BUF_INIT;
    _cleanup_(freep) char *token_url = mem_fmt("%s/latest/api/token", base);
    _cleanup_(freep) char *role_url = mem_fmt("%s/latest/meta-data/iam/security-credentials/", base);

    enum err_code rc = credential_ask(s->pool, "PUT", token_url, &lifetime, slice_lit(""), &token, who, err);
    bool without = rc == ERR_DENIED && s->opt.imdsv1_fallback;
    if (!without)
        TRY(rc);
    const struct exchange_header header = {"X-aws-ec2-metadata-token", slice_trim(buf_view(&token))},
                                 *session = without ? NULL : &header;
    TRY(credential_ask(s->pool, "GET", role_url, session, slice_lit(""), &role, who, err));
    slice rest = buf_view(&role), name = next_line(&rest);
    _cleanup_(freep) char *keys_url =
        mem_fmt("%s/latest/meta-data/iam/security-credentials/" SLICE_FMT, base, SLICE_ARG(name));
    TRY(credential_ask(s->pool, "GET", keys_url, session, slice_lit(""), &reply, who, err));
    return from_document(buf_view(&reply), out, who, err);
}

static bool sts_element(void *arg, const struct xml_element *e)
{
    struct found *f = arg;

    if (slice_ends(e->path, slice_lit("/Credentials/AccessKeyId")))
        put(&f->access, e->text);
    else if (slice_ends(e->path, slice_lit("/Credentials/SecretAccessKey")))
        put(&f->secret, e->text);
    else if (slice_ends(e->path, slice_lit("/Credentials/SessionToken")))
        put(&f->token, e->text);
    else if (slice_ends(e->path, slice_lit("/Credentials/Expiration")))
        return time_parse_rfc3339(slice_trim(e->text), true, &f->expires_us);
    return true;
}

/* STS AssumeRoleWithWebIdentity, the one request that is not signed. */
static enum err_code from_web_identity(struct aws_key_source *s, const char *token_file, const char *role,
                                       struct found *out, struct err *err)
{
    static const char who[] = "STS";
    const char *session = env(s, "AWS_ROLE_SESSION_NAME"), *endpoint = env(s, "AWS_ENDPOINT_URL_STS");
    const struct exchange_header form = {"Content-Type", slice_lit("application/x-www-form-urlencoded")};
    _cleanup_(buf_done) struct buf url = BUF_INIT;
    _cleanup_(buf_wipe) struct buf body = BUF_INIT;
    _cleanup_(buf_wipe) struct buf reply = BUF_INIT;
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t len = 0;

    TRY(os_read_file(s->os, token_file, FILE_BYTES_MAX, &bytes, &len, err));
    if (endpoint || s->opt.sts_endpoint)
        buf_str(&url, endpoint ? endpoint : s->opt.sts_endpoint);
    else
        buf_fmt(&url, "https://sts.%s.amazonaws.com", s->opt.region);
    buf_byte(&url, '/');
    buf_str(&body, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=");
    aws_encode(&body, slice_str(role), false);
    buf_str(&body, "&RoleSessionName=");
    aws_encode(&body, slice_str(session ? session : "sluice"), false);
    buf_str(&body, "&WebIdentityToken=");
    aws_encode(&body, slice_trim(slice_of(bytes, len)), false);
    out->expires_us = CREDENTIAL_NEVER;
    TRY(credential_ask(s->pool, "POST", buf_cstr(&url), &form, buf_view(&body), &reply, who, err));
    TRY(xml_walk(buf_view(&reply), sts_element, out, err));
    return !(out->access.len && out->secret.len && out->token.len)
               ? err_set(err, ERR_INVALID, "credentials of STS: its answer holds no keys")
               : ERR_OK;
}

/* ---- the chain */

static enum err_code look(struct aws_key_source *s, struct found *out, struct err *err)
{
    const char *token_file = env(s, "AWS_WEB_IDENTITY_TOKEN_FILE"), *role = env(s, "AWS_ROLE_ARN");

    if (from_text(s->opt.access_key, s->opt.secret_key, NULL, out))
        return ERR_OK;
    if (from_text(env(s, "AWS_ACCESS_KEY_ID"), env(s, "AWS_SECRET_ACCESS_KEY"), env(s, "AWS_SESSION_TOKEN"), out))
        return ERR_OK;
    if (token_file && role)
        return from_web_identity(s, token_file, role, out, err);
    enum err_code rc = from_profile(s, out, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (env(s, "AWS_CONTAINER_CREDENTIALS_FULL_URI") || env(s, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"))
        return from_container(s, out, err);
    const char *off = env(s, "AWS_EC2_METADATA_DISABLED");
    if (!(off && strcmp(off, "true") == 0) && from_instance(s, out, err) == ERR_OK)
        return ERR_OK;
    return err_set(
        err, ERR_DENIED,
        "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (looked in the environment, a web "
        "identity, ~/.aws/credentials, the container's and the instance's metadata)");
}

static enum err_code renew(struct aws_key_source *s, int64_t now, struct err *err) /* under mu */
{
    _cleanup_(found_done) struct found f = {.expires_us = CREDENTIAL_NEVER};

    credential_tried(&s->age, now);
    TRY(look(s, &f, err));
    put(&s->access, buf_view(&f.access));
    put(&s->secret, buf_view(&f.secret));
    put(&s->token, buf_view(&f.token));
    s->age.expires_us = f.expires_us;
    s->age.have = true;
    return ERR_OK;
}

enum err_code aws_key_source_get(struct aws_key_source *s, bool refused, struct aws_key_copy *out, struct err *err)
{
    int64_t now = os_wall_us(s->os);
    enum err_code rc = ERR_OK;

    os_lock(s->os, s->mu);
    if (credential_due(&s->age, now, refused)) {
        rc = renew(s, now, err);
        if (rc != ERR_OK && s->age.have && s->age.expires_us > now)
            rc = ERR_OK; /* the old ones still hold */
    }
    if (rc == ERR_OK) {
        struct buf *b = &out->bytes;
        *out = (struct aws_key_copy){0};
        buf_reserve(b, s->access.len + s->secret.len + s->token.len + 1);
        buf_slice(b, buf_view(&s->access));
        buf_slice(b, buf_view(&s->secret));
        buf_slice(b, buf_view(&s->token));
        out->keys.access_key = slice_of(b->ptr, s->access.len);
        out->keys.secret_key = slice_of(b->ptr + s->access.len, s->secret.len);
        out->keys.session_token = slice_of(b->ptr + s->access.len + s->secret.len, s->token.len);
    }
    os_unlock(s->os, s->mu);
    return rc;
}
