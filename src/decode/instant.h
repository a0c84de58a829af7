/* instant.h: instants in events (contract 2.4): which names hold them, and text to whole milliseconds, fast where logs
 * are alike. */
#pragma once
#include "base/slice.h"

/* Does the name of a new column make its text a timestamp? Substrings, any case: "attempts" qualifies by its "ts". */
bool instant_name(slice name);

struct instant_cache { /* the last date seen and its midnight */
    uint8_t date[10];
    int64_t day_us;
};
/* RFC 3339 or RFC 2822. `strict` asks for a zone: that is what makes a new column a timestamp; a column that is one takes
 * text without zone as UTC. Microseconds, cut to whole milliseconds. */
bool instant_parse(slice s, bool strict, struct instant_cache *cache, int64_t *us);
