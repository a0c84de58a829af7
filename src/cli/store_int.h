/* store_int.h: what the commands about a store without a server share; catalog.c has it. */
#pragma once
#include "catalog/catalog.h"
#include "cli/cli_int.h"

DEFINE_CLEANUP(struct catalog *, catalog_close)
/* --output; false: a usage error was printed. */
bool cli_wants_table(const struct cli *cli, bool *table);
/* The catalog of a store that is one of Sluice, as a reader unless `to_write`. */
MUST_CHECK enum err_code cli_catalog_open(const struct cli *cli, bool to_write, struct store **store,
                                          struct catalog **out, struct err *err);
/* The lock that a server of this data folder holds; NULL: there is no such folder. */
MUST_CHECK enum err_code cli_lock_data(const struct cli *cli, struct os_file **lock, struct err *err);
