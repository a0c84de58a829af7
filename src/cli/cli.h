/* cli.h: the program. main() calls cli_main() and exits with what it returns: 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
#pragma once

int cli_main(int argc, char **argv);
