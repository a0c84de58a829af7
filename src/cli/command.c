/* command.c: the table of commands. Help, docs/cli.md and what is accepted come from here. */
#include "cli/cli_int.h"

#include "base/banned.h"

#define OUTPUT_TABLE                                                             \
    {                                                                            \
        "output", 'o', "FORMAT", "table or json; on a terminal table, else json" \
    }
#define END                 \
    {                       \
        NULL, 0, NULL, NULL \
    }

static const struct cli_option no_options[] = {END};
static const struct cli_option config_options[] = {
    {"output", 'o', "FORMAT", "table (default) or json"}, {"docs", 0, NULL, "print docs/configuration.md"}, END};
static const struct cli_option help_options[] = {{"docs", 0, NULL, "print docs/cli.md"}, END};
static const struct cli_option version_options[] = {{"output", 'o', "FORMAT", "text (default) or json"}, END};
static const struct cli_option query_options[] = {
    {"output", 'o', "FORMAT", "table, json, ndjson, csv or arrow; on a terminal table, else ndjson"},
    {"start", 's', "TIME", "oldest p_timestamp: 10m, 2h, 7d ago, or RFC 3339; default 1d"},
    {"end", 'e', "TIME", "newest p_timestamp: now (default), or as --start"},
    {"file", 'f', "FILE", "read the SQL from a file, - is stdin"},
    {"wide", 'w', NULL, "table: do not cut lines at the width of the terminal"},
    END};
static const struct cli_option tail_options[] = {
    {"output", 'o', "FORMAT", "json (one row a line, default) or text (time, level, message, then the rest)"},
    {"where", 0, "SQL", "only rows that meet this condition"},
    {"after", 0, "ID", "begin after this row id (see --ids) instead of now"},
    {"ids", 0, NULL, "put each row's id and a tab before it"},
    {"count", 'n', "N", "end after this many rows"},
    END};
static const struct cli_option ingest_options[] = {
    {"stream", 's', "NAME", "stream to write to; created when it is not there"},
    {"output", 'o', "FORMAT", "text (default) or json: the summary"},
    {"batch", 0, "SIZE", "send about this much JSON at a time; default 4MiB"},
    {"parallel", 'p', "N", "requests in flight; default 4"},
    {"skip-bad", 0, NULL, "report bad lines and go on; otherwise the first one ends the command"},
    {"source", 0, "NAME", "log source (X-P-Log-Source), for example json"},
    {"quiet", 'q', NULL, "no progress and no summary"},
    END};
static const struct cli_option ls_options[] = {OUTPUT_TABLE, END};
static const struct cli_option create_options[] = {
    {"partition", 0, "COLUMN", "keep rows of different values of this column in different files"},
    {"schema", 0, "FILE", "JSON file with a static schema: {\"fields\":[{\"name\":..,\"data_type\":..}]}"},
    {"retention", 0, "DAYS", "remove rows older than this"},
    {"if-missing", 0, NULL, "succeed when the stream is there already"},
    END};
static const struct cli_option rm_options[] = {
    {"yes", 'y', NULL, "do not ask"}, {"if-exists", 0, NULL, "succeed when there is no such stream"}, END};
static const struct cli_option cat_options[] = {
    {"output", 'o', "FORMAT", "of the list of keys: table or json; on a terminal table, else json"}, END};
static const struct cli_option verify_options[] = {OUTPUT_TABLE, END};
static const struct cli_option fsck_options[] = {
    OUTPUT_TABLE,
    {"report", 0, NULL, "list what each folder holds: live, retained, limbo, garbage (default)"},
    {"repair", 0, NULL, "remove what nothing refers to, and what is left of deleted streams"},
    END};
static const struct cli_option gc_options[] = {
    OUTPUT_TABLE,
    {"dry-run", 0, NULL, "only say what would be removed, and why"},
    {"keys", 0, NULL, "a line for each object in the table; JSON always has them"},
    END};

#define PLACE_CONFIG                                                                                     \
    {                                                                                                    \
        "place-config", 0, "FILE", "YAML file with the s3_... settings of PLACE, if not the store's own" \
    }
static const struct cli_option backup_options[] = {
    OUTPUT_TABLE,
    {"committed", 0, NULL, "ask no server to flush: back up what is in the store"},
    PLACE_CONFIG,
    {"parallel", 'p', "N", "objects copied at one time; default 4"},
    END};
static const struct cli_option backup_verify_options[] = {OUTPUT_TABLE,
                                                          {"point", 0, "N", "only this one; default all"},
                                                          {"parallel", 'p', "N", "objects read at one time; default 4"},
                                                          END};
static const struct cli_option backup_rm_options[] = {OUTPUT_TABLE,
                                                      {"keep", 0, "N", "remove all points but the newest N"},
                                                      {"parallel", 'p', "N", "objects removed at one time; default 4"},
                                                      END};
static const struct cli_option restore_options[] = {
    OUTPUT_TABLE,
    {"point", 0, "N", "which one, as `backup ls` shows them; default the newest"},
    {"stream", 's', "NAMES", "only these streams, a comma between them"},
    PLACE_CONFIG,
    {"parallel", 'p', "N", "objects copied at one time; default 4"},
    END};
static const struct cli_option import_options[] = {
    OUTPUT_TABLE,
    {"stream", 's', "NAME", "only this stream"},
    {"dry-run", 'n', NULL, "say what there is to import, and change nothing"},
    {"remove-source", 0, NULL, "remove what was imported from where it was"},
    END};

/* clang-format off: one command, one paragraph */
const struct command commands[] = {
    {"serve", NULL, "", 0, 0, SCOPE_SERVER, "run a server",
     "Takes logs over HTTP, keeps them durable, writes them to Parquet files and answers\n"
     "SQL. Without options it keeps everything in ./data and listens on port 8000 of every\n"
     "address. SIGTERM or Ctrl-C stops it cleanly; a second one at once (nothing that was\n"
     "acknowledged is lost in either case).",
     "sluice serve --data /var/lib/sluice --addr 127.0.0.1:8000\n"
     "SLUICE_USERNAME=root SLUICE_PASSWORD=secret sluice serve\n"
     "sluice serve --config /etc/sluice.yaml --query-memory 8GiB",
     no_options, run_serve},
    {"query", NULL, "[SQL]", 0, 1, SCOPE_CLIENT, "ask a server with SQL",
     "Runs one statement and prints the rows: a table on a terminal, one JSON object a line\n"
     "otherwise. The SQL is the argument, or comes from --file, or from stdin. Rows of the\n"
     "last day are searched unless --start says otherwise. Ctrl-C cancels the query.",
     "sluice query \"SELECT level, count(*) FROM web GROUP BY level\"\n"
     "sluice query --start 7d --output csv \"SELECT * FROM web WHERE status >= 500\" > errors.csv\n"
     "sluice query --file report.sql --server http://127.0.0.1:9000",
     query_options, run_query},
    {"tail", NULL, "STREAM", 1, 1, SCOPE_CLIENT, "follow a stream as rows arrive",
     "Prints every new row of a stream until Ctrl-C. When the connection breaks it comes back\n"
     "and goes on after the last row it printed, so no row is missed and none comes twice.",
     "sluice tail web\n"
     "sluice tail web --where \"status >= 500\"\n"
     "sluice tail web --output text --count 20",
     tail_options, run_tail},
    {"ingest", NULL, "FILE...", 1, 100000, SCOPE_CLIENT, "send files of logs to a server",
     "Reads files of JSON, one object a line (NDJSON) or arrays of objects, plain or packed\n"
     "with gzip or zstd; - is stdin. Sends batches, several at a time, and tries again when\n"
     "the server is busy. Without --stream the name of the file up to its first dot is the\n"
     "stream. Exit code 0 means that every row was acknowledged. A row may be there twice if\n"
     "the network failed between a request and its answer; the summary says when.",
     "sluice ingest --stream web access.ndjson.gz\n"
     "journalctl -o json -f | sluice ingest --stream journal -\n"
     "sluice ingest --stream web logs/*.json.zst --parallel 8",
     ingest_options, run_ingest},
    {"stream ls", "list", "", 0, 0, SCOPE_CLIENT, "list streams", "Lists the streams of a server.",
     "sluice stream ls\nsluice stream ls --output json", ls_options, run_stream_ls},
    {"stream create", NULL, "NAME", 1, 1, SCOPE_CLIENT, "create a stream",
     "Creates a stream. There is seldom a need: ingest creates streams. Create one beforehand\n"
     "to give it a custom partition, a static schema or a retention.",
     "sluice stream create web --retention 30\n"
     "sluice stream create orders --schema orders.json\n"
     "sluice stream create web --partition tenant",
     create_options, run_stream_create},
    {"stream rm", "delete", "NAME...", 1, 1000, SCOPE_CLIENT, "delete streams and their rows",
     "Deletes streams with all their rows. Asks first on a terminal; elsewhere --yes is needed.",
     "sluice stream rm web\nsluice stream rm --yes web test", rm_options, run_stream_rm},
    {"stream info", NULL, "NAME", 1, 1, SCOPE_CLIENT, "show facts and sizes of a stream",
     "Shows when a stream was made, its first row, its counts and bytes, and its retention.",
     "sluice stream info web\nsluice stream info web --output json", ls_options, run_stream_info},
    {"stream schema", NULL, "NAME", 1, 1, SCOPE_CLIENT, "show the columns of a stream",
     "Shows the columns of a stream and their types.",
     "sluice stream schema web\nsluice stream schema web --output json", ls_options, run_stream_schema},
    {"catalog cat", NULL, "[KEY]", 0, 1, SCOPE_STORE, "print objects of a store folder",
     "Prints an object of the catalog as JSON: a slot, a manifest or a pack of filters. Without\n"
     "KEY it lists the keys. Reads the folder itself and needs no server; it writes nothing.",
     "sluice catalog cat --data ./data\n"
     "sluice catalog cat --data ./data .sluice/cluster/00000000000000000000\n"
     "sluice catalog cat --store /backup/store --output table",
     cat_options, run_catalog_cat},
    {"catalog verify", NULL, "", 0, 0, SCOPE_STORE, "check every checksum of a store folder",
     "Reads every slot, manifest, pack of filters and data file and checks its checksum. Exit\n"
     "code 1 and a line for each damaged object if there is one. Safe beside a running server;\n"
     "writes nothing.",
     "sluice catalog verify --data ./data\nsluice catalog verify --store /backup/store --output json", verify_options,
     run_catalog_verify},
    {"catalog fsck", NULL, "", 0, 0, SCOPE_STORE, "say what a store folder holds, and tidy it",
     "Sorts every object of a store folder into live, retained (old versions that queries may\n"
     "still read), limbo (too new to judge), garbage and unknown. With --repair it does now what\n"
     "a server does in time: it removes garbage and what is left of deleted streams. Stop the\n"
     "server of this folder before --repair.",
     "sluice catalog fsck --data ./data\nsluice catalog fsck --data ./data --repair", fsck_options, run_catalog_fsck},
    {"catalog gc", NULL, "", 0, 0, SCOPE_STORE, "remove the garbage of a store, or list it",
     "Removes now what a server removes in time: superseded versions that no query may read any\n"
     "more, files, manifests and filters that none names, records of lanes that are folded, and what is\n"
     "left of deleted streams. With --dry-run it lists them, by folder and reason, and changes\n"
     "nothing; that works beside a running server. Stop the server of this folder otherwise.",
     "sluice catalog gc --data ./data --dry-run\nsluice catalog gc --store s3://logs --dry-run --output json",
     gc_options, run_catalog_gc},
    {"store check", NULL, "[STORE]", 0, 1, SCOPE_STORE, "try whether a store keeps what Sluice needs",
     "Tries a folder or a bucket: exclusive creates under races, reads and lists right after\n"
     "writes, ranges, uploads in one and in several parts, its clock and its speed. Works\n"
     "beside a running server, writes below .sluice/probe and removes what it wrote. Exit\n"
     "code 1 if the store is no good.",
     "sluice store check ./data/store\n"
     "AWS_PROFILE=logs sluice store check s3://bucket/prefix --s3-region eu-central-1\n"
     "sluice store check s3://logs --s3-endpoint http://127.0.0.1:9000 --output json",
     ls_options, run_store_check},
    {"backup ls", "list", "PLACE", 1, 1, SCOPE_STORE, "list the points of a place of backups",
     "Lists the points that `sluice backup` took there: when, how many rows, files and bytes.",
     "sluice backup ls /backup/logs\nsluice backup ls s3://backups/logs --output json", ls_options, run_backup_ls},
    {"backup verify", NULL, "PLACE", 1, 1, SCOPE_STORE, "check every checksum of a place of backups",
     "Reads everything that the points name and checks its checksum. Exit code 1 and a line for\n"
     "each object that is damaged or missing. Writes nothing.",
     "sluice backup verify /backup/logs\nsluice backup verify s3://backups/logs --point 12", backup_verify_options,
     run_backup_verify},
    {"backup rm", "delete", "PLACE [POINT...]", 1, 1001, SCOPE_STORE, "remove points and what only they name",
     "Removes points from a place of backups, by number or with --keep, and the objects that no\n"
     "other point names. Without points it removes only what interrupted backups left. No backup\n"
     "into this place begins meanwhile, and one that runs starts over. After an interruption run\n"
     "it again; run one at a time.",
     "sluice backup rm /backup/logs 3 4\nsluice backup rm s3://backups/logs --keep 30", backup_rm_options,
     run_backup_rm},
    {"backup", NULL, "PLACE", 1, 1, SCOPE_STORE | SCOPE_CLIENT, "take a consistent point of all streams",
     "Copies the store that --store or --data names to PLACE, a folder or s3://bucket/prefix,\n"
     "while servers run. First it asks them to flush: every row acknowledged before is in the\n"
     "backup. A server with the data folder of --data is asked at --server; of a store that\n"
     "several servers share name all, with commas. What is in PLACE already is not copied again:\n"
     "the next backup into it copies what is new, and one that was interrupted goes on.",
     "sluice backup /backup/logs --data /var/lib/sluice\n"
     "sluice backup s3://backups/logs --store s3://logs/prod --server http://a:8000,http://b:8000\n"
     "sluice backup /backup/logs --store ./data/store --committed",
     backup_options, run_backup},
    {"restore", NULL, "PLACE", 1, 1, SCOPE_STORE, "make a store from a backup",
     "Copies a point of PLACE into the store that --store or --data names, which must be empty.\n"
     "Every checksum is looked at. When it is interrupted, the same command goes on. No server\n"
     "starts on the store before it is whole. It is a new store, for servers with data folders\n"
     "of their own: one of the old store is refused.",
     "sluice restore /backup/logs --data /var/lib/sluice-restored\n"
     "sluice restore s3://backups/logs --store s3://logs/again --point 12\n"
     "sluice restore /backup/logs --data ./one --stream web",
     restore_options, run_restore},
    {"import parseable", NULL, "STORE", 1, 1, SCOPE_STORE, "take over a store of Parseable",
     "Takes the streams of a store of Parseable (a folder, or s3://bucket/prefix) into the\n"
     "store that --data or --store names. Parquet files stay as they are: on one file system\n"
     "they are linked and take no room, elsewhere they are copied. Each is read and checked\n"
     "first; what cannot be taken is named, and the exit code is 1 then. Run it again to go on\n"
     "after a break, or to take what came since: nothing is taken twice. Works beside a running\n"
     "server of Sluice; stop Parseable first. See docs/moving-from-parseable.md.",
     "sluice import parseable /srv/parseable/store --data /var/lib/sluice\n"
     "sluice import parseable s3://logs/parseable --store s3://logs/sluice --dry-run\n"
     "sluice import parseable /srv/parseable/store --stream web --remove-source",
     import_options, run_import_parseable},
    {"config check", NULL, "", 0, 0, SCOPE_SERVER, "check the configuration of a server and print it",
     "Reads flags, environment and file as `serve` would and prints each setting, its value and\n"
     "where that comes from. Secrets are not printed. Exit code 2 if something is wrong.",
     "sluice config check\nsluice config check --config /etc/sluice.yaml\nSLUICE_ADDR=[::]:8000 sluice config check "
     "--output json",
     config_options, run_config_check},
    {"version", NULL, "", 0, 0, 0, "print the version",
     "Prints the version, the commit it was built from and the version of the query engine.",
     "sluice version\nsluice version --output json", version_options, run_version},
    {"help", NULL, "[COMMAND...]", 0, 2, 0, "explain a command", "Explains a command, as COMMAND --help does.",
     "sluice help query\nsluice help stream create", help_options, run_help},
};
/* clang-format on */
const size_t commands_count = ARRAY_LEN(commands);
