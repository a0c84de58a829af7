/* input.h: a file of logs -> one JSON object after the other, each with the line it begins on.
 *
 * Plain, gzip (RFC 1952, any number of members) or zstd (RFC 8878, any number of frames), told by their first bytes. The text is one object
 * a line (NDJSON), or arrays of objects, or objects that span lines. In the form of lines a damaged line costs that line only; in the
 * others what is between braces is one row, and text that never closes ends the file.
 * Memory: one row and one block, whatever the size of the file. THREADS one. TESTS input_test.c, and tests/test_cli.py */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#define INPUT_ROW_BYTES_MAX (64u << 20)

struct input;
enum input_event {
    INPUT_ROW,  /* *row holds one object, checked to be JSON */
    INPUT_BAD,  /* one row that is none: err says why; go on with the next call */
    INPUT_WAIT, /* nothing to read just now: poll input_fd() */
    INPUT_END,
    INPUT_FAIL, /* the file can not be read any further: err says why */
};
/* `path` "-": stdin. ERR_NOT_FOUND, ERR_IO. */
MUST_CHECK enum err_code input_open(const char *path, struct input **out, struct err *err);
void input_close(struct input *in); /* NULL is fine */
/* *row is valid until the next call. *line counts from 1. */
enum input_event input_next(struct input *in, slice *row, uint64_t *line, struct err *err);
int input_fd(const struct input *in);
bool input_waits(const struct input *in);     /* a pipe or terminal: INPUT_WAIT may come */
uint64_t input_size(const struct input *in);  /* of the file as it is on disk; 0: unknown */
uint64_t input_bytes(const struct input *in); /* read of it so far */
