/* ingest.c: POST /ingest and POST /logstream/{s} (contract 2). The answer is given by the WAL's acknowledgement. */
#include "api/api_int.h"
#include "codec/json_reader.h"

#define HEADER_COLUMNS_MAX 10 /* with p_src_ip and p_user_agent: contract 2.6 */
#define HEADER_VALUE_BYTES_MAX 100

struct pairs {
    struct request *r;
    struct decode_pair list[HEADER_COLUMNS_MAX + 1]; /* and p_format */
    uint32_t count, columns;
};

static void pair_add(struct pairs *p, slice name, slice value)
{
    p->list[p->count++] = (struct decode_pair){name, value};
}

/* A cut in the middle of a character would not be UTF-8 any more. */
static slice cut_text(slice s)
{
    if (s.len <= HEADER_VALUE_BYTES_MAX)
        return s;
    s.len = HEADER_VALUE_BYTES_MAX;
    while (s.len && (s.ptr[s.len] & 0xc0) == 0x80)
        s.len--;
    return s;
}

static enum MHD_Result header_column(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct pairs *p = arg;
    slice name = slice_str(key), text = slice_str(value);
    (void)kind;

    if (name.len < 4 || !slice_eq_nocase(slice_head(name, 4), slice_lit("x-p-")))
        return MHD_YES;
    if (slice_eq_nocase(name, slice_lit("x-p-stream")) || slice_eq_nocase(name, slice_lit("x-p-log-source")) ||
        slice_eq_nocase(name, slice_lit("x-p-extract-log")) || slice_eq_nocase(name, slice_lit("x-p-ack")))
        return MHD_YES;
    if (name.len == 4 || p->columns >= HEADER_COLUMNS_MAX || !utf8_valid(name) || !utf8_valid(text))
        return MHD_YES;
    uint8_t *lower = arena_alloc(&p->r->arena, name.len - 4);
    for (size_t i = 4; i < name.len; i++)
        lower[i - 4] = name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (uint8_t)(name.ptr[i] | 32) : name.ptr[i];
    slice column = slice_of(lower, name.len - 4);
    for (uint32_t i = 0; i < p->count; i++)
        if (slice_eq(p->list[i].name, column))
            return MHD_YES; /* a header sent twice: the first counts */
    p->columns++;
    pair_add(p, column, cut_text(text));
    return MHD_YES;
}

/* Forwarded: for=1.2.3.4 (RFC 7239), X-Forwarded-For: a, b; else nothing. */
static slice forwarded_address(struct request *r)
{
    slice s = request_header(r, "Forwarded");

    if (s.ptr) {
        for (size_t i = 0; i + 4 <= s.len; i++)
            if (slice_eq_nocase(slice_head(slice_from(s, i), 4), slice_lit("for="))) {
                s = slice_from(s, i + 4);
                size_t n = 0;
                while (n < s.len && s.ptr[n] != ';' && s.ptr[n] != ',' && s.ptr[n] != ' ')
                    n++;
                s = slice_head(s, n);
                if (s.len > 1 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
                    s = slice_of(s.ptr + 1, s.len - 2);
                return s;
            }
    }
    s = request_header(r, "X-Forwarded-For");
    if (s.ptr) {
        const uint8_t *comma = s.len ? memchr(s.ptr, ',', s.len) : NULL;
        return slice_trim(comma ? slice_head(s, (size_t)(comma - s.ptr)) : s);
    }
    return s;
}

static slice source_address(struct request *r)
{
    slice s = forwarded_address(r);
    return s.ptr && utf8_valid(s) ? cut_text(s) : request_peer(r);
}

/* A word that nobody knows may have meant more than the default gives. false: answered. */
static bool ack_of(struct request *r, enum lake_ack *out)
{
    static const char *const names[] = {[ACK_WAL] = "wal", [ACK_RELAXED] = "relaxed", [ACK_OBJECT] = "object"};
    slice s = request_header(r, "X-P-Ack");

    *out = ACK_WAL;
    if (s.len == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_nocase(s, slice_str(names[i]))) {
            *out = (enum lake_ack)i;
            return true;
        }
    answer_text(r, 400, "Header Error: x-p-ack is wal, relaxed or object, not '" SLICE_FMT "'", SLICE_ARG(s));
    return false;
}

static void acknowledged(void *arg, enum err_code rc, const struct lake_ingested *result, const struct err *err)
{
    struct request *r = arg;
    struct api *api = r->api;
    (void)result;

    if (rc == ERR_OK)
        r->answer.status = 200;
    else
        answer_err(r, rc, err);
    request_resume(r);
    request_unref(r);
    api_ingest_left(api);
}

/* "json", "" and pmeta are served; what else the contract names is refused as it says. false: answered. */
static bool check_source(struct request *r, slice stream, slice source, enum decode_flatten *flatten)
{
    *flatten = DECODE_GENERIC;
    if (source.len == 0 || slice_eq_nocase(source, slice_lit("json")))
        return true;
    if (slice_eq_nocase(source, slice_lit("pmeta"))) {
        *flatten = DECODE_OBJECTS_ONLY;
        return true;
    }
    if (slice_eq_nocase(source, slice_lit("otel-logs")) || slice_eq_nocase(source, slice_lit("otel-metrics")) ||
        slice_eq_nocase(source, slice_lit("otel-traces"))) {
        answer_text(r, 400,
                    "Ingestion failed for stream " SLICE_FMT
                    ". Use the endpoints `/v1/logs` for otel logs, `/v1/metrics` for otel metrics and `/v1/traces` for "
                    "otel traces",
                    SLICE_ARG(stream));
        return false;
    }
    answer_text(r, 400, "Unsupported log format: '" SLICE_FMT "'. This server takes json", SLICE_ARG(source));
    return false;
}

static void ingest(struct request *r, slice stream, bool create)
{
    struct pairs pairs = {.r = r};
    struct stream_config config;
    struct lake_ingest req = {.stream = stream, .create = create, .body = buf_view(&r->body)};
    struct err err = {0};

    req.wait_us_max = r->on_worker ? ROOM_WAIT_US_MAX : 0;
    req.log_source = request_header(r, "X-P-Log-Source");
    if (!ack_of(r, &req.ack) || !check_source(r, stream, req.log_source, &req.flatten) ||
        (create && !config_from_headers(r, &config, false))) {
        request_resume(r);
        return;
    }
    if (slice_eq(stream, slice_lit("pstats")) || slice_eq(stream, slice_lit("pmeta"))) {
        answer_text(r, 400, "The stream " SLICE_FMT " is reserved for internal use and cannot be ingested into",
                    SLICE_ARG(stream));
        request_resume(r);
        return;
    }
    slice agent = request_header(r, "User-Agent");
    pairs.columns = 2;
    pair_add(&pairs, slice_lit("p_src_ip"), source_address(r));
    if (agent.ptr && utf8_valid(agent))
        pair_add(&pairs, slice_lit("p_user_agent"), cut_text(agent));
    if (req.log_source.len)
        pair_add(&pairs, slice_lit("p_format"), req.log_source);
    (void)MHD_get_connection_values(r->conn, MHD_HEADER_KIND, header_column, &pairs);
    req.pairs = pairs.list;
    req.pairs_count = pairs.count;
    req.config = &config;
    (void)request_ref(r);
    api_ingest_enter(r->api);
    enum err_code rc = lake_ingest(r->api->lake, &req, acknowledged, r, &err);
    if (rc == ERR_OK)
        return;
    struct api *api = r->api;
    if (rc == ERR_NOT_FOUND)
        answer_text(r, 404, "Stream not found: " SLICE_FMT, SLICE_ARG(stream));
    else
        answer_err(r, rc, &err);
    request_resume(r);
    request_unref(r);
    api_ingest_left(api);
}

slice ingest_stream(struct request *r)
{
    return r->args[0].len ? r->args[0] : request_header(r, "X-P-Stream"); /* no route has an empty name in its path */
}

void handle_ingest(struct request *r)
{
    slice stream = request_header(r, "X-P-Stream");

    if (!stream.ptr) {
        answer_text(r, 400, "Header Error: Stream name not found in header [x-p-stream]");
        request_resume(r);
        return;
    }
    ingest(r, stream, true);
}

void handle_ingest_stream(struct request *r)
{
    ingest(r, r->args[0], false);
}
