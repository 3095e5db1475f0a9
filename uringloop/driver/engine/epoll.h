/* epoll.h - what the parts of the readiness engine share.
 *
 * epoll.c knows who waits for which descriptor and carries out the turn; epoll_wait.c knows
 * the clock; epoll_lifetime.c its beginning and end; epoll_operations.c knows what one operation does to its descriptor, and holds the
 * memory that receives write to; epoll_messages.c has those of messages. None of it is seen outside of them.
 */
#ifndef URINGLOOP_EPOLL_H
#define URINGLOOP_EPOLL_H

#include "calls.h"
#include <sys/epoll.h>

enum { UL_REPORTS_MAX = 512 };

/* A further answer of a step, beside those of calls.h. UL_STEP_PUT_OFF means here that this
 * turn has no room for more. */
#define UL_STEP_UNTOLD (INT64_MIN + 2) /* it is not ready, but poll(2) says that it is */

static inline bool ul_epoll_goes_on(int64_t result) {
    return result <= UL_STEP_UNTOLD;
}

/* Where receives of one turn put their bytes, one piece after the other. The next turn
 * begins at the front again: a quiet loop stays within a few cached pages. */
struct ul_scratch {
    uint8_t *bytes;
    size_t size;
    size_t used;
    size_t piece_max; /* offered to one receive */
    size_t piece_min; /* with less left, receives wait for the next turn */
};

/* Where RECVMSG puts messages, from the front again in each turn (epoll_messages.c). */
struct ul_inbox {
    uint8_t *slots;  /* for a header and a short payload; NULL: not made yet */
    uint8_t *places; /* for a header and the longest payload */
    uint32_t slot_count, place_count;
    uint32_t slots_used, places_used;
};

/* One entry of the table by descriptor number. */
struct ul_descriptor {
    struct ul_operation *first; /* those that wait; in order of arrival */
    uint32_t interest;          /* as the kernel has it; 0: not registered */
    uint32_t generation;        /* of the registration; its reports carry it */
    bool misleads;              /* its last report was untrue: it is to tell changes only */
};

struct ul_readiness {
    int epoll_fd;
    bool has_pwait2;
    bool woken; /* in this turn */
    struct ul_descriptor *descriptors;
    uint32_t descriptor_count;
    uint32_t kept_count;           /* reports at the front that are still to be served */
    struct ul_operation *answered; /* whose final event found no room */
    struct ul_operation *retried;  /* that are tried by the clock */
    int64_t retry_ns;              /* until those are tried again */
    struct ul_scratch scratch;
    struct ul_inbox inbox;
    struct epoll_event reports[UL_REPORTS_MAX];
};

/* Queues of operations. first->prior is the last one, last->next is NULL. */
static inline void ul_queue_append(struct ul_operation **first, struct ul_operation *operation) {
    operation->next = NULL;
    if (*first) {
        operation->prior = (*first)->prior;
        operation->prior->next = operation;
        (*first)->prior = operation;
    } else {
        operation->prior = operation;
        *first = operation;
    }
}

static inline void ul_queue_remove(struct ul_operation **first, struct ul_operation *operation) {
    struct ul_operation *next = operation->next, *prior = operation->prior;
    if (*first == operation)
        *first = next;
    else
        prior->next = next;
    if (next)
        next->prior = prior;
    else if (*first)
        (*first)->prior = prior;
}

int ul_scratch_open(struct ul_scratch *scratch, const struct ul_config *config);
void ul_scratch_close(struct ul_scratch *scratch);

void ul_inbox_prepare(struct ul_inbox *inbox, const struct ul_config *config);
void ul_inbox_close(struct ul_inbox *inbox);

/* What has to become ready for the operation to go on. Never 0. */
uint32_t ul_epoll_interest(const struct ul_operation *operation);

/* The address of the final event with this result, which is the next event. */
uint64_t ul_epoll_address(struct ul_engine *engine, const struct ul_operation *operation,
                          int64_t result);

/* The first step, when the command is taken. As ul_epoll_resume, but gives no event. */
int64_t ul_epoll_try(struct ul_engine *engine, struct ul_operation *operation);

/* A further step: `ready` says what the descriptor is ready for. May give events.
 * A final result, or one of UL_STEP_*. */
int64_t ul_epoll_resume(struct ul_engine *engine, struct ul_operation *operation,
                        uint32_t ready);

/* The step of RECVMSG. */
int64_t ul_epoll_receive_messages(struct ul_engine *engine, struct ul_operation *operation);

/* Registers the wake descriptor. 0 or -errno. */
int ul_epoll_add_wake(struct ul_engine *engine);

extern const struct ul_backend UL_EPOLL_BACKEND;

/* epoll_lifetime.c */
void ul_epoll_close(struct ul_engine *engine);
void ul_epoll_abandon(struct ul_engine *engine);

/* Waits for reports. Their number, or -errno. */
int ul_epoll_wait(struct ul_readiness *readiness, int64_t timeout_ns);

/* Finds out which of the kernel's calls can wait. */
void ul_epoll_wait_probe(struct ul_readiness *readiness);

/* The deadline of a wait: 0 and negative timeouts stand for themselves. */
int64_t ul_deadline_after(int64_t begin_ns, int64_t timeout_ns);
int64_t ul_time_left(int64_t deadline_ns);

/* poll(2) without waiting: the ready mask, 0, or -errno. */
int ul_poll_now(int fd, uint32_t mask);

#endif
