/* epoll.h - what the two halves of the readiness engine share.
 *
 * epoll.c knows who waits for which descriptor and carries out the turn;
 * epoll_operations.c knows what one operation does to its descriptor, and holds the
 * memory that receives write to. Neither is seen outside of the two.
 */
#ifndef URINGLOOP_EPOLL_H
#define URINGLOOP_EPOLL_H

#include "internal.h"
#include <sys/epoll.h>

enum { UL_REPORTS_MAX = 512 };

/* What a step answers in place of a final result. */
#define UL_STEP_WAITS INT64_MIN           /* the descriptor is not ready (any more) */
#define UL_STEP_PUT_OFF (INT64_MIN + 1)   /* it is, but this turn has no room for more */

/* Where receives of one turn put their bytes, one piece after the other. The next turn
 * begins at the front again: a quiet loop stays within a few cached pages. */
struct ul_scratch {
    uint8_t *bytes;
    size_t size;
    size_t used;
    size_t piece_max; /* offered to one receive */
    size_t piece_min; /* with less left, receives wait for the next turn */
};

/* One entry of the table by descriptor number. */
struct ul_descriptor {
    struct ul_operation *first; /* those that wait; in order of arrival */
    uint32_t interest;          /* as the kernel has it; 0: not registered */
    uint32_t generation;        /* of the registration; its reports carry it */
};

struct ul_readiness {
    int epoll_fd;
    bool has_pwait2;
    bool woken; /* in this turn */
    struct ul_descriptor *descriptors;
    uint32_t descriptor_count;
    uint32_t kept_count;           /* reports at the front that are still to be served */
    struct ul_operation *answered; /* whose final event found no room */
    struct ul_scratch scratch;
    struct epoll_event reports[UL_REPORTS_MAX];
};

int ul_scratch_open(struct ul_scratch *scratch, const struct ul_config *config);
void ul_scratch_close(struct ul_scratch *scratch);

/* What has to become ready for the operation to go on. Never 0. */
uint32_t ul_epoll_interest(const struct ul_operation *operation);

/* The first step, when the command is taken. A final result, or UL_STEP_WAITS. */
int64_t ul_epoll_try(struct ul_engine *engine, struct ul_operation *operation);

/* A further step: `ready` says what the descriptor is ready for. May give events.
 * A final result, UL_STEP_WAITS or UL_STEP_PUT_OFF. */
int64_t ul_epoll_resume(struct ul_engine *engine, struct ul_operation *operation,
                        uint32_t ready);

/* poll(2) without waiting: the ready mask, 0, or -errno. */
int ul_poll_now(int fd, uint32_t mask);

#endif
