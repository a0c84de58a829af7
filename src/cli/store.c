/* store.c: `sluice store check`, and the one place where the text of a setting becomes a store. */
#include <inttypes.h>

#include "base/log.h"
#include "cli/cli_int.h"
#include "cli/term.h"
#include "store/azure.h"
#include "store/gcs.h"
#include "store/s3.h"

#include "base/banned.h"

static enum err_code open_s3(const struct config *c, const struct remote_options *remote, struct store **out,
                             struct err *err)
{
    const char *access = config_text(c, SET_S3_ACCESS_KEY), *secret = config_text(c, SET_S3_SECRET_KEY);
    struct s3_options opt = {.remote = *remote,
                             .region = config_text(c, SET_S3_REGION),
                             .endpoint = config_text(c, SET_S3_ENDPOINT),
                             .no_store = config_number(c, SET_S3_CACHE_CONTROL_NO_STORE) != 0,
                             .path_style = config_number(c, SET_S3_PATH_STYLE) != 0};

    if (!access != !secret)
        return err_set(err, ERR_INVALID, "s3-access-key and s3-secret-key belong together: set both, or none");
    const struct aws_key_options keys = {.access_key = access,
                                         .secret_key = secret,
                                         .region = opt.region,
                                         .ca_file = opt.remote.ca_file,
                                         .imdsv1_fallback = config_number(c, SET_AWS_IMDSV1_FALLBACK) != 0,
                                         .metadata_endpoint = config_text(c, SET_AWS_METADATA_ENDPOINT)};
    return store_s3_open(os_real(), &opt, aws_key_source_new(os_real(), &keys), out, err);
}

static const char *text_or_env(const struct config *c, enum setting_id id, const char *variable)
{
    const char *set = config_text(c, id), *v = getenv(variable);
    return set && *set ? set : v && *v ? v : NULL;
}

static enum err_code open_azure(const struct config *c, const struct remote_options *remote, struct store **out,
                                struct err *err)
{
    const struct azure_options opt = {.remote = *remote,
                                      .account = text_or_env(c, SET_AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT"),
                                      .endpoint = config_text(c, SET_AZURE_ENDPOINT),
                                      .access_key = text_or_env(c, SET_AZURE_ACCESS_KEY, "AZURE_STORAGE_KEY")};
    const struct token_options tokens = {.issuer = TOKEN_ENTRA,
                                         .ca_file = remote->ca_file,
                                         .tenant = config_text(c, SET_AZURE_TENANT_ID),
                                         .client = config_text(c, SET_AZURE_CLIENT_ID),
                                         .client_secret = config_text(c, SET_AZURE_CLIENT_SECRET)};

    return store_azure_open(os_real(), &opt, opt.access_key ? NULL : token_source_new(os_real(), &tokens), out, err);
}

/* STORAGE_EMULATOR_HOST, as Google's libraries read it: host:port, or with the scheme. */
static enum err_code open_gcs(const struct config *c, const struct remote_options *remote, struct store **out,
                              struct err *err)
{
    const char *endpoint = config_text(c, SET_GCS_ENDPOINT), *emulator = getenv("STORAGE_EMULATOR_HOST");
    bool emulated = !endpoint && emulator && *emulator;
    _cleanup_(freep) char *host = emulated ? mem_fmt("%s%s", strstr(emulator, "://") ? "" : "http://", emulator) : NULL;
    const struct gcs_options opt = {.remote = *remote, .endpoint = emulated ? host : endpoint};
    const struct token_options tokens = {
        .issuer = TOKEN_GOOGLE, .ca_file = remote->ca_file, .key_file = config_text(c, SET_GCS_KEY_FILE)};

    return store_gcs_open(os_real(), &opt, emulated ? NULL : token_source_new(os_real(), &tokens), out, err);
}

static enum err_code parse_url(slice url, slice *scheme, slice *bucket, slice *prefix, struct err *err)
{
    TRY(remote_url_parse(url, scheme, bucket, prefix, err));
    if (slice_eq(*scheme, slice_lit("s3")) || slice_eq(*scheme, slice_lit("az")) || slice_eq(*scheme, slice_lit("gs")))
        return ERR_OK;
    return err_set(err, ERR_INVALID,
                   "'" SLICE_FMT
                   "' is no address of a bucket: write s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
                   SLICE_ARG(url));
}

enum err_code cli_store_check_name(const char *place, struct err *err)
{
    static const char *const schemes[] = {"s3:", "az:", "gs:"};
    slice scheme, bucket, prefix;

    if (strstr(place, "://"))
        return parse_url(slice_str(place), &scheme, &bucket, &prefix, err);
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) /* a slash too few, and logs would be kept on this disk */
        if (strncasecmp(place, schemes[i], strlen(schemes[i])) == 0)
            return err_set(err, ERR_INVALID,
                           "'%s' is no address of a bucket: write %s//bucket/prefix (./%s is a folder of this name)",
                           place, schemes[i], place);
    return ERR_OK;
}

static bool unverified(const struct config *c, const char *place)
{
    return (slice_starts(slice_str(place), slice_lit("s3://")) && config_number(c, SET_S3_TLS_SKIP_VERIFY)) ||
           (slice_starts(slice_str(place), slice_lit("gs://")) && config_number(c, SET_GCS_TLS_SKIP_VERIFY));
}

#define UNVERIFIED                                                                                                  \
    "the certificate of the server of %s is NOT CHECKED: whoever answers in its place reads and changes all logs, " \
    "and gets the requests that your keys sign (remove the setting ...tls-skip-verify and set store-ca-cert instead)"

static enum err_code open_remote(const struct config *c, const char *url, const char *temp_dir, bool to_read,
                                 struct store **out, struct err *err)
{
    slice scheme, bucket, prefix;

    TRY(parse_url(slice_str(url), &scheme, &bucket, &prefix, err));
    _cleanup_(freep) char *bucket_text = mem_str(bucket);
    _cleanup_(freep) char *prefix_text = mem_str(prefix);
    const struct remote_options opt = {.bucket = bucket_text,
                                       .prefix = prefix_text,
                                       .ca_file = config_text(c, SET_STORE_CA_CERT),
                                       .unverified = unverified(c, url),
                                       .temp_dir = temp_dir,
                                       .read_only = to_read,
                                       .retry_us_max = (int64_t)config_number(c, SET_S3_RETRY),
                                       .requests_max = (unsigned)config_number(c, SET_STORE_REQUESTS_MAX)};
    if (slice_eq(scheme, slice_lit("s3")))
        return open_s3(c, &opt, out, err);
    return slice_eq(scheme, slice_lit("az")) ? open_azure(c, &opt, out, err) : open_gcs(c, &opt, out, err);
}

enum err_code cli_store_open(const struct config *c, const char *place, bool to_read, struct store **out,
                             struct err *err)
{
    const char *temp = getenv("TMPDIR");

    TRY(cli_store_check_name(place, err));
    if (strstr(place, "://")) {
        TRY(open_remote(c, place, temp && *temp ? temp : "/tmp", to_read, out, err));
        if (unverified(c, place))
            (void)cli_fail("warning: " UNVERIFIED, place);
        return ERR_OK;
    }
    return to_read ? store_local_open_reader(os_real(), place, out, err) : store_local_open(os_real(), place, out, err);
}

static void warn_of(const char *place, const struct store_facts *facts)
{
    const char *why;

    if (store_known(slice_str(facts->product), &why) == STORE_DOUBTFUL)
        log_warn("serve", "the store %s is of %s: %s", place, facts->product, why);
    if (facts->clock_offset_us)
        log_warn("serve", "the clock of the store %s is %.1f s off this machine's: event times may be wrong", place,
                 (double)facts->clock_offset_us / 1e6);
}

enum err_code cli_store_serve(const struct config *c, struct store **out, struct store_facts *facts, struct err *err)
{
    const char *place = config_text(c, SET_STORE);
    _cleanup_(freep) char *temp = mem_fmt("%s/tmp", config_text(c, SET_DATA));

    TRY(cli_store_check_name(place, err));
    if (!strstr(place, "://")) {
        TRY(store_local_open(os_real(), place, out, err));
    } else {
        TRY(os_mkdirs(os_real(), temp, err));
        TRY(open_remote(c, place, temp, false, out, err));
    }
    if (unverified(c, place))
        log_warn("serve", UNVERIFIED, place);
    enum err_code rc = store_probe_start(os_real(), *out, (int64_t)config_number(c, SET_S3_RETRY), facts, err);
    if (rc == ERR_OK) {
        warn_of(place, facts);
        return ERR_OK;
    }
    (*out)->ops->free(*out);
    *out = NULL;
    return err_wrap(err, "the store %s (try `sluice store check`)", place);
}

static void tell(const char *what)
{
    progress_show("checking: %s", what);
}

static void print_times(const struct probe_result *r, struct buf *out)
{
    buf_fmt(out, "a create takes %.1f ms, a read %.1f ms", (double)r->create_us / 1e3, (double)r->read_us / 1e3);
    if (r->clock_offset_us)
        buf_fmt(out, "; the store's clock is %.1f s %s",
                (double)(r->clock_offset_us < 0 ? -r->clock_offset_us : r->clock_offset_us) / 1e6,
                r->clock_offset_us < 0 ? "behind" : "ahead");
}

static void print_product(const struct probe_result *r)
{
    _cleanup_(buf_done) struct buf product = BUF_INIT;
    const char *why;
    enum store_verdict verdict = store_known(slice_str(r->product), &why);

    (void)term_text(&product, slice_str(r->product), 0);
    if (product.len)
        printf("      the server says it is %s%s%s\n", buf_cstr(&product), verdict == STORE_DOUBTFUL ? "; " : "",
               verdict == STORE_DOUBTFUL ? why : "");
}

static void print_text(const char *place, const struct probe_result *r)
{
    _cleanup_(buf_done) struct buf times = BUF_INIT;

    for (size_t i = 0; i < r->count; i++) {
        _cleanup_(buf_done) struct buf problem = BUF_INIT;
        (void)term_text(&problem, slice_str(r->steps[i].problem), 0);
        printf("%-4s  %s%s%s\n", r->steps[i].code == ERR_OK ? "ok" : "BAD", r->steps[i].what, problem.len ? ": " : "",
               buf_cstr(&problem));
    }
    print_product(r);
    print_times(r, &times);
    printf("%s: %s\n", place, r->good ? buf_cstr(&times) : "can not be shared by several writers as it is");
}

static void print_json(const char *place, const struct probe_result *r)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;

    buf_str(&out, "{\"store\":");
    buf_json_str(&out, slice_str(place));
    buf_str(&out, ",\"product\":");
    buf_json_str(&out, slice_str(r->product));
    buf_fmt(&out,
            ",\"good\":%s,\"create_us\":%" PRId64 ",\"read_us\":%" PRId64 ",\"clock_offset_us\":%" PRId64
            ",\"steps\":[",
            r->good ? "true" : "false", r->create_us, r->read_us, r->clock_offset_us);
    for (size_t i = 0; i < r->count; i++) {
        buf_str(&out, i ? ",{\"what\":" : "{\"what\":");
        buf_json_str(&out, slice_str(r->steps[i].what));
        buf_fmt(&out, ",\"good\":%s", r->steps[i].code == ERR_OK ? "true" : "false");
        if (r->steps[i].code != ERR_OK) {
            buf_str(&out, ",\"problem\":");
            buf_json_str(&out, slice_str(r->steps[i].problem));
        }
        buf_byte(&out, '}');
    }
    printf("%s]}\n", buf_cstr(&out));
}

int run_store_check(struct cli *cli)
{
    static const char *const formats[] = {"table", "json"};
    const char *place = cli->args_count ? cli->args[0] : config_text(&cli->config, SET_STORE);
    _cleanup_(store_freep) struct store *store = NULL;
    struct probe_result result;
    struct err err = {0};
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return EXIT_USAGE;
    bool text = cli_value(cli, "output") ? format == 0 : term_is(stdout);
    enum err_code rc = cli_store_open(&cli->config, place, false, &store, &err);
    if (rc == ERR_OK)
        rc = store_probe(os_real(), store, &result, tell, &err);
    progress_clear();
    if (rc != ERR_OK)
        return cli_fail("%s", err.msg);
    if (text)
        print_text(place, &result);
    else
        print_json(place, &result);
    return result.good ? EXIT_DONE : EXIT_FAILED;
}
