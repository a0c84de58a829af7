/* cli_int.h: what commands share. A command is a row of the table in command.c: its words, options, help and a function. */
#pragma once
#include <stdio.h>

#include "cli/cli.h"
#include "cli/setting.h"
#include "store/probe.h"
#include "store/store.h"

#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_INTERRUPTED 130 /* as a shell reports SIGINT */

struct cli_option {
    const char *name;  /* without the dashes */
    char letter;       /* 0: none */
    const char *value; /* name of its value in help; NULL: a switch */
    const char *help;
};
struct cli;
struct command {
    const char *name;  /* one or two words: "query", "stream create" */
    const char *alias; /* of the last word, or NULL */
    const char *usage; /* arguments as help shows them */
    unsigned args_min, args_max;
    unsigned scope;                   /* settings that are its flags, of enum setting_scope */
    const char *summary;              /* one line */
    const char *about;                /* what it does, lines of at most 80 columns */
    const char *examples;             /* lines */
    const struct cli_option *options; /* ends with a NULL name */
    int (*run)(struct cli *cli);
};
#define OPTIONS_MAX 16
struct cli {
    const struct command *command;
    struct config config;
    struct buf warnings; /* of the environment */
    char **args;
    size_t args_count;
    const char *values[OPTIONS_MAX]; /* of the command's own options; "" for a switch that is on */
};
extern const struct command commands[];
extern const size_t commands_count;

/* The value of an own option of the command; NULL: not given. */
const char *cli_value(const struct cli *cli, const char *option);
static inline bool cli_on(const struct cli *cli, const char *option)
{
    return cli_value(cli, option) != NULL;
}
/* "sluice: ..." on stderr; they return the exit code. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* stdout could not be written. A reader that has enough (`| head`) ends the process without a word, by SIGPIPE, as it ends every filter; the
 * server sees the connection go and cancels. Anything else is told in `err`, which is returned. */
enum err_code output_failed(struct err *err);
/* Which of `names` the option asks for; its first when absent. False: a usage error was printed. */
bool cli_choice(const struct cli *cli, const char *option, const char *const *names, size_t count, size_t *out);
void print_help(FILE *to, const struct command *c);
void print_overview(FILE *to);
void print_version(FILE *to);
void docs_configuration(FILE *to);

/* ---- store.c: the place that --store names, a folder or s3://bucket/prefix. `to_read`: nothing is ever written. */
MUST_CHECK enum err_code cli_store_check_name(const char *place,
                                              struct err *err); /* looks at the text alone; the others do it too */
MUST_CHECK enum err_code cli_store_open(const struct config *c, const char *place, bool to_read, struct store **out,
                                        struct err *err);
/* The same for a server: probed first, and its temporary files lie in the data folder. */
MUST_CHECK enum err_code cli_store_serve(const struct config *c, struct store **out, struct store_facts *facts,
                                         struct err *err);
static inline void store_free(struct store *s)
{
    if (s)
        s->ops->free(s);
}
DEFINE_CLEANUP(struct store *, store_free)

/* ---- commands */
int run_serve(struct cli *cli);
int run_config_check(struct cli *cli);
int run_version(struct cli *cli);
int run_help(struct cli *cli);
int run_query(struct cli *cli);
int run_tail(struct cli *cli);
int run_ingest(struct cli *cli);
int run_stream_ls(struct cli *cli);
int run_stream_create(struct cli *cli);
int run_stream_rm(struct cli *cli);
int run_stream_info(struct cli *cli);
int run_stream_schema(struct cli *cli);
int run_catalog_cat(struct cli *cli);
int run_catalog_verify(struct cli *cli);
int run_catalog_fsck(struct cli *cli);
int run_catalog_gc(struct cli *cli);
int run_store_check(struct cli *cli);
int run_backup(struct cli *cli);
int run_backup_rm(struct cli *cli);
int run_backup_ls(struct cli *cli);
int run_backup_verify(struct cli *cli);
int run_restore(struct cli *cli);
int run_import_parseable(struct cli *cli);
