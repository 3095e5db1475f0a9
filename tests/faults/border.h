/* border.h - faults between the engine and the kernel; what tests/faults sees of border.c. */
#ifndef URINGLOOP_TESTS_BORDER_H
#define URINGLOOP_TESTS_BORDER_H

#include <stdint.h>

/* What a fault is about, in the order of the names of uringloop/errors.py; the last is epoll_ctl(2). */
enum ub_operation {
    UB_ACCEPT = 0,
    UB_RECV = 1,
    UB_SEND = 2,
    UB_CONNECT = 3,
    UB_POLL = 4,
    UB_RECVMSG = 5,
    UB_SENDMSG = 6,
    UB_SENDFILE = 7,
    UB_REGISTER = 8,
    UB_OPERATIONS = 9,
};

enum {
    UB_ERRNOS_MAX = 32, /* of one operation */
    UB_KINDS = 16,      /* of faults: more than there are */
};

/* How the border of one run behaves: chances in a thousand. */
struct ub_temper {
    uint32_t errors;     /* an operation on a socket answers an errno of its table */
    uint32_t not_now;    /* EINTR, EAGAIN, and their like, in place of a try */
    uint32_t cuts;       /* less is moved, taken or reported at once than could be */
    uint32_t shortages;  /* ENOBUFS of receives; an enter that is refused */
    uint32_t interrupts; /* waits that end, by a signal so to speak */
    uint32_t losing;     /* cancels that find nothing */
    uint32_t delays;     /* completions that are seen later, or in another order */
};

/* An errno that was made up. */
struct ub_fault {
    int32_t fd;
    int32_t operation;
    int32_t error;
};

/* From now on the border is as `temper` says, by choices that only `seed` decides. */
void ub_begin(uint64_t seed, const struct ub_temper *temper);

/* From now on it does nothing. */
void ub_end(void);

/* Which errnos an operation may be given; none: none is. At most UB_ERRNOS_MAX. */
void ub_allow(int32_t operation, const int32_t *errnos, uint32_t count);

/* Takes the errnos that were made up since the last call out of the record; how many. */
uint32_t ub_take_faults(struct ub_fault *faults, uint32_t max);

/* How many faults came since ub_begin(). */
uint64_t ub_total(void);

/* How many of this kind, and what it is called; NULL: no such kind. */
uint64_t ub_count(uint32_t kind);
const char *ub_kind_name(uint32_t kind);

/* So many allocations succeed, and none after them; negative: all do. */
void ub_fail_memory(int32_t after);

/* Whether one has failed since then. */
int32_t ub_has_memory_failed(void);

/* How many pieces of memory all engines of the process hold: allocations and mappings. */
int64_t ub_memory_held(void);

#endif
