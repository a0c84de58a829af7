/* compress.c: see compress.h. */
#include "codec/compress.h"

#include <brotli/decode.h>
#include <brotli/encode.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#define STEP_BYTES (64u << 10)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB, the most that RFC 8878 asks a decoder to take is 8 MiB */
#define BROTLI_QUALITY 4

static const char *const names[] = {"identity", "gzip", "deflate", "br", "zstd"};

const char *coding_name(enum coding c)
{
    return names[c];
}

bool coding_parse(slice name, enum coding *out)
{
    if (slice_eq_nocase(name, slice_lit("x-gzip")))
        name = slice_lit("gzip");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_nocase(name, slice_str(names[i]))) {
            *out = (enum coding)i;
            return true;
        }
    return false;
}

/* "0.75" -> 750; a malformed weight counts as 1. */
static int weight(slice s)
{
    int q = 0, scale = 1000;

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '.')
            continue;
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return 1000;
        q += (s.ptr[i] - '0') * scale;
        scale /= 10;
    }
    return MIN(q, 1000);
}

enum coding coding_negotiate(slice accept)
{
    static const int taste[] = {0, 3, 1, 2, 4}; /* among equals: zstd, gzip, br, deflate: by CPU for what it saves */
    enum coding best = CODING_IDENTITY;
    int best_q = 0;

    while (accept.len) {
        const uint8_t *comma = memchr(accept.ptr, ',', accept.len);
        slice item = slice_head(accept, comma ? (size_t)(comma - accept.ptr) : accept.len), name = item;
        int q = 1000;
        enum coding c;
        accept = slice_from(accept, item.len + 1);
        const uint8_t *semi = memchr(item.ptr, ';', item.len);
        if (semi) {
            name = slice_head(item, (size_t)(semi - item.ptr));
            slice param = slice_trim(slice_from(item, name.len + 1));
            if (slice_starts(param, slice_lit("q=")))
                q = weight(slice_from(param, 2));
        }
        name = slice_trim(name);
        if (slice_eq(name, slice_lit("*")))
            name = slice_lit("gzip");
        if (q > 0 && coding_parse(name, &c) && (q > best_q || (q == best_q && taste[c] > taste[best]))) {
            best = c;
            best_q = q;
        }
    }
    return best;
}

/* ---- decompress */

static enum err_code corrupt(enum coding c, struct err *err)
{
    return err_set(err, ERR_INVALID, "the body is not a whole %s stream", names[c]);
}

static enum err_code room(struct buf *out, size_t from, size_t size_max, struct err *err)
{
    size_t used = out->len - from;

    if (used > size_max)
        return err_set(err, ERR_LIMIT, "the body has more than %zu bytes when decompressed", size_max);
    buf_reserve(out, MIN(STEP_BYTES, size_max + 1 - used));
    return ERR_OK;
}

static enum err_code inflate_all(enum coding c, int window_bits, slice in, size_t size_max, struct buf *out,
                                 struct err *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    size_t from = out->len;
    enum err_code rc;
    int zrc = Z_OK;

    if (in.len > UINT32_MAX || inflateInit2(&z, window_bits) != Z_OK)
        return err_set(err, ERR_LIMIT, "body too large");
    do {
        rc = room(out, from, size_max, err);
        if (rc != ERR_OK)
            break;
        size_t space = MIN(out->cap - out->len, size_max + 1 - (out->len - from));
        z.next_out = out->ptr + out->len;
        z.avail_out = (uInt)MIN(space, UINT32_MAX);
        uInt before = z.avail_out;
        zrc = inflate(&z, Z_NO_FLUSH);
        out->len += before - z.avail_out;
        if (zrc == Z_STREAM_END && c == CODING_GZIP && z.avail_in > 0) /* RFC 1952: members may follow each other */
            zrc = inflateReset(&z);
    } while (zrc == Z_OK);
    if (rc == ERR_OK && out->len - from > size_max)
        rc = room(out, from, size_max, err);
    (void)inflateEnd(&z);
    TRY(rc);
    return zrc == Z_STREAM_END ? ERR_OK : corrupt(c, err);
}

static enum err_code unbrotli(slice in, size_t size_max, struct buf *out, struct err *err)
{
    BrotliDecoderState *s = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    BrotliDecoderResult brc;
    size_t from = out->len, left = in.len;
    const uint8_t *next = in.ptr;
    enum err_code rc;

    ASSERT(s);
    do {
        rc = room(out, from, size_max, err);
        if (rc != ERR_OK)
            break;
        size_t space = out->cap - out->len, before = space;
        uint8_t *to = out->ptr + out->len;
        brc = BrotliDecoderDecompressStream(s, &left, &next, &space, &to, NULL);
        out->len += before - space;
    } while (brc == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT);
    BrotliDecoderDestroyInstance(s);
    TRY(rc);
    if (out->len - from > size_max)
        return room(out, from, size_max, err);
    return brc == BROTLI_DECODER_RESULT_SUCCESS && left == 0 ? ERR_OK : corrupt(CODING_BROTLI, err);
}

static enum err_code unzstd(slice in, size_t size_max, struct buf *out, struct err *err)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer from = {in.ptr, in.len, 0};
    size_t start = out->len, zrc = 1;
    enum err_code rc = ERR_OK;

    ASSERT(z);
    (void)ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    for (;;) {
        rc = room(out, start, size_max, err);
        if (rc != ERR_OK)
            break;
        ZSTD_outBuffer to = {out->ptr + out->len, out->cap - out->len, 0};
        zrc = ZSTD_decompressStream(z, &to, &from);
        out->len += to.pos;
        if (ZSTD_isError(zrc) || (from.pos == from.size && to.pos < to.size))
            break;
    }
    if (rc == ERR_OK && out->len - start > size_max)
        rc = room(out, start, size_max, err);
    (void)ZSTD_freeDCtx(z);
    TRY(rc);
    return zrc == 0 && in.len > 0 ? ERR_OK : corrupt(CODING_ZSTD, err);
}

enum err_code decompress(enum coding c, slice in, size_t size_max, struct buf *out, struct err *err)
{
    switch (c) {
    case CODING_IDENTITY:
        if (in.len > size_max)
            return err_set(err, ERR_LIMIT, "the body has more than %zu bytes", size_max);
        buf_slice(out, in);
        return ERR_OK;
    case CODING_GZIP: return inflate_all(c, 15 + 16, in, size_max, out, err);
    case CODING_DEFLATE: { /* zlib by the RFC, raw by some clients: the first two bytes tell (RFC 1950 section 2.2) */
        bool zlib = in.len >= 2 && (in.ptr[0] & 15) == 8 && (in.ptr[0] * 256 + in.ptr[1]) % 31 == 0;
        return inflate_all(c, zlib ? 15 : -15, in, size_max, out, err);
    }
    case CODING_BROTLI: return unbrotli(in, size_max, out, err);
    case CODING_ZSTD: break;
    }
    return unzstd(in, size_max, out, err);
}

/* ---- compress */

struct compressor {
    enum coding coding;
    z_stream z;
    BrotliEncoderState *br;
    ZSTD_CCtx *zstd;
};

struct compressor *compressor_new(enum coding c)
{
    if (c == CODING_IDENTITY)
        return NULL;
    struct compressor *z = mem_zalloc(sizeof(*z));
    z->coding = c;
    if (c == CODING_GZIP || c == CODING_DEFLATE)
        ASSERT(deflateInit2(&z->z, 4, Z_DEFLATED, c == CODING_GZIP ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    if (c == CODING_BROTLI) {
        z->br = BrotliEncoderCreateInstance(NULL, NULL, NULL);
        ASSERT(z->br);
        (void)BrotliEncoderSetParameter(z->br, BROTLI_PARAM_QUALITY, BROTLI_QUALITY);
    }
    if (c == CODING_ZSTD) {
        z->zstd = ZSTD_createCCtx();
        ASSERT(z->zstd);
        (void)ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_compressionLevel, 1);
    }
    return z;
}

void compressor_free(struct compressor *z)
{
    if (!z)
        return;
    if (z->coding == CODING_GZIP || z->coding == CODING_DEFLATE)
        (void)deflateEnd(&z->z);
    if (z->br)
        BrotliEncoderDestroyInstance(z->br);
    (void)ZSTD_freeCCtx(z->zstd);
    free(z);
}

static void deflate_add(struct compressor *z, slice in, int mode, struct buf *out)
{
    z->z.next_in = (Bytef *)(uintptr_t)in.ptr;
    z->z.avail_in = (uInt)in.len;
    do {
        buf_reserve(out, STEP_BYTES);
        z->z.next_out = out->ptr + out->len;
        z->z.avail_out = STEP_BYTES;
        (void)deflate(&z->z, mode);
        out->len += STEP_BYTES - z->z.avail_out;
    } while (z->z.avail_out == 0);
}

static void brotli_add(struct compressor *z, slice in, BrotliEncoderOperation op, struct buf *out)
{
    size_t left = in.len;
    const uint8_t *next = in.ptr;

    do {
        buf_reserve(out, STEP_BYTES);
        size_t space = STEP_BYTES;
        uint8_t *to = out->ptr + out->len;
        ASSERT(BrotliEncoderCompressStream(z->br, op, &left, &next, &space, &to, NULL));
        out->len += STEP_BYTES - space;
    } while (left > 0 || BrotliEncoderHasMoreOutput(z->br));
}

static void zstd_add(struct compressor *z, slice in, ZSTD_EndDirective mode, struct buf *out)
{
    ZSTD_inBuffer from = {in.ptr, in.len, 0};
    size_t left;

    do {
        buf_reserve(out, STEP_BYTES);
        ZSTD_outBuffer to = {out->ptr + out->len, STEP_BYTES, 0};
        left = ZSTD_compressStream2(z->zstd, &to, &from, mode);
        ASSERT(!ZSTD_isError(left));
        out->len += to.pos;
    } while (mode == ZSTD_e_continue ? from.pos < from.size : left > 0);
}

void compressor_add(struct compressor *z, slice in, bool flush, bool end, struct buf *out)
{
    switch (z->coding) {
    case CODING_GZIP:
    case CODING_DEFLATE: deflate_add(z, in, end ? Z_FINISH : flush ? Z_SYNC_FLUSH : Z_NO_FLUSH, out); break;
    case CODING_BROTLI:
        brotli_add(z, in,
                   end     ? BROTLI_OPERATION_FINISH
                   : flush ? BROTLI_OPERATION_FLUSH
                           : BROTLI_OPERATION_PROCESS,
                   out);
        break;
    case CODING_ZSTD: zstd_add(z, in, end ? ZSTD_e_end : flush ? ZSTD_e_flush : ZSTD_e_continue, out); break;
    case CODING_IDENTITY: break;
    }
}
