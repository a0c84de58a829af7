/* segment_int.h: what the files of segment/ share. */
#pragma once
#include "segment/segment.h"

#define SEGMENT_STATS_FIELDS_MAX 15 /* of the schema; the row id is the 16th column */

/* Which fields get statistics: p_timestamp, then the lowest field ids that are no lists. `used` by field index. Returns how many. */
uint32_t segment_stat_fields(const struct schema *schema, const bool *used, uint32_t out[SEGMENT_STATS_FIELDS_MAX]);
/* rows, tmin, tmax and cols of `out` from the rows themselves. */
void segment_stats_compute(const struct schema *schema, const struct segment_part *parts, uint32_t parts_count,
                           const uint32_t *fields, uint32_t fields_count, struct segment_stats *out);
