/* token.c: see token.h. */
#include "store/token.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "store/aws_sign.h"
#include "store/credential.h"
#include "store/jwt.h"

#include "base/banned.h"

#define FILE_BYTES_MAX (1u << 20)
#define TOKEN_BYTES_MAX (12u << 10)
#define LIFETIME_S_MAX 86400
#define GOOGLE_SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define ENTRA_RESOURCE "https://storage.azure.com/"
#define ENTRA_ASSERTION "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

struct token_source {
    struct os *os;
    enum token_issuer issuer;
    char *key_file, *tenant, *client, *client_secret, *metadata_endpoint;
    struct exchange_pool *pool;
    struct os_mutex *mu;
    /* under mu, held over a renewal: the others wait for it */
    struct buf token;
    struct credential_age age;
};

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static char *copy(const char *given, const char *variable)
{
    const char *v = given ? given : variable ? env(variable) : NULL;
    return v ? mem_str(slice_str(v)) : NULL;
}

struct token_source *token_source_new(struct os *os, const struct token_options *opt)
{
    struct token_source *s = mem_zalloc(sizeof(*s));

    s->os = os;
    s->issuer = opt->issuer;
    s->key_file = copy(opt->key_file, "GOOGLE_APPLICATION_CREDENTIALS");
    s->tenant = copy(opt->tenant, "AZURE_TENANT_ID");
    s->client = copy(opt->client, "AZURE_CLIENT_ID");
    s->client_secret = copy(opt->client_secret, "AZURE_CLIENT_SECRET");
    s->metadata_endpoint = copy(opt->metadata_endpoint, NULL);
    s->pool = credential_pool(opt->ca_file);
    s->mu = os->ops->mutex_new(os);
    return s;
}

void token_source_free(struct token_source *s)
{
    if (!s)
        return;
    exchange_pool_free(s->pool);
    s->os->ops->mutex_free(s->os, s->mu);
    buf_wipe(&s->token);
    if (s->client_secret)
        explicit_bzero(s->client_secret, strlen(s->client_secret));
    free(s->client_secret);
    free(s->key_file);
    free(s->tenant);
    free(s->client);
    free(s->metadata_endpoint);
    free(s);
}

/* ---- services that hand out tokens */

bool token_answer_read(slice document, struct buf *token, int64_t *lifetime_s)
{
    json_t *doc = json_loadb((const char *)document.ptr, document.len, 0, NULL);
    const json_t *value = json_object_get(doc, "access_token"), *lifetime = json_object_get(doc, "expires_in");
    uint64_t seconds = json_is_integer(lifetime) ? (uint64_t)MAX(json_integer_value(lifetime), 0) : 0;
    slice text = slice_of(json_string_value(value), json_string_length(value));

    bool ok = (json_is_integer(lifetime) || slice_u64(slice_str(json_string_value(lifetime)), &seconds)) && seconds;
    for (size_t i = 0; i < text.len; i++)
        ok = ok && text.ptr[i] > ' ' && text.ptr[i] < 0x7f; /* it becomes a header */
    ok = ok && text.len && text.len <= TOKEN_BYTES_MAX;
    if (ok) {
        token->len = 0;
        buf_slice(token, text);
        *lifetime_s = (int64_t)MIN(seconds, (uint64_t)LIFETIME_S_MAX);
    }
    json_decref(doc);
    return ok;
}

static enum err_code ask(struct token_source *s, const char *method, const char *url,
                         const struct exchange_header *header, slice body, const char *who, struct err *err)
{
    _cleanup_(buf_wipe) struct buf reply = BUF_INIT;
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;
    int64_t lifetime_s;

    TRY(credential_ask(s->pool, method, url, header, body, &reply, who, err));
    if (!token_answer_read(buf_view(&reply), &token, &lifetime_s))
        return err_set(err, ERR_INVALID, "credentials of %s: its answer holds no token", who);
    buf_wipe(&s->token);
    s->token = token;
    token = BUF_INIT;
    s->age.expires_us = os_wall_us(s->os) + lifetime_s * 1000000;
    s->age.have = true;
    return ERR_OK;
}

static enum err_code post(struct token_source *s, const char *url, struct buf *form, const char *who, struct err *err)
{
    const struct exchange_header type = {"Content-Type", slice_lit("application/x-www-form-urlencoded")};
    return ask(s, "POST", url, &type, buf_view(form), who, err);
}

static void field(struct buf *form, const char *name, const char *value)
{
    buf_fmt(form, "%s%s=", form->len ? "&" : "", name);
    aws_encode(form, slice_str(value), false);
}

static const char *member(const json_t *doc, const char *name)
{
    const char *v = json_string_value(json_object_get(doc, name));
    return v ? v : "";
}

/* ---- Google */

static enum err_code service_account(struct token_source *s, const json_t *doc, struct err *err)
{
    const char *service = member(doc, "token_uri"), *mail = member(doc, "client_email");
    _cleanup_(buf_done) struct buf header = BUF_INIT;
    _cleanup_(buf_done) struct buf claims = BUF_INIT;
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;
    _cleanup_(buf_wipe) struct buf form = BUF_INIT;
    int64_t now_s = os_wall_us(s->os) / 1000000;

    buf_str(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":");
    buf_json_str(&header, slice_str(member(doc, "private_key_id")));
    buf_byte(&header, '}');
    buf_str(&claims, "{\"iss\":");
    buf_json_str(&claims, slice_str(mail));
    buf_str(&claims, ",\"scope\":\"" GOOGLE_SCOPE "\",\"aud\":");
    buf_json_str(&claims, slice_str(service));
    buf_fmt(&claims, ",\"iat\":%" PRId64 ",\"exp\":%" PRId64 "}", now_s, now_s + 3600);
    TRY(jwt_sign(buf_view(&header), buf_view(&claims), slice_str(member(doc, "private_key")), &token, err));
    field(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    field(&form, "assertion", buf_cstr(&token));
    return post(s, service, &form, "the service account", err);
}

static enum err_code user_account(struct token_source *s, const json_t *doc, struct err *err)
{
    const char *service = member(doc, "token_uri");
    _cleanup_(buf_wipe) struct buf form = BUF_INIT;

    field(&form, "grant_type", "refresh_token");
    field(&form, "client_id", member(doc, "client_id"));
    field(&form, "client_secret", member(doc, "client_secret"));
    field(&form, "refresh_token", member(doc, "refresh_token"));
    return post(s, *service ? service : "https://oauth2.googleapis.com/token", &form, "the Google account", err);
}

static enum err_code from_key_document(struct token_source *s, slice text, const char *path, struct err *err)
{
    json_t *doc = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    const char *type = member(doc, "type");
    enum err_code rc;

    if (strcmp(type, "service_account") == 0 && *member(doc, "token_uri") && *member(doc, "private_key"))
        rc = service_account(s, doc, err);
    else if (strcmp(type, "authorized_user") == 0 && *member(doc, "refresh_token"))
        rc = user_account(s, doc, err);
    else
        rc = err_set(err, ERR_INVALID, "it holds no key of a service account and no refresh token of a user");
    json_decref(doc);
    return rc == ERR_OK ? rc : err_wrap(err, "%s", path);
}

/* ERR_NOT_FOUND: no such file. */
static enum err_code from_key_file(struct token_source *s, const char *path, struct err *err)
{
    uint8_t *bytes = NULL;
    size_t len = 0;

    TRY(os_read_file(s->os, path, FILE_BYTES_MAX, &bytes, &len, err));
    enum err_code rc = from_key_document(s, slice_of(bytes, len), path, err);
    explicit_bzero(bytes, len);
    free(bytes);
    return rc;
}

static enum err_code from_google(struct token_source *s, struct err *err)
{
    const char *home = env("HOME"), *host = env("GCE_METADATA_HOST");
    const struct exchange_header flavor = {"Metadata-Flavor", slice_lit("Google")};
    _cleanup_(freep) char *known = mem_fmt("%s/.config/gcloud/application_default_credentials.json", home ? home : "");
    _cleanup_(freep) char *named = host ? mem_fmt("http://%s", host) : NULL;
    const char *base = s->metadata_endpoint ? s->metadata_endpoint : named ? named : "http://metadata.google.internal";
    _cleanup_(freep) char *url = mem_fmt("%s/computeMetadata/v1/instance/service-accounts/default/token", base);

    if (s->key_file)
        return from_key_file(s, s->key_file, err);
    enum err_code rc = from_key_file(s, known, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (ask(s, "GET", url, &flavor, slice_lit(""), "the machine's service account", err) == ERR_OK)
        return ERR_OK;
    return err_set(
        err, ERR_DENIED,
        "no Google Cloud credentials: set gcs-key-file or GOOGLE_APPLICATION_CREDENTIALS (looked there, in %s, "
        "and asked the metadata server of the machine)",
        known);
}

/* ---- Entra */

static enum err_code from_client(struct token_source *s, const char *token_file, struct err *err)
{
    const char *host = env("AZURE_AUTHORITY_HOST");
    const char *authority = host ? host : "https://login.microsoftonline.com";
    _cleanup_(freep) char *url =
        mem_fmt("%.*s/%s/oauth2/v2.0/token", (int)strcspn(authority, "?#"), authority, s->tenant);
    _cleanup_(buf_wipe) struct buf form = BUF_INIT;
    uint8_t *bytes = NULL;
    size_t len = 0;

    field(&form, "grant_type", "client_credentials");
    field(&form, "client_id", s->client);
    field(&form, "scope", ENTRA_RESOURCE ".default");
    if (s->client_secret) {
        field(&form, "client_secret", s->client_secret);
    } else {
        TRY(os_read_file(s->os, token_file, FILE_BYTES_MAX, &bytes, &len, err));
        field(&form, "client_assertion_type", ENTRA_ASSERTION);
        buf_str(&form, "&client_assertion=");
        aws_encode(&form, slice_trim(slice_of(bytes, len)), false);
        explicit_bzero(bytes, len);
        free(bytes);
    }
    return post(s, url, &form, "Entra", err);
}

static enum err_code from_managed_identity(struct token_source *s, struct err *err)
{
    const char *host = env("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    const char *base = s->metadata_endpoint ? s->metadata_endpoint : host ? host : "http://169.254.169.254";
    const struct exchange_header metadata = {"Metadata", slice_lit("true")};
    _cleanup_(buf_done) struct buf url = BUF_INIT;

    buf_fmt(&url, "%s/metadata/identity/oauth2/token?api-version=2018-02-01", base);
    field(&url, "resource", ENTRA_RESOURCE);
    if (s->client)
        field(&url, "client_id", s->client);
    return ask(s, "GET", buf_cstr(&url), &metadata, slice_lit(""), "the machine's identity", err);
}

static enum err_code from_entra(struct token_source *s, struct err *err)
{
    const char *token_file = env("AZURE_FEDERATED_TOKEN_FILE");

    if (s->tenant && s->client && (s->client_secret || token_file))
        return from_client(s, token_file, err);
    if (from_managed_identity(s, err) == ERR_OK)
        return ERR_OK;
    return err_set(
        err, ERR_DENIED,
        "no Azure credentials: set azure-access-key, or azure-tenant-id, azure-client-id and azure-client-secret "
        "(looked "
        "there, in AZURE_TENANT_ID and its kin, for a federated token, and asked for the machine's managed identity)");
}

enum err_code token_source_get(struct token_source *s, bool refused, struct buf *out, struct err *err)
{
    int64_t now = os_wall_us(s->os);
    enum err_code rc = ERR_OK;

    os_lock(s->os, s->mu);
    if (credential_due(&s->age, now, refused)) {
        credential_tried(&s->age, now);
        rc = s->issuer == TOKEN_GOOGLE ? from_google(s, err) : from_entra(s, err);
        if (rc != ERR_OK && s->age.have && s->age.expires_us > now)
            rc = ERR_OK; /* the old one still holds */
    }
    if (rc == ERR_OK) {
        buf_wipe(out);
        buf_slice(out, buf_view(&s->token));
    }
    os_unlock(s->os, s->mu);
    return rc;
}
