/* parseable.h: what a store of Parseable says of its streams: metadata (.stream.json, formats v1 to v8), schema (.schema) and manifests
 * (plain JSON or zstd). Bytes from outside: nothing of them is believed but names, and those only after a check; rows, sizes and statistics
 * are taken from the Parquet files themselves.
 *
 *   <stream>/.stream/[.ingestor.<id>].stream.json, [.ingestor.<id>].schema   (v1 to v3: <stream>/.stream.json, <stream>/.schema)
 *   <stream>/date=YYYY-MM-DD/<writer>.manifest.json
 *   <stream>/date=YYYY-MM-DD/hour=HH/minute=MM/[key=value/]<writer>.data.<ULID>.parquet
 * Paths in manifests are addresses or file paths of the machine that wrote them; what counts begins with "<stream>/date=".
 * OWNERSHIP  results lie in the given arena. TESTS parseable_test.c, parseable_fuzz.c. */
#pragma once
#include "base/arena.h"
#include "batch/schema.h"
#include "catalog/catalog.h"

#define PARSEABLE_OBJECT_BYTES_MAX (UINT64_C(256) << 20) /* of a metadata object or manifest, unpacked */

struct parseable_stream {
    struct stream_config config;
    slice time_partition;             /* a column; Sluice has no such thing: rows go by p_timestamp */
    slice left_out;                   /* a custom partition that Sluice cannot have */
    uint64_t events, ingestion_bytes; /* as told: how many JSON bytes its rows were */
};
/* `name`: of the stream. ERR_INVALID: no metadata, or of a version that is not known. */
MUST_CHECK enum err_code parseable_metadata(slice json, slice name, struct arena *a, struct parseable_stream *out,
                                            struct err *err);
/* *out: p_timestamp and the fields that Sluice has a type for; fields of other types are left out. ERR_INVALID. */
MUST_CHECK enum err_code parseable_schema(slice json, struct schema **out, struct err *err);

struct parseable_file {
    slice told;         /* the path as the manifest has it */
    slice path;         /* below the stream's directory; empty: the manifest's is none */
    uint64_t raw_bytes; /* as told */
};
MUST_CHECK enum err_code parseable_manifest(slice bytes, slice stream, struct arena *a, struct parseable_file **out,
                                            size_t *count, struct err *err);
/* A data file's path below a stream's directory. */
bool parseable_path_valid(slice path);
/* The deployment that wrote the store, of .parseable.json; empty: it does not say. */
slice parseable_deployment(slice json, struct arena *a);
