/* edit.h: taking files out of a head that is being edited, for retention and compaction. */
#pragma once
#include "catalog/catalog_int.h"

/* Is this file to go? It may be asked about the same file more than once. */
typedef bool (*file_match_fn)(void *arg, const struct entry *e);
/* Removes what matches; manifests that hold some of it are replaced: what they keep becomes inline (head_spill() writes it again). Only
 * files that overlap [from, to] are asked about. A manifest that cannot be read stays as it is. `removed` gets references. */
MUST_CHECK enum err_code head_remove(struct catalog *cat, struct head *h, int64_t from_us, int64_t to_us,
                                     file_match_fn match, void *arg, struct entry_list *removed, struct err *err);
/* Every file of a head, manifests included; those that cannot be read are noted (damage_note) and left out. */
MUST_CHECK enum err_code head_each(struct catalog *cat, struct head *h,
                                   enum err_code (*fn)(void *arg, struct entry *e, struct err *err), void *arg,
                                   struct err *err);
