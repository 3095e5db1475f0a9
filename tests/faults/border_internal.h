/* border_internal.h - what the files of the border share: chance, and the record of what it did. */
#ifndef URINGLOOP_TESTS_BORDER_INTERNAL_H
#define URINGLOOP_TESTS_BORDER_INTERNAL_H

#include "border.h"

#include <stdbool.h>
#include <stddef.h>

enum ub_kind {
    UB_KIND_ERROR,
    UB_KIND_NOT_NOW,
    UB_KIND_SHORT,
    UB_KIND_NO_BUFFER,
    UB_KIND_ENTER_REFUSED,
    UB_KIND_ENTER_PARTIAL,
    UB_KIND_WAIT_INTERRUPTED,
    UB_KIND_CANCEL_LOST,
    UB_KIND_COMPLETION_LATE,
    UB_KIND_COMPLETIONS_SWAPPED,
    UB_KIND_MULTISHOT_ENDED,
    UB_KIND_POLL_MISLED,
    UB_KIND_FEW_REPORTS,
    UB_KIND_NAMELESS,
    UB_KIND_COUNT,
};

/* Whether the border does anything; and its temper. */
extern bool ub_is_active;
extern struct ub_temper ub_temper;

/* Whether something of this chance happens now; if so it is counted. Never while not active. */
bool ub_happens(uint32_t in_thousand, enum ub_kind kind);

/* A number from `low` to `high`, both included. */
uint32_t ub_between(uint32_t low, uint32_t high);

/* A part of `size`, 1 at least if that is: mostly all, sometimes one byte. */
size_t ub_part_of(size_t size);

/* An errno that the operation ends with, recorded; 0: none. Only sockets have any. */
int ub_error_for(int32_t operation, int fd);

/* Whether something else than a result comes of a try. */
bool ub_is_not_now(void);

#endif
