/* survey.h: what there is to import: the streams of a source, and of each the files that its manifests name, each once. Reads, never writes. */
#pragma once
#include "import/import.h"
#include "import/parseable.h"

struct source_file {
    slice path, key; /* below the stream's directory; in the store */
    uint64_t bytes, raw_bytes;
};
struct source_stream {
    slice name;
    struct arena arena;
    struct parseable_stream meta;
    struct schema *schema; /* NULL: the files will tell */
    struct source_file *files;
    size_t files_count, files_cap;
    slice *others; /* keys of metadata and manifests */
    size_t others_count, others_cap;
    bool whole; /* every Parquet file there is one of `files` */
};
/* Names of the source's streams, sorted, in `a`. */
MUST_CHECK enum err_code survey_streams(struct store *source, struct arena *a, slice **out, size_t *count,
                                        struct err *err);
/* ERR_INVALID: its metadata cannot be used. Files that cannot be are told by skip(). */
MUST_CHECK enum err_code survey_stream(struct store *source, slice name,
                                       void (*skip)(void *arg, slice stream, slice path, const char *why), void *arg,
                                       struct source_stream *out, struct err *err);
void source_stream_done(struct source_stream *s);
MUST_CHECK enum err_code survey_deployment(struct store *source, struct arena *a, slice *out, struct err *err);
