/* lifetime.c - how an io_uring engine begins, and how it ends.
 *
 * Begin. The kernel counts the memory of rings against RLIMIT_MEMLOCK, for all processes of
 * a user without CAP_IPC_LOCK together, and gives it back some time after a ring was closed.
 * So many loops one after the other, or many at once, can meet ENOMEM. The first get over it
 * by waiting, the others with smaller queues; a small queue costs system calls, not answers.
 *
 * End. Closing the ring's descriptor does not stop its requests at once; the kernel does that
 * later, in a thread of its own. So each request is cancelled and its last completion
 * awaited before memory is unmapped. It takes one enter as a rule, and never more than
 * CLOSE_NS_MAX.
 */
#include "uring.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SQ_DEFAULT = 256,
    CQ_DEFAULT = 4096,
    SQ_SMALLEST = 8, /* with still smaller queues ENOMEM is the answer */
    ENOMEM_WAITS = 10,
    ENOMEM_WAIT_NS = 5000000,
    CLOSE_NS_MAX = UL_NS_PER_S,
    CLOSE_WAIT_NS = 20000000, /* then what was not found to be cancelled is asked again */
};

static void free_uring(struct ul_uring *uring, bool is_quiet) {
    if (is_quiet)
        ul_relay_close_all(uring->engine);
    ul_relay_pool_close(&uring->relay_pool, is_quiet);
    ul_buffers_close(&uring->buffers, is_quiet);
    ul_buffers_close(&uring->messages, is_quiet);
    ul_buffers_close(&uring->spare, true); /* no request knows it */
    ul_request_free_addresses(uring);
    free(uring->headers);
    free(uring);
}

/* Begin. -------------------------------------------------------------------------------- */

/* Features that need others are dropped with them. */
static uint32_t consistent(uint32_t features) {
    if (!(features & UL_FEATURE_SINGLE_ISSUER))
        features &= ~(uint32_t)UL_FEATURE_DEFER_TASKRUN;
    if (!(features & UL_FEATURE_BUFFER_RING))
        features &= ~(uint32_t)(UL_FEATURE_INCREMENTAL_BUFFERS | UL_FEATURE_MULTISHOT_RECV |
                                UL_FEATURE_MULTISHOT_RECVMSG |
                                UL_FEATURE_QUIET_SENDS);
    return features;
}

static int open_parts(struct ul_uring *uring, const struct ul_config *config) {
    int error = ul_ring_open(uring, config);
    if (error)
        return error;
    uring->headers = calloc(uring->ring.sq.ring_entries, sizeof(*uring->headers));
    error = uring->headers ? ul_buffers_open(uring, config) : -ENOMEM;
    if (error)
        ul_ring_close(uring);
    return error;
}

static int open_once(struct ul_engine *engine, const struct ul_config *config) {
    struct ul_uring *uring = calloc(1, sizeof(*uring));
    int error;
    if (!uring)
        return -ENOMEM;
    uring->engine = engine;
    uring->features = consistent(config->features);
    ul_list_clear(&uring->pending);
    ul_list_clear(&uring->resting);
    ul_list_clear(&uring->retried);
    ul_list_clear(&uring->buffers.starved);
    ul_list_clear(&uring->messages.starved);
    ul_list_clear(&uring->spare.starved);
    error = open_parts(uring, config);
    if (error) {
        free_uring(uring, true);
        return error;
    }
    engine->backend = &UL_URING_BACKEND;
    engine->state = uring;
    engine->shared.features = uring->features;
    return 0;
}

int ul_uring_open(struct ul_engine *engine, const struct ul_config *config) {
    const struct timespec pause = {.tv_nsec = ENOMEM_WAIT_NS};
    struct ul_config fitting = *config;
    int error;
    if (!fitting.sq_entries)
        fitting.sq_entries = SQ_DEFAULT;
    if (!fitting.cq_entries)
        fitting.cq_entries = CQ_DEFAULT;
    error = open_once(engine, &fitting);
    for (int waits = 0; error == -ENOMEM && waits < ENOMEM_WAITS; waits++) {
        nanosleep(&pause, NULL);
        error = open_once(engine, &fitting);
    }
    while (error == -ENOMEM && fitting.sq_entries > SQ_SMALLEST) {
        fitting.sq_entries /= 2;
        fitting.cq_entries /= 2;
        error = open_once(engine, &fitting);
    }
    return error;
}

/* End. ---------------------------------------------------------------------------------- */

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
            bool is_in_kernel = ul_is_relayed(operation) ? ul_relay_is_receiving(operation)
                                                         : ul_is_in_kernel(operation);
            if (operation->opcode && operation->opcode != UL_OP_CLOSE && is_in_kernel)
                cancel_request(uring, operation->token, ul_tag_of(operation));
        }
    }
}

/* A descriptor that arrived is nobody's now. */
static void discard(struct ul_uring *uring, const struct io_uring_cqe *cqe) {
    uint64_t token = cqe->user_data & (((uint64_t)1 << UL_TAG_SHIFT) - 1);
    struct ul_operation *operation = ul_find(uring->engine, token);
    bool is_last = !(cqe->flags & IORING_CQE_F_MORE);
    if (!operation)
        return;
    if (ul_is_relayed(operation)) {
        if (is_last)
            ul_relay_discard(operation, (enum ul_tag)(cqe->user_data >> UL_TAG_SHIFT));
        return;
    }
    if (cqe->user_data != token)
        return;
    if ((operation->opcode == UL_OP_ACCEPT || operation->opcode == UL_OP_OPEN) && cqe->res >= 0)
        close(cqe->res);
    if (is_last)
        operation->phase = UL_PHASE_NONE;
}

/* Takes in what the kernel still has to say. */
static void discard_completions(struct ul_uring *uring) {
    struct io_uring_cqe cqe;
    while (ul_ring_cqe(uring, &cqe))
        discard(uring, &cqe);
    ul_relay_discard_quiet(uring);
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

/* A ring that belongs to another, living thread cannot be entered here to cancel anything.
 * The kernel stops its requests some time after the close, and until then a receive may
 * write to a buffer. So that memory stays mapped for the life of the process: a few MiB of
 * addresses, where the alternative is somebody else's memory written to. A descriptor that
 * the thread registered keeps the ring, and with it the sockets in use, until it ends. */
void ul_uring_close(struct ul_engine *engine) {
    struct ul_uring *uring = engine->state;
    bool is_quiet;
    if (engine->abandoned) {
        free_uring(uring, false); /* the child has no mapping to free: MADV_DONTFORK */
        return;
    }
    if (ul_ring_is_ours(uring))
        stop_all(uring);
    else
        discard_completions(uring);
    ul_file_close_all(uring);
    is_quiet = uring->requests <= ul_ring_staged(uring) || has_owner_ended(uring);
    ul_ring_close(uring);
    free_uring(uring, is_quiet);
}

void ul_uring_abandon(struct ul_engine *engine) {
    struct ul_uring *uring = engine->state;
    close(uring->ring.ring_fd);
}
