/* send_uring.c - what the kernel answers to a SEND.
 *
 * Zero copy. IORING_OP_SEND_ZC and IORING_OP_SENDMSG_ZC (6.1) hand the pages of the caller's
 * memory to the network. Each such request has two completions: one with the result, and, where
 * that had CQE_F_MORE, a notice (CQE_F_NOTIF) when the pages are free again, which for TCP is when the
 * peer has acknowledged them. A failed request may owe a notice, too. A short one is continued by another
 * request, with a notice of its own, so they are counted. While one is missing the operation has no
 * final event; but the next SEND need not wait for it, so the result is told at once.
 *
 * Refusals. Sockets other than TCP and UDP answer EOPNOTSUPP, and a process without room for more locked
 * memory (RLIMIT_MEMLOCK, charged without CAP_IPC_LOCK) ENOMEM or ENOBUFS: the same SEND goes on
 * by copying.
 */
#include "uring.h"

static bool is_refused(const struct ul_operation *operation, int result) {
    bool is_reason = result == -EOPNOTSUPP || result == -ENOMEM || result == -ENOBUFS;
    return is_reason && operation->flags & UL_ZERO_COPY;
}

static void notice_came(struct ul_uring *uring, struct ul_operation *operation) {
    operation->notices--;
    if (!operation->notices && operation->phase == UL_PHASE_HELD)
        ul_conclude(uring, operation, (int64_t)operation->argument, 0);
}

/* What only a send without a copy has: it owes a notice, or this is one. Whether it is. */
static bool heed_flags(struct ul_uring *uring, struct ul_operation *operation, uint32_t flags) {
    if (flags & IORING_CQE_F_NOTIF) {
        notice_came(uring, operation);
        return true;
    }
    if (flags & IORING_CQE_F_MORE)
        operation->notices++;
    return false;
}

static void failed(struct ul_uring *uring, struct ul_operation *operation, int result) {
    if (is_refused(operation, result)) {
        operation->flags &= ~(uint32_t)UL_ZERO_COPY;
        ul_run(uring, operation);
    } else {
        ul_finish_or_retry(uring, operation, result);
    }
}

void ul_send_completed(struct ul_uring *uring, struct ul_operation *operation,
                       const struct io_uring_cqe *cqe) {
    if (cqe->flags && heed_flags(uring, operation, cqe->flags))
        return;
    if (cqe->res < 0)
        failed(uring, operation, cqe->res);
    else if (ul_send_advance(operation, (uint32_t)cqe->res))
        ul_conclude(uring, operation, (int64_t)operation->done, 0);
    else
        ul_run(uring, operation);
}

void ul_send_hold(struct ul_uring *uring, struct ul_operation *operation, int64_t result) {
    operation->phase = UL_PHASE_HELD;
    operation->argument = (uint64_t)(result < 0 ? result : 0);
    if (result >= 0)
        ul_give(uring->engine, operation, result, 0);
}
