/* config_check.c: `sluice config check`: the settings as a server would see them. */
#include "api/api.h"
#include "cli/cli_int.h"

#include "base/banned.h"

static const char *shown(const struct setting *s, const struct value *v)
{
    return !v->text ? "" : s->secret ? "********" : v->text;
}

static void print_table(const struct cli *cli)
{
    size_t name_width = 0, value_width = 0;

    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings[i];
        if (!(s->scope & SCOPE_SERVER))
            continue;
        name_width = MAX(name_width, strlen(s->name));
        value_width = MAX(value_width, MIN(strlen(shown(s, &cli->config.values[i])), 48));
    }
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings[i];
        const struct value *v = &cli->config.values[i];
        if (s->scope & SCOPE_SERVER)
            printf("%-*s  %-*s  %s\n", (int)name_width, s->name, (int)value_width, shown(s, v),
                   v->where ? v->where : "not set");
    }
}

static void print_json(const struct cli *cli)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings[i];
        const struct value *v = &cli->config.values[i];
        if (!(s->scope & SCOPE_SERVER))
            continue;
        buf_str(&b, b.len ? ",\n " : "{");
        buf_json_str(&b, slice_str(s->name));
        buf_str(&b, ":{\"value\":");
        if (v->text)
            buf_json_str(&b, slice_str(shown(s, v)));
        else
            buf_str(&b, "null");
        buf_str(&b, ",\"source\":");
        buf_json_str(&b, slice_str(v->where ? v->where : "not set"));
        buf_byte(&b, '}');
    }
    buf_str(&b, "}\n");
    (void)fwrite(b.ptr, 1, b.len, stdout);
}

/* What a start would refuse of the texts themselves. */
static enum err_code check_texts(const struct config *c, struct err *err)
{
    if (api_address_check(config_text(c, SET_ADDR), err) != ERR_OK)
        return err_wrap(err, "%s", c->values[SET_ADDR].where);
    if (cli_store_check_name(config_text(c, SET_STORE), err) != ERR_OK)
        return err_wrap(err, "%s", c->values[SET_STORE].where);
    return ERR_OK;
}

int run_config_check(struct cli *cli)
{
    static const char *const formats[] = {"table", "json"};
    struct err err;
    size_t format;

    if (!cli_choice(cli, "output", formats, ARRAY_LEN(formats), &format))
        return EXIT_USAGE;
    if (cli_on(cli, "docs")) {
        docs_configuration(stdout);
        return EXIT_DONE;
    }
    if (check_texts(&cli->config, &err) != ERR_OK) {
        (void)cli_fail("%s", err.msg);
        return EXIT_USAGE;
    }
    (void)fputs(buf_cstr(&cli->warnings), stderr);
    if (format == 0)
        print_table(cli);
    else
        print_json(cli);
    return EXIT_DONE;
}
