/* azure.c: the dialect of Azure Blob Storage: see azure.h. */
#include "store/azure.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "engine/engine.h"
#include "store/aws_sign.h"
#include "store/azure_sign.h"

#include "base/banned.h"

#define AZURE_VERSION "2021-12-02"
#define MD5_BYTES 16
#define BLOCK_ID_BYTES 42 /* nonce and number, of one length: base64 without padding */

struct azure {
    struct remote base;
    struct token_source *tokens;
    char *account, *key; /* key NULL: tokens */
    char *origin, *host; /* "https://host:port" and "host:port" */
    bool tls;
    char *path; /* before the container: "" or "/..." */
};

static struct azure *azure_of(const struct remote *r)
{
    return (struct azure *)(uintptr_t)r;
}

/* ---- requests */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct exchange_header *)a)->name, ((const struct exchange_header *)b)->name);
}

static enum err_code authorize(struct azure *s, const struct azure_request *r, bool refused, struct buf *out,
                               struct err *err)
{
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;

    if (s->key)
        return azure_sign(r, slice_str(s->account), slice_str(s->key), out, err);
    TRY(token_source_get(s->tokens, refused, &token, err));
    buf_reserve(out, token.len + 8);
    buf_str(out, "Bearer ");
    buf_slice(out, buf_view(&token));
    return ERR_OK;
}

static enum err_code azure_request(struct remote *r, const struct remote_call *c, bool refused,
                                   struct remote_request *out, struct err *err)
{
    struct azure *s = azure_of(r);
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    _cleanup_(buf_wipe) struct buf authorization = BUF_INIT;
    char date[AZURE_DATE_TEXT + 1];

    buf_fmt(&path, "%s/%s", s->path, s->base.bucket);
    if (!c->bucket) {
        buf_byte(&path, '/');
        aws_encode(&path, slice_str(s->base.prefix), true);
        aws_encode(&path, c->key, true);
    }
    buf_fmt(&out->url, "%s%s%s", s->origin, buf_cstr(&path), c->query.len ? "?" : "");
    buf_slice(&out->url, c->query);
    azure_date(remote_clock_us(r), date);
    for (size_t i = 0; i < c->extra_count; i++)
        remote_request_header(out, c->extra[i].name, c->extra[i].value);
    remote_request_header(out, "x-ms-date", slice_str(date));
    remote_request_header(out, "x-ms-version", slice_lit(AZURE_VERSION));
    qsort(out->headers, out->headers_count, sizeof(out->headers[0]), by_name);
    const struct azure_request signed_request = {.method = c->method,
                                                 .path = buf_view(&path),
                                                 .query = c->query,
                                                 .body_len = c->body.len,
                                                 .headers = out->headers,
                                                 .headers_count = out->headers_count};
    TRY(authorize(s, &signed_request, refused, &authorization, err));
    remote_request_header(out, "authorization", buf_view(&authorization));
    return ERR_OK;
}

/* InvalidBlockList: an earlier try, whose reply was lost, used the blocks up. AuthenticationFailed: also of a request whose date is off. */
static const struct remote_code azure_codes[] = {
    {"BlobAlreadyExists", REMOTE_TAKEN},    {"InvalidBlockList", REMOTE_TAKEN}, {"ContainerNotFound", REMOTE_NO_BUCKET},
    {"AuthenticationFailed", REMOTE_CLOCK}, {"Md5Mismatch", REMOTE_DOING},
};

/* ---- create */

static void md5_text(slice bytes, struct buf *out)
{
    uint8_t digest[MD5_BYTES];

    ASSERT(EVP_Digest(bytes.ptr, bytes.len, digest, NULL, EVP_md5(), NULL) == 1);
    azure_base64(out, slice_of(digest, sizeof(digest)));
}

static enum err_code azure_put(struct remote *r, slice key, slice bytes, slice nonce, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf md5 = BUF_INIT;
    struct remote_call c = {.method = "PUT",
                            .key = key,
                            .body = bytes,
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = nonce.len != 0};

    md5_text(bytes, &md5);
    remote_call_header(&c, "if-none-match", slice_lit("*"));
    remote_call_header(&c, "content-md5", buf_view(&md5));
    remote_call_header(&c, "x-ms-blob-type", slice_lit("BlockBlob"));
    if (nonce.len)
        remote_call_header(&c, "x-ms-meta-sluice_nonce", nonce);
    return remote_call(r, &c, &a, err);
}

/* ---- uploads in parts: blocks, and the list that makes a blob of them. Blocks without a list go away after a week. */

static void block_id(const struct remote_upload *u, unsigned index, struct buf *out)
{
    char id[BLOCK_ID_BYTES + 1];

    (void)snprintf(id, sizeof(id), "%s%010u", u->nonce, index); /* two uploads of one key do not mix */
    azure_base64(out, slice_of(id, BLOCK_ID_BYTES));
}

static enum err_code block_put(void *arg, unsigned index, slice bytes, struct err *err)
{
    struct remote_upload *u = arg;
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf id = BUF_INIT, query = BUF_INIT, md5 = BUF_INIT;
    struct remote_call c = {
        .method = "PUT", .key = u->key, .body = bytes, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};

    block_id(u, index, &id);
    buf_str(&query, "blockid=");
    aws_encode(&query, buf_view(&id), false);
    buf_str(&query, "&comp=block");
    c.query = buf_view(&query);
    md5_text(bytes, &md5);
    remote_call_header(&c, "content-md5", buf_view(&md5));
    return remote_call(u->r, &c, &a, err);
}

static void md5_add(void *arg, slice bytes)
{
    ASSERT(EVP_DigestUpdate(arg, bytes.ptr, bytes.len) == 1);
}

static void digest_free(EVP_MD_CTX **c)
{
    EVP_MD_CTX_free(*c);
}

static enum err_code whole_md5(struct remote_upload *u, struct buf *out, struct err *err)
{
    _cleanup_(digest_free) EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t digest[MD5_BYTES];

    ASSERT(md && EVP_DigestInit_ex(md, EVP_md5(), NULL) == 1);
    TRY(remote_upload_walk(u, md5_add, md, err));
    ASSERT(EVP_DigestFinal_ex(md, digest, NULL) == 1);
    azure_base64(out, slice_of(digest, sizeof(digest)));
    return ERR_OK;
}

static enum err_code azure_put_parts(struct remote_upload *u, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT, md5 = BUF_INIT;
    struct remote_call c = {.method = "PUT",
                            .key = u->key,
                            .query = slice_lit("comp=blocklist"),
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = true};

    TRY(whole_md5(u, &md5, err));
    TRY(remote_parts_put(u, block_put, u, err));
    buf_str(&body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (unsigned i = 0; i < remote_parts_count(u); i++) {
        buf_str(&body, "<Uncommitted>");
        block_id(u, i, &body);
        buf_str(&body, "</Uncommitted>");
    }
    buf_str(&body, "</BlockList>");
    c.body = buf_view(&body);
    remote_call_header(&c, "if-none-match", slice_lit("*"));
    remote_call_header(&c, "x-ms-blob-content-md5", buf_view(&md5));
    remote_call_header(&c, "x-ms-meta-sluice_nonce", slice_str(u->nonce));
    return remote_call(u->r, &c, &a, err);
}

/* ---- reads, lists */

static bool azure_intact(const struct remote_answer *a)
{
    slice want = exchange_answer(&a->x, "content-md5");
    _cleanup_(buf_done) struct buf have = BUF_INIT;

    if (!want.len)
        return true;
    md5_text(buf_view(&a->reply), &have);
    return slice_eq(want, buf_view(&have));
}

static void azure_list_query(const struct remote *r, slice token, slice prefix, slice start_after, bool delimiter,
                             struct buf *query)
{
    (void)start_after;           /* remote_page_item() leaves out what is before */
    buf_str(query, "comp=list"); /* sorted by name */
    if (delimiter)
        buf_str(query, "&delimiter=%2F");
    if (token.len) {
        buf_str(query, "&marker=");
        aws_encode(query, token, false);
    }
    buf_str(query, "&prefix=");
    aws_encode(query, slice_str(r->prefix), false);
    aws_encode(query, prefix, false);
    buf_str(query, "&restype=container");
}

enum err_code azure_list_page(struct remote_page *p, slice document, struct err *err)
{
    static const struct remote_list_names names = {.item = "EnumerationResults/Blobs/Blob",
                                                   .key = "EnumerationResults/Blobs/Blob/Name",
                                                   .size = "EnumerationResults/Blobs/Blob/Properties/Content-Length",
                                                   .modified = "EnumerationResults/Blobs/Blob/Properties/Last-Modified",
                                                   .prefix_item = "EnumerationResults/Blobs/BlobPrefix",
                                                   .prefix = "EnumerationResults/Blobs/BlobPrefix/Name",
                                                   .token = "EnumerationResults/NextMarker"};
    return remote_page_xml(p, document, &names, err);
}

/* ---- the engine's way */

static enum err_code key_login(struct azure *s, slice scope, struct engine *e, struct err *err)
{
    _cleanup_(buf_wipe) struct buf text = BUF_INIT;

    buf_reserve(&text, strlen(s->key) + 1024);
    buf_fmt(&text, "DefaultEndpointsProtocol=%s;AccountName=%s;AccountKey=%s;BlobEndpoint=%s%s;",
            s->tls ? "https" : "http", s->account, s->key, s->origin, s->path);
    const struct engine_secret_field fields[] = {{"PROVIDER", slice_lit("config")},
                                                 {"CONNECTION_STRING", buf_view(&text)}};
    const struct engine_secret login = {"azure", scope, fields, ARRAY_LEN(fields)};
    return engine_login(e, &login, err);
}

static enum err_code azure_engine_login(struct remote *r, slice scope, struct engine *e, struct err *err)
{
    struct azure *s = azure_of(r);
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;
    size_t own = strlen(s->account);
    slice host = slice_str(s->host);

    if (s->key)
        return key_login(s, scope, e, err);
    if (slice_starts(host, slice_str(s->account)) && host.len > own && host.ptr[own] == '.')
        host = slice_from(host, own + 1); /* the extension puts the account in front of it */
    TRY(token_source_get(s->tokens, false, &token, err));
    const struct engine_secret_field fields[] = {{"PROVIDER", slice_lit("access_token")},
                                                 {"ACCOUNT_NAME", slice_str(s->account)},
                                                 {"ENDPOINT", host},
                                                 {"ACCESS_TOKEN", buf_view(&token)}};
    const struct engine_secret login = {"azure", scope, fields, ARRAY_LEN(fields)};
    return engine_login(e, &login, err);
}

static void azure_done(struct remote *r)
{
    struct azure *s = azure_of(r);

    token_source_free(s->tokens);
    if (s->key)
        explicit_bzero(s->key, strlen(s->key));
    free(s->key);
    free(s->account);
    free(s->origin);
    free(s->host);
    free(s->path);
}

static const struct remote_dialect azure_dialect = {
    .describe = "Azure Blob container",
    .scheme = "az",
    .nonce_header = "x-ms-meta-sluice_nonce", /* a name of metadata is an identifier there */
    .about_method = "GET",
    .about_query = "comp=list&maxresults=1&restype=container",
    .codes = azure_codes,
    .codes_count = ARRAY_LEN(azure_codes),
    .request = azure_request,
    .put = azure_put,
    .put_parts = azure_put_parts,
    .intact = azure_intact,
    .list_query = azure_list_query,
    .list_page = azure_list_page,
    .engine_extension = "azure",
    .engine_login = azure_engine_login,
    .done = azure_done,
};

/* ---- opening */

/* Containers: 3 to 63 small letters, digits and single hyphens. Accounts: 3 to 24 small letters and digits. */
static bool name_valid(slice name, size_t max, bool hyphens)
{
    if (name.len < 3 || name.len > max)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool hyphen = c == '-' && hyphens && i != 0 && name.ptr[i - 1] != '-';
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || hyphen))
            return false;
    }
    return true;
}

static enum err_code place(struct azure *s, const struct azure_options *opt, struct err *err)
{
    _cleanup_(freep) char *own = mem_fmt("https://%s.blob.core.windows.net", s->account);
    struct remote_endpoint e;

    if (!name_valid(slice_str(s->base.bucket), 63, true))
        return err_set(err, ERR_INVALID, "'%s' is no name of a container", s->base.bucket);
    if (!name_valid(slice_str(s->account), 24, false))
        return err_set(err, ERR_INVALID, "'%s' is no name of a storage account: set azure-account", s->account);
    TRY(remote_endpoint_parse(slice_str(opt->endpoint ? opt->endpoint : own), &e, err));
    s->tls = e.tls;
    s->host = mem_str(e.host);
    s->origin = mem_fmt(SLICE_FMT SLICE_FMT, SLICE_ARG(e.scheme), SLICE_ARG(e.host));
    s->path = mem_str(e.path);
    return ERR_OK;
}

enum err_code store_azure_open(struct os *os, const struct azure_options *opt, struct token_source *tokens,
                               struct store **out, struct err *err)
{
    struct azure *s = mem_zalloc(sizeof(*s));

    remote_init(&s->base, os, &azure_dialect, &opt->remote);
    s->tokens = tokens;
    s->account = mem_str(slice_str(opt->account ? opt->account : ""));
    s->key = opt->access_key ? mem_str(slice_str(opt->access_key)) : NULL;
    enum err_code rc = place(s, opt, err);
    if (rc != ERR_OK) {
        remote_ops.free(&s->base.base);
        return rc;
    }
    *out = &s->base.base;
    return ERR_OK;
}
