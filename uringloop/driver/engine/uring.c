/* uring.c - the operations of engine.h on io_uring.
 *
 * Each operation is one request of the kernel at a time. Mostly that is all: the kernel
 * itself waits until a socket is ready, goes on with a short send (MSG_WAITALL), gives one
 * completion after the other for a multishot receive or accept. The rest is met here,
 * without Python:
 *
 *   the kernel ended a multishot that should go on   start again
 *   no receive buffer was left (ENOBUFS)             wait in `starved` for the next turn
 *   no request does it, or none does it well         steps.c does it
 *   EAGAIN for a socket with O_NONBLOCK              poll for readiness, then start again
 *   no place in the submission queue                 wait in `pending` for the next enter
 *
 * Cancelling. A request is cancelled by its user_data. The request may win, lose, or be in
 * between, where the kernel does not find it (ENOENT) although it goes on; so a cancel that
 * found nothing is repeated as long as the operation has not ended. Whatever a request
 * still brings (data, a connection) is given to Python first. What is not in the kernel
 * ends at once. So each operation has its one final event.
 *
 * Two events at most come of one completion: a piece, and the end. Completions stay in the
 * kernel's queue while there is no room for two.
 */
#include "calls.h"
#include "uring.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SHORTAGE_NS = 1000000, /* a pause for a kernel that refuses to take more */
};

/* Moves an operation on by one SQE. */
static void fill(struct ul_uring *uring, struct ul_operation *operation,
                 struct io_uring_sqe *sqe) {
    switch (operation->phase) {
    case UL_PHASE_MAIN_PENDING:
        operation->phase = UL_PHASE_MAIN;
        ul_request_main(uring, operation, sqe);
        break;
    case UL_PHASE_POLL_PENDING:
        operation->phase = UL_PHASE_POLL;
        ul_request_readiness(operation, sqe);
        break;
    default:
        if (ul_is_relayed(operation))
            ul_relay_fill(uring, operation, sqe);
        else
            ul_request_cancel(operation->token, ul_tag_of(operation), sqe);
    }
}

void ul_stage(struct ul_uring *uring, struct ul_operation *operation) {
    struct io_uring_sqe *sqe = ul_ring_sqe(uring);
    if (sqe)
        fill(uring, operation, sqe);
    else if (!operation->next)
        ul_list_append(&uring->pending, operation);
}

/* The life of an operation. ------------------------------------------------------------- */

/* A failed SEND may have sent some. */
void ul_conclude(struct ul_uring *uring, struct ul_operation *operation, int64_t result,
                 uint64_t address) {
    if (result == -EBADF && operation->cancelled)
        result = -ECANCELED; /* ul_request_spoil() */
    ul_list_remove(operation);
    if (operation->opcode == UL_OP_SEND || operation->opcode == UL_OP_SENDFILE) {
        if (operation->notices) {
            ul_send_hold(uring, operation, result);
            return;
        }
        address = operation->done;
    } else if (operation->opcode == UL_OP_CONNECT) {
        ul_request_release_address(uring, operation);
        if (result == 0 && operation->flags & UL_NAMES)
            address = ul_call_names(uring->engine, operation->fd);
    } else if (operation->opcode == UL_OP_RELAY) {
        address = ul_relay_uring_close(uring, operation);
    }
    ul_finish(uring->engine, operation, result, address);
}

static void finish_operation(struct ul_uring *uring, struct ul_operation *operation,
                             int64_t result) {
    ul_conclude(uring, operation, result, 0);
}

void ul_stage_as(struct ul_uring *uring, struct ul_operation *operation, enum ul_phase phase) {
    if (operation->cancelled) {
        finish_operation(uring, operation, -ECANCELED);
        return;
    }
    operation->phase = phase;
    ul_stage(uring, operation);
}

void ul_run(struct ul_uring *uring, struct ul_operation *operation) {
    if (ul_is_stepped(uring, operation))
        ul_step(uring, operation);
    else
        ul_stage_as(uring, operation, UL_PHASE_MAIN_PENDING);
}

void ul_starve(struct ul_uring *uring, struct ul_buffers *buffers,
               struct ul_operation *operation) {
    uring->engine->shared.counters.buffer_shortages++;
    if (operation->cancelled) {
        finish_operation(uring, operation, -ECANCELED);
        return;
    }
    operation->phase = UL_PHASE_STARVED;
    ul_list_append(&buffers->starved, operation);
}

void ul_finish_or_retry(struct ul_uring *uring, struct ul_operation *operation, int result) {
    if (result == -EAGAIN)
        ul_stage_as(uring, operation, UL_PHASE_POLL_PENDING);
    else if (result == -EINTR)
        ul_run(uring, operation);
    else
        finish_operation(uring, operation, result);
}

static void accept_completed(struct ul_uring *uring, struct ul_operation *operation,
                             const struct io_uring_cqe *cqe) {
    if (cqe->res >= 0)
        ul_call_give_connection(uring->engine, operation, cqe->res);
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    if (cqe->res >= 0 || ul_accept_error_passes(-cqe->res))
        ul_run(uring, operation);
    else
        ul_finish_or_retry(uring, operation, cqe->res);
}

static void recv_completed(struct ul_uring *uring, struct ul_operation *operation,
                           const struct io_uring_cqe *cqe) {
    uint64_t address = 0;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        address = ul_buffers_take(&uring->buffers, cqe);
    if (cqe->res > 0 && operation->flags & UL_ONCE) {
        ul_conclude(uring, operation, cqe->res, address);
        return;
    }
    if (cqe->res > 0)
        ul_give_received(uring->engine, operation, cqe->res, address);
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    if (cqe->res > 0)
        ul_run(uring, operation);
    else if (cqe->res == -ENOBUFS)
        ul_starve(uring, &uring->buffers, operation);
    else
        ul_finish_or_retry(uring, operation, cqe->res);
}

/* A message without payload ends a multishot, and is a message all the same. */
static void recvmsg_completed(struct ul_uring *uring, struct ul_operation *operation,
                              const struct io_uring_cqe *cqe) {
    uint64_t address = 0;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        address = ul_buffers_take(&uring->messages, cqe);
    if (cqe->res >= UL_MESSAGE_HEADER)
        ul_give_received(uring->engine, operation, cqe->res - UL_MESSAGE_HEADER,
                         address + UL_MESSAGE_HEADER);
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    if (cqe->res >= 0)
        ul_run(uring, operation);
    else if (cqe->res == -ENOBUFS)
        ul_starve(uring, &uring->messages, operation);
    else
        ul_finish_or_retry(uring, operation, cqe->res);
}

/* EAGAIN is final here: a Unix socket's backlog is full, and there is nothing to poll for. */
static void connect_completed(struct ul_uring *uring, struct ul_operation *operation,
                              int result) {
    if (result == -EINPROGRESS || result == -EALREADY || result == -EINTR)
        ul_stage_as(uring, operation, UL_PHASE_POLL_PENDING);
    else
        finish_operation(uring, operation, result);
}

/* What poll(2) would answer. The kernel's poll always tells POLLRDHUP too, and takes any
 * activity for POLLPRI. */
static int ready_mask(const struct ul_operation *operation, int result) {
    int mask = (int)operation->argument;
    struct pollfd asked = {.fd = operation->fd, .events = (short)mask};
    if (result <= 0)
        return result;
    if (mask & POLLPRI)
        return UL_UNINTERRUPTED(poll(&asked, 1, 0)) > 0 ? asked.revents : 0;
    return result & (mask | POLLERR | POLLHUP | POLLNVAL);
}

/* A poll that was ended by nothing the caller asked for would be ended by it at once again.
 * So it goes on as a multishot, which tells changes only, and which has to be cancelled
 * before its answer can be given; until then `done` keeps the answer. */
static void watch_completed(struct ul_uring *uring, struct ul_operation *operation,
                            const struct io_uring_cqe *cqe) {
    int ready = ready_mask(operation, cqe->res);
    if (ready > 0)
        operation->done |= (uint32_t)ready;
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        if (operation->done || ready < 0) {
            finish_operation(uring, operation,
                             operation->done ? (int64_t)operation->done : ready);
        } else {
            operation->length = IORING_POLL_ADD_MULTI;
            ul_run(uring, operation);
        }
    } else if (ready > 0 && !operation->cancelled) {
        operation->cancelled = true;
        ul_stage(uring, operation);
    }
}

static void main_completed(struct ul_uring *uring, struct ul_operation *operation,
                           const struct io_uring_cqe *cqe) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        accept_completed(uring, operation, cqe);
        break;
    case UL_OP_RECV:
        recv_completed(uring, operation, cqe);
        break;
    case UL_OP_SEND:
        ul_send_completed(uring, operation, cqe);
        break;
    case UL_OP_CONNECT:
        connect_completed(uring, operation, cqe->res);
        break;
    case UL_OP_RECVMSG:
        recvmsg_completed(uring, operation, cqe);
        break;
    case UL_OP_POLL:
        watch_completed(uring, operation, cqe);
        break;
    default:
        ul_file_completed(uring, operation, cqe->res);
    }
}

static int socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error;
}

static void poll_completed(struct ul_uring *uring, struct ul_operation *operation,
                           const struct io_uring_cqe *cqe) {
    if (ul_is_stepped(uring, operation))
        ul_step_ready(uring, operation, cqe);
    else if (cqe->res < 0)
        finish_operation(uring, operation, cqe->res);
    else if (operation->opcode == UL_OP_CONNECT && !operation->cancelled)
        finish_operation(uring, operation, -socket_error(operation->fd));
    else
        ul_stage_as(uring, operation, UL_PHASE_MAIN_PENDING); /* the end, where it is cancelled */
}

/* Whoever wants the end of a request asks until it comes. */
static void cancel_completed(struct ul_uring *uring, struct ul_operation *operation, int result) {
    if (result == -ENOENT && operation->phase != UL_PHASE_HELD &&
        (operation->cancelled || operation->readiness >= UL_READINESS_GOES_ON))
        ul_stage(uring, operation);
}

/* Level-triggered when it is armed: a wake between the read and the poll is not lost. */
static void arm_wake(struct ul_uring *uring) {
    struct io_uring_sqe *sqe = ul_ring_sqe(uring);
    if (!sqe)
        return; /* tried again before each enter, and meanwhile none sleeps for long */
    ul_request_poll(uring->engine->wake_fd, POLLIN, ul_tagged(0, UL_TAG_WAKE), sqe);
    uring->wake_is_armed = true;
}

static void wake_completed(struct ul_uring *uring) {
    uint64_t wakes;
    ssize_t size = read(uring->engine->wake_fd, &wakes, sizeof(wakes));
    (void)size; /* EAGAIN: somebody else had a reason to read it */
    uring->is_woken = true;
    uring->wake_is_armed = false;
    arm_wake(uring);
}

static void completed(struct ul_uring *uring, const struct io_uring_cqe *cqe) {
    enum ul_tag tag = (enum ul_tag)(cqe->user_data >> UL_TAG_SHIFT);
    struct ul_operation *operation;
    if (tag == UL_TAG_WAKE) {
        wake_completed(uring);
        return;
    }
    operation = ul_find(uring->engine, cqe->user_data & (((uint64_t)1 << UL_TAG_SHIFT) - 1));
    if (!operation)
        return; /* the answer to a cancel that came too late */
    if (ul_is_relayed(operation))
        ul_relay_completed(uring, operation, tag, cqe);
    else if (tag == UL_TAG_MAIN)
        main_completed(uring, operation, cqe);
    else if (tag == UL_TAG_POLL)
        poll_completed(uring, operation, cqe);
    else
        cancel_completed(uring, operation, cqe->res);
}

/* The turn. ----------------------------------------------------------------------------- */

/* Without memory for a ring of its own a RECVMSG is carried out by steps.c. */
static void need_messages(struct ul_uring *uring) {
    if (!ul_has(uring, UL_FEATURE_MULTISHOT_RECVMSG) || !ul_buffers_open_messages(uring))
        return;
    uring->features &= ~(uint32_t)UL_FEATURE_MULTISHOT_RECVMSG;
    uring->engine->shared.features = uring->features;
}

static void start(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_uring *uring = engine->state;
    if (operation->opcode == UL_OP_RELAY) {
        ul_relay_start(uring, operation);
        return;
    }
    if (operation->opcode == UL_OP_POLL)
        operation->length = 0; /* flags of the request */
    if (operation->opcode == UL_OP_RECVMSG)
        need_messages(uring);
    if (operation->opcode == UL_OP_CONNECT && !ul_request_copy_address(uring, operation))
        finish_operation(uring, operation, -ENOMEM);
    else
        ul_run(uring, operation);
}

static void cancel(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_uring *uring = engine->state;
    if (ul_is_relayed(operation))
        ul_relay_cancel(uring, operation);
    else if (ul_is_in_kernel(operation)) {
        ul_request_spoil(uring, ul_tagged(operation->token, ul_tag_of(operation)));
        ul_stage(uring, operation);
    } else if (operation->phase != UL_PHASE_HELD)
        finish_operation(uring, operation, -ECANCELED);
}

static void run_starved(struct ul_uring *uring, struct ul_buffers *buffers) {
    uint32_t left = ul_buffers_appetite(buffers);
    while (left-- && !ul_list_is_empty(&buffers->starved)) {
        struct ul_operation *operation = buffers->starved.next;
        ul_list_remove(operation);
        ul_run(uring, operation);
    }
}

static bool is_anybody_waiting(const struct ul_uring *uring) {
    return !ul_list_is_empty(&uring->buffers.starved) ||
           !ul_list_is_empty(&uring->messages.starved) ||
           !ul_list_is_empty(&uring->spare.starved) || !ul_list_is_empty(&uring->resting);
}

static void run_waiting(struct ul_uring *uring) {
    run_starved(uring, &uring->buffers);
    run_starved(uring, &uring->messages);
    run_starved(uring, &uring->spare);
    ul_step_resting(uring);
}

static int begin(struct ul_engine *engine) {
    struct ul_uring *uring = engine->state;
    int error;
    if (!ul_ring_is_ours(uring))
        return -EEXIST;
    if (!uring->is_enabled && (error = ul_ring_enable(uring)))
        return error;
    uring->is_woken = false;
    ul_buffers_give_back(&uring->buffers);
    ul_buffers_give_back(&uring->messages);
    ul_buffers_give_back(&uring->spare);
    if (is_anybody_waiting(uring))
        run_waiting(uring);
    return 0;
}

static uint32_t reap(struct ul_uring *uring) {
    struct io_uring_cqe cqe;
    uint32_t count = 0;
    while (ul_event_room(uring->engine) >= UL_ROOM_NEEDED && ul_ring_cqe(uring, &cqe)) {
        completed(uring, &cqe);
        count++;
    }
    uring->engine->shared.counters.completions += count;
    return count;
}

/* Whether this turn has to end: somebody has an event, or waits for the next turn. */
static bool is_due(const struct ul_uring *uring) {
    return uring->engine->counting_events || uring->is_woken ||
           ul_event_room(uring->engine) < UL_ROOM_NEEDED || is_anybody_waiting(uring);
}

static inline int64_t shorter(int64_t timeout_ns, int64_t limit_ns) {
    return timeout_ns >= 0 && timeout_ns < limit_ns ? timeout_ns : limit_ns;
}

/* How long to sleep: not at all when due, shortly when the kernel took less than we have, or
 * until the clock wakes an operation. */
static int64_t sleep_ns(const struct ul_uring *uring, int64_t timeout_ns) {
    if (is_due(uring) || uring->relay_pool.is_hasty)
        return 0;
    if (!uring->wake_is_armed || !ul_list_is_empty(&uring->pending))
        return shorter(timeout_ns, SHORTAGE_NS);
    return ul_list_is_empty(&uring->retried) ? timeout_ns : shorter(timeout_ns, uring->retry_ns);
}

/* With TASKRUN_FLAG the kernel tells when it has completions to post. Without it (neither
 * COOP nor DEFER) it posts them itself. */
static bool needs_no_enter(const struct ul_uring *uring, int64_t timeout_ns) {
    return !ul_ring_staged(uring) && (!timeout_ns || ul_ring_has_cqe(uring)) &&
           !(ul_ring_flags(uring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* One enter. A kernel that is short of memory, or wants its completions fetched first, is
 * given a moment; what is staged goes with a later enter. */
static int look(struct ul_uring *uring, int64_t timeout_ns) {
    int result;
    if (needs_no_enter(uring, timeout_ns))
        return 0;
    result = ul_ring_enter(uring, timeout_ns != 0, timeout_ns);
    if (result >= 0 || !ul_is_transient(result) || result == -EINTR || result == -ETIME)
        return result;
    if (timeout_ns)
        ul_ring_wait(uring, shorter(timeout_ns, SHORTAGE_NS));
    return -EINTR;
}

static void stage_pending(struct ul_uring *uring) {
    if (!uring->wake_is_armed)
        arm_wake(uring);
    while (!ul_list_is_empty(&uring->pending)) {
        struct ul_operation *operation = uring->pending.next;
        struct io_uring_sqe *sqe = ul_ring_sqe(uring);
        if (!sqe)
            return;
        ul_list_remove(operation);
        fill(uring, operation, sqe);
    }
}

/* Looks again as long as only such completions came that nobody waits for (a relay's are such), or
 * the clock woke an operation. Any other enter that brought none was interrupted or timed out, whatever it
 * returned. */
static int look_until_due(struct ul_uring *uring, int64_t timeout_ns) {
    int64_t end_ns = timeout_ns > 0 ? uring->engine->begin_ns + timeout_ns : 0;
    for (;;) {
        bool retries = !ul_list_is_empty(&uring->retried);
        bool is_hasty = uring->relay_pool.is_hasty;
        uint32_t reaped;
        int result;
        stage_pending(uring);
        result = look(uring, sleep_ns(uring, timeout_ns));
        reaped = reap(uring);
        if (uring->relay_pool.memory)
            ul_relay_settle(uring);
        if (retries)
            ul_step_retried(uring);
        if (result < 0 && !(retries && result == -ETIME))
            return ul_is_transient(result) ? 0 : result;
        if (!timeout_ns || is_due(uring) || (!reaped && result >= 0 && !is_hasty))
            return 0;
        if (timeout_ns > 0 && (timeout_ns = end_ns - ul_now_ns()) <= 0)
            return 0;
    }
}

static int finish(struct ul_engine *engine, int64_t timeout_ns) {
    struct ul_uring *uring = engine->state;
    int result = look_until_due(uring, timeout_ns);
    if (uring->relay_pool.quiet_end != uring->relay_pool.quiet_first)
        ul_ring_enter(uring, 0, 0); /* Python may take its time: what was received goes out */
    if (ul_ring_flags(uring) & IORING_SQ_CQ_OVERFLOW)
        engine->shared.counters.overflows++;
    return result;
}

const struct ul_backend UL_URING_BACKEND = {
    .start = start,
    .cancel = cancel,
    .begin = begin,
    .finish = finish,
    .close = ul_uring_close,
    .abandon = ul_uring_abandon,
};
