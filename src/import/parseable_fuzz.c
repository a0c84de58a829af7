/* parseable_fuzz.c: any bytes as metadata, schema, manifest and .parseable.json. What is taken from them must be usable: paths stay below their
 * stream, texts are UTF-8, numbers are in their bounds. */
#include "codec/json_reader.h"
#include "import/parseable.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(slice s)
{
    ASSERT(utf8_valid(s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_done) struct arena a = ARENA_INIT;
    const slice bytes = {data, size};
    struct parseable_stream s;
    struct parseable_file *files;
    struct schema *schema;
    struct err err;
    size_t n;

    if (parseable_metadata(bytes, slice_lit("web"), &a, &s, &err) == ERR_OK) {
        check_text(s.config.custom_partition);
        check_text(s.config.log_source);
        check_text(s.config.retention);
        check_text(s.config.tags);
        check_text(s.time_partition);
        ASSERT(s.config.retention_days <= 36500);
    }
    if (parseable_schema(bytes, &schema, &err) == ERR_OK)
        schema_unref(schema);
    if (parseable_manifest(bytes, slice_lit("web"), &a, &files, &n, &err) == ERR_OK)
        for (size_t i = 0; i < n; i++)
            ASSERT(files[i].path.len == 0 || (store_key_valid(files[i].path) && parseable_path_valid(files[i].path)));
    (void)parseable_deployment(bytes, &a);
    return 0;
}
