/* log.h: structured JSON log lines on stderr, one object a line: {"ts","level","room","msg",...}.
 * Only the edge logs (handlers, background jobs, main). No secret ever goes in. THREADS any. */
#pragma once
#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
void log_set_level(enum log_level level); /* default LOG_INFO */
bool log_parse_level(const char *name, enum log_level *out);
/* `room` is the folder that speaks ("wal", "api"); the text is one line for a person. */
void log_line(enum log_level level, const char *room, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define log_debug(room, ...) log_line(LOG_DEBUG, room, __VA_ARGS__)
#define log_info(room, ...) log_line(LOG_INFO, room, __VA_ARGS__)
#define log_warn(room, ...) log_line(LOG_WARN, room, __VA_ARGS__)
#define log_error(room, ...) log_line(LOG_ERROR, room, __VA_ARGS__)
