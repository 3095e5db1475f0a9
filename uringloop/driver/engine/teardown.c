/* teardown.c - the end of an io_uring engine: nothing may still be written to, nothing lost.
 *
 * Closing the ring's descriptor does not stop its requests at once; the kernel does that
 * later, in a thread of its own. So each request is cancelled and its last completion
 * awaited before memory is unmapped. It takes one enter as a rule, and never more than
 * CLOSE_NS_MAX.
 */
#include "uring.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    CLOSE_NS_MAX = UL_NS_PER_S,
    CLOSE_WAIT_NS = 20000000, /* then what was not found to be cancelled is asked again */
};

static void cancel_request(struct ul_uring *uring, uint64_t token, enum ul_tag tag) {
    struct io_uring_sqe *sqe = ul_ring_sqe(uring);
    if (sqe) /* else the next round asks */
        ul_request_cancel(token, tag, sqe);
}

/* Asks for the end of every request that still owes a completion. */
static void cancel_all(struct ul_uring *uring) {
    struct ul_engine *engine = uring->engine;
    if (uring->wake_is_armed)
        cancel_request(uring, 0, UL_TAG_WAKE);
    for (uint32_t page = 0; page < engine->page_count; page++) {
        for (uint32_t slot = 0; slot < UL_PAGE_SLOTS; slot++) {
            const struct ul_operation *operation = &engine->pages[page][slot];
            if (operation->opcode && ul_is_in_kernel(operation))
                cancel_request(uring, operation->token, ul_tag_of(operation));
        }
    }
}

/* Takes in what the kernel still has to say. A connection that arrived is nobody's now. */
static void discard_completions(struct ul_uring *uring) {
    struct io_uring_cqe cqe;
    while (ul_ring_cqe(uring, &cqe)) {
        struct ul_operation *operation = ul_find(uring->engine, cqe.user_data);
        if (!operation)
            continue;
        if (operation->opcode == UL_OP_ACCEPT && cqe.res >= 0)
            close(cqe.res);
        if (!(cqe.flags & IORING_CQE_F_MORE))
            operation->phase = UL_PHASE_NONE;
    }
}

/* Returns when the kernel has answered everything, has had its time, or does not let us in. */
static void stop_all(struct ul_uring *uring) {
    int64_t end_ns = ul_now_ns() + CLOSE_NS_MAX;
    int result = 0;
    discard_completions(uring);
    while (uring->requests && (result >= 0 || ul_is_transient(result)) && ul_now_ns() < end_ns) {
        cancel_all(uring);
        result = ul_ring_enter(uring, 1, CLOSE_WAIT_NS);
        discard_completions(uring);
    }
}

/* A request on a socket is carried out by the thread it came from, or by nobody. */
static bool has_owner_ended(const struct ul_uring *uring) {
    return syscall(SYS_tgkill, getpid(), uring->thread_id, 0) && errno == ESRCH;
}

void ul_uring_free(struct ul_uring *uring, bool is_quiet) {
    ul_buffers_close(&uring->buffers, is_quiet);
    ul_request_free_addresses(uring);
    free(uring->messages);
    free(uring);
}

/* A ring that belongs to another, living thread cannot be entered here to cancel anything.
 * The kernel stops its requests some time after the close, and until then a receive may
 * write to a buffer. So that memory stays mapped for the life of the process: a few MiB of
 * addresses, where the alternative is somebody else's memory written to. */
void ul_uring_close(struct ul_engine *engine) {
    struct ul_uring *uring = engine->state;
    bool is_quiet;
    if (engine->abandoned) {
        ul_uring_free(uring, false); /* the child has no mapping to free: MADV_DONTFORK */
        return;
    }
    if (ul_ring_is_ours(uring))
        stop_all(uring);
    else
        discard_completions(uring);
    is_quiet = uring->requests <= ul_ring_staged(uring) || has_owner_ended(uring);
    ul_ring_close(uring);
    ul_uring_free(uring, is_quiet);
}
