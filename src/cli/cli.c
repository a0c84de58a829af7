/* cli.c: words of the command line -> a command, its settings and its options. */
#include "cli/cli_int.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include "os/os.h"

#include "base/banned.h"

#define CONFIG_BYTES_MAX (1u << 20)

/* ---- messages */

enum err_code output_failed(struct err *err)
{
    if (errno == EPIPE) {
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    return err_set(err, ERR_IO, "the output can not be written");
}

int cli_fail(const char *fmt, ...)
{
    va_list ap;

    (void)fflush(stdout);
    (void)fputs("sluice: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return EXIT_FAILED;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;

    (void)fputs("sluice: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (cli && cli->command)
        (void)fprintf(stderr, "\nusage: sluice %s [OPTIONS]%s%s   (--help explains)\n", cli->command->name,
                      *cli->command->usage ? " " : "", cli->command->usage);
    else
        (void)fputs("\n'sluice --help' lists the commands\n", stderr);
    return EXIT_USAGE;
}

/* ---- options */

const char *cli_value(const struct cli *cli, const char *option)
{
    for (size_t i = 0; cli->command->options[i].name; i++)
        if (strcmp(cli->command->options[i].name, option) == 0)
            return cli->values[i];
    assert_fail("an option that the command does not have", option, 0);
}

bool cli_choice(const struct cli *cli, const char *option, const char *const *names, size_t count, size_t *out)
{
    const char *text = cli_value(cli, option);
    _cleanup_(buf_done) struct buf all = BUF_INIT;

    *out = 0;
    for (size_t i = 0; i < count; i++) {
        if (!text || strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
        buf_fmt(&all, "%s%s", i == 0 ? "" : i + 1 == count ? " or " : ", ", names[i]);
    }
    const char *near = nearest(text, names, count);
    (void)cli_usage(cli, "--%s '%s' is unknown: %s%s%s", option, text, near ? "did you mean " : "write ",
                    near ? near : buf_cstr(&all), near ? "?" : "");
    return false;
}

static bool of_scope(const struct command *c, size_t id)
{
    return (settings[id].scope & c->scope) != 0;
}

static int unknown_option(const struct cli *cli, const char *word)
{
    const char *names[SETTINGS_COUNT + OPTIONS_MAX + 1];
    size_t n = 0;

    for (size_t i = 0; cli->command->options[i].name; i++)
        names[n++] = cli->command->options[i].name;
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        if (of_scope(cli->command, i))
            names[n++] = settings[i].name;
    names[n++] = "help";
    _cleanup_(freep) char *bare = mem_str(slice_head(slice_str(word + 2), strcspn(word + 2, "=")));
    const char *near = word[1] == '-' ? nearest(bare, names, n) : NULL;
    if (near)
        return cli_usage(cli, "unknown option --%s: did you mean --%s?", bare, near);
    return cli_usage(cli, "unknown option %.*s", (int)strcspn(word, "="), word);
}

/* What an option's word asks for, whether its value follows after '=' or as the next word. */
struct words {
    int argc, at;
    char **argv;
};

static bool take_value(struct words *w, const char *name, const char *word, const char **value)
{
    size_t len = strlen(name);

    if (word[2 + len] == '=') {
        *value = word + 2 + len + 1;
        return true;
    }
    if (w->at + 1 >= w->argc)
        return false;
    *value = w->argv[++w->at];
    return true;
}

static bool names_option(const char *word, const char *name)
{
    size_t len = strlen(name);
    return strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, len) == 0 &&
           (word[2 + len] == 0 || word[2 + len] == '=');
}

static int own_option(struct cli *cli, struct words *w, const char *word, bool *taken)
{
    for (size_t i = 0; cli->command->options[i].name; i++) {
        const struct cli_option *o = &cli->command->options[i];
        bool by_letter = o->letter && word[0] == '-' && word[1] == o->letter && (word[2] == 0 || o->value);
        if (!by_letter && !names_option(word, o->name))
            continue;
        *taken = true;
        if (!o->value) {
            if (strchr(word, '='))
                return cli_usage(cli, "--%s is a switch and takes no value", o->name);
            cli->values[i] = "";
        } else if (by_letter && word[2]) {
            cli->values[i] = word + 2; /* -ojson */
        } else if (by_letter && w->at + 1 < w->argc) {
            cli->values[i] = w->argv[++w->at];
        } else if (by_letter || !take_value(w, o->name, word, &cli->values[i])) {
            return cli_usage(cli, "--%s needs a value: %s", o->name, o->value);
        }
        return EXIT_DONE;
    }
    return EXIT_DONE;
}

/* --flag alone is true. The next word is its value if it looks like one; a store that is called `on` is written ./on. */
static bool is_bare_switch(const struct setting *s, const struct words *w, const char *word)
{
    return s->kind == SETTING_BOOL && !strchr(word, '=') &&
           (w->at + 1 >= w->argc || !setting_is_truth(w->argv[w->at + 1]));
}

static int setting_option(struct cli *cli, struct words *w, const char *word, bool *taken)
{
    struct err err;

    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings[i];
        const char *value = "true";
        const char *name = s->before && names_option(word, s->before) ? s->before : s->name;
        if (!of_scope(cli->command, i) || !names_option(word, name))
            continue;
        *taken = true;
        if (!is_bare_switch(s, w, word) && !take_value(w, name, word, &value))
            return cli_usage(cli, "--%s needs a value", name);
        _cleanup_(freep) char *where = mem_fmt("--%s", name);
        if (config_set(&cli->config, (enum setting_id)i, value, SOURCE_FLAG, where, &err) != ERR_OK)
            return cli_usage(cli, "%s", err.msg);
        return EXIT_DONE;
    }
    return EXIT_DONE;
}

static bool asks_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int parse_words(struct cli *cli, struct words *w, bool *help)
{
    bool only_args = false;

    for (; w->at < w->argc; w->at++) {
        const char *word = w->argv[w->at];
        bool taken = false;
        if (only_args || word[0] != '-' || strcmp(word, "-") == 0) {
            cli->args[cli->args_count++] = w->argv[w->at];
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_args = true;
            continue;
        }
        if (asks_help(word)) {
            *help = true;
            return EXIT_DONE;
        }
        int rc = own_option(cli, w, word, &taken);
        if (rc == EXIT_DONE && !taken)
            rc = setting_option(cli, w, word, &taken);
        if (rc != EXIT_DONE)
            return rc;
        if (!taken)
            return unknown_option(cli, word);
    }
    if (cli->args_count < cli->command->args_min)
        return cli_usage(cli, "%s is missing", cli->command->usage);
    if (cli->args_count > cli->command->args_max)
        return cli_usage(cli, "'%s' is one argument too many: quote what belongs together",
                         cli->args[cli->command->args_max]);
    return EXIT_DONE;
}

/* ---- settings */

static enum err_code read_config_file(struct config *c, struct err *err)
{
    const char *path = config_text(c, SET_CONFIG);
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t len;

    if (!path)
        return ERR_OK;
    if (os_read_file(os_real(), path, CONFIG_BYTES_MAX, &bytes, &len, err) != ERR_OK)
        return err_wrap(err, "%s: %s", c->values[SET_CONFIG].where, path);
    return config_yaml(c, path, slice_of(bytes, len), err);
}

static int load_settings(struct cli *cli)
{
    struct err err;
    enum err_code rc = config_environment(&cli->config, environ, &cli->warnings, &err);

    if (rc == ERR_OK)
        rc = read_config_file(&cli->config, &err);
    if (rc == ERR_OK)
        rc = config_finish(&cli->config, &err);
    if (rc == ERR_OK)
        return EXIT_DONE;
    (void)cli_fail("%s", err.msg);
    return EXIT_USAGE;
}

/* ---- the command */

static bool same_word(slice a, const char *b)
{
    return slice_eq(a, slice_str(b));
}

/* The command that the first words name and how many they are; NULL: none. */
static const struct command *find_command(int argc, char **argv, int *words)
{
    for (size_t i = 0; i < commands_count; i++) {
        slice name = slice_str(commands[i].name);
        const uint8_t *space = memchr(name.ptr, ' ', name.len);
        slice first = slice_head(name, space ? (size_t)(space - name.ptr) : name.len),
              second = slice_from(name, first.len + 1);
        if (!same_word(first, argv[1]))
            continue;
        *words = 1;
        if (!space)
            return &commands[i];
        *words = 2;
        if (argc > 2 && (same_word(second, argv[2]) || (commands[i].alias && strcmp(commands[i].alias, argv[2]) == 0)))
            return &commands[i];
    }
    return NULL;
}

/* "sluice stream", "sluice stream --help", "sluice stream lst" */
static int group_help(int argc, char **argv)
{
    slice group = slice_str(argv[1]);
    const char *names[64];
    size_t n = 0;

    for (size_t i = 0; i < commands_count; i++)
        if (slice_starts(slice_str(commands[i].name), group) && commands[i].name[group.len] == ' ')
            names[n++] = commands[i].name + group.len + 1;
    if (n == 0)
        return -1;
    bool asked = argc > 2 && asks_help(argv[2]);
    FILE *to = asked ? stdout : stderr;
    if (argc > 2 && !asked) {
        const char *near = nearest(argv[2], names, n);
        (void)fprintf(to, "sluice: unknown command '%s %s'%s%s%s\n", argv[1], argv[2], near ? ": did you mean " : "",
                      near ? near : "", near ? "?" : "");
    }
    for (size_t i = 0; i < commands_count; i++)
        if (slice_starts(slice_str(commands[i].name), group) && commands[i].name[group.len] == ' ')
            (void)fprintf(to, "  sluice %-18s %s\n", commands[i].name, commands[i].summary);
    return asked ? EXIT_DONE : EXIT_USAGE;
}

static int unknown_command(int argc, char **argv)
{
    const char *names[64];
    size_t n = 0;
    int rc = group_help(argc, argv);

    if (rc >= 0)
        return rc;
    for (size_t i = 0; i < commands_count && n < ARRAY_LEN(names); i++)
        names[n++] = commands[i].name;
    static const char *const groups[] = {"stream", "catalog", "config"};
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        names[n++] = groups[i];
    const char *near = nearest(argv[1], names, n);
    if (near)
        return cli_usage(NULL, "unknown command '%s': did you mean %s?", argv[1], near);
    return cli_usage(NULL, "unknown command '%s'", argv[1]);
}

static int run_command(const struct command *command, int words, int argc, char **argv)
{
    struct cli cli = {.command = command};
    struct words w = {.argc = argc, .at = 1 + words, .argv = argv};
    bool help = false;

    config_init(&cli.config);
    cli.args = mem_alloc(sizeof(*cli.args) * (size_t)argc);
    int rc = parse_words(&cli, &w, &help);
    if (help)
        print_help(stdout, command);
    else if (rc == EXIT_DONE && command->scope)
        rc = load_settings(&cli);
    if (!help && rc == EXIT_DONE)
        rc = command->run(&cli);
    free(cli.args);
    buf_done(&cli.warnings);
    config_done(&cli.config);
    struct err err;
    if (fflush(stdout) != 0 && output_failed(&err) != ERR_OK && rc == EXIT_DONE)
        rc = cli_fail("%s", err.msg);
    return rc;
}

int cli_main(int argc, char **argv)
{
    int words;

    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* widths of characters, nothing else */
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (asks_help(argv[1])) {
        print_overview(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "-V") == 0) {
        print_version(stdout);
        return EXIT_DONE;
    }
    const struct command *command = find_command(argc, argv, &words);
    if (!command)
        return unknown_command(argc, argv);
    return run_command(command, words, argc, argv);
}
