/* steps.c - operations that the loop's thread carries out itself, when they are ready.
 *
 * A request of the kernel does most of the work of uring.c. Not so here: what is no socket,
 * receives without a buffer ring, those that are only told of (UL_READABLE), single messages,
 * files, and listening sockets that others may accept on. calls.c has the system calls and the reasons. Writes and accepts are tried at once;
 * reads are polled for first, as mostly nothing is there when somebody asks.
 *
 * IORING_OP_ACCEPT waits exclusively: the kernel tells one of those that wait, and a multishot, which
 * keeps its place in the queue, it tells again and again. A ring that was told may be busy, may
 * cancel its accept before it has looked, or may be killed: then the connection waits, though others
 * have time, until the next one comes. So where others may accept too, all are told: by a poll,
 * which is not exclusive, and accept4(2). Most of them find nothing, as with any loop that asks
 * epoll. It costs a server a poll and two system calls for each bundle of connections; one that
 * the loop has opened itself, which no other process knows, does without.
 *
 * A poll may mislead. io_uring adds POLLRDHUP to every mask, so a poll for writing is
 * answered at once for a full socket whose peer has shut its sending side; an error queue
 * makes POLLERR hold for as long as nobody reads it. To poll again would be to spin. So after
 * an answer that was not true, the next poll is a multishot, which tells changes only, and
 * the operation is tried at each change. It stays armed until a try made progress; then it is
 * cancelled, and its last completion awaited, before the operation goes on or ends.
 *
 * That does not do for a datagram to a Unix socket without connection: it polls writable
 * while the receiver's queue is full, and does not change when others emptied that. There the
 * clock decides when to try again. To leave it to the kernel (IORING_OP_SENDMSG) would be
 * worse: with its first try the kernel uses up the payload, and sends an empty datagram with
 * the next one (seen on 6.18).
 */
#include "calls.h"
#include "uring.h"

#include <poll.h>

enum {
    RETRY_NS_MIN = 250000,
    RETRY_NS_MAX = 32000000,
    MESSAGES_MAX = 16, /* of one socket, for one answer of a poll */
};

static bool reads(const struct ul_operation *operation) {
    return operation->opcode == UL_OP_RECV || operation->opcode == UL_OP_RECVMSG;
}

/* Tries. A final result, UL_STEP_WAITS or UL_STEP_PUT_OFF. ------------------------------- */

static struct ul_buffers *buffers_of(struct ul_uring *uring,
                                     const struct ul_operation *operation) {
    bool is_message = operation->opcode == UL_OP_RECVMSG;
    return is_message || operation->flags & UL_FILE ? &uring->spare : &uring->buffers;
}

/* What came, as an event: the final one for UL_ONCE, whose address `address` keeps. */
static int64_t give(struct ul_uring *uring, struct ul_operation *operation, int64_t result,
                    void *memory) {
    operation->done++;
    if (operation->flags & UL_ONCE) {
        operation->address = (uintptr_t)memory;
        return result;
    }
    ul_give_received(uring->engine, operation, result, (uintptr_t)memory);
    return UL_STEP_WAITS;
}

static int64_t try_recv(struct ul_uring *uring, struct ul_operation *operation) {
    struct ul_buffers *buffers = buffers_of(uring, operation);
    size_t size;
    char *memory = ul_buffers_scratch(buffers, &size);
    ssize_t received;
    if (!memory)
        return UL_STEP_PUT_OFF;
    if (operation->flags & UL_ONCE)
        size = ul_wanted_bytes(operation, size);
    uring->engine->shared.counters.submissions++;
    received = ul_call_recv(operation, memory, size);
    if (received <= 0)
        return ul_is_not_now((int)-received) ? UL_STEP_WAITS : received;
    buffers->scratch_used += (size_t)received;
    return give(uring, operation, received, memory);
}

static int64_t try_message(struct ul_uring *uring, struct ul_operation *operation) {
    size_t size = ul_wanted_bytes(operation, UL_MESSAGE_BYTES);
    char *memory = ul_buffers_scratch_whole(&uring->spare, UL_MESSAGE_HEADER + size);
    ssize_t received;
    if (!memory)
        return UL_STEP_PUT_OFF;
    uring->engine->shared.counters.submissions++;
    received = ul_call_recvmsg(operation, (struct ul_message *)memory, size);
    if (received < 0)
        return ul_is_not_now((int)-received) ? UL_STEP_WAITS : received;
    uring->spare.scratch_used += UL_MESSAGE_HEADER + (size_t)received;
    return give(uring, operation, received, memory + UL_MESSAGE_HEADER);
}

/* Until there is none left, as each poll costs more than a message. */
static int64_t try_recvmsg(struct ul_uring *uring, struct ul_operation *operation) {
    for (int i = 0; i < MESSAGES_MAX && ul_event_room(uring->engine) >= UL_ROOM_NEEDED; i++) {
        uint64_t before = operation->done;
        int64_t result = try_message(uring, operation);
        bool got_one = operation->done > before;
        if (result == UL_STEP_PUT_OFF && i)
            return UL_STEP_WAITS;
        if (result != UL_STEP_WAITS || !got_one)
            return result;
    }
    return UL_STEP_WAITS;
}

/* Where there is none, another process was quicker: the poll has not misled. */
static int64_t try_accept(struct ul_uring *uring, struct ul_operation *operation) {
    operation->done++;
    return ul_call_accept(uring->engine, operation, UL_ROOM_NEEDED);
}

static int64_t try_relay(struct ul_uring *uring, struct ul_operation *operation) {
    size_t size;
    char *memory = ul_buffers_scratch(&uring->spare, &size);
    return memory ? ul_relay_try(operation, memory, size) : UL_STEP_PUT_OFF;
}

static int64_t try(struct ul_uring *uring, struct ul_operation *operation) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        return try_accept(uring, operation);
    case UL_OP_RECV:
        return try_recv(uring, operation);
    case UL_OP_RECVMSG:
        return try_recvmsg(uring, operation);
    case UL_OP_SEND:
        return ul_call_write(uring->engine, operation);
    case UL_OP_SENDMSG:
        return ul_call_sendmsg(uring->engine, operation);
    case UL_OP_RELAY:
        return try_relay(uring, operation);
    default:
        return ul_call_sendfile(uring->engine, operation);
    }
}

/* What follows. ------------------------------------------------------------------------- */

static void rest(struct ul_uring *uring, struct ul_operation *operation) {
    if (reads(operation)) {
        ul_starve(uring, buffers_of(uring, operation), operation);
        return;
    }
    operation->phase = UL_PHASE_RESTING;
    ul_list_append(&uring->resting, operation);
}

static void end(struct ul_uring *uring, struct ul_operation *operation, int64_t result) {
    bool brings = reads(operation) && operation->flags & UL_ONCE && operation->done;
    ul_conclude(uring, operation, result, brings ? operation->address : 0);
}

/* Not ready although a poll had said so. */
static void misled(struct ul_uring *uring, struct ul_operation *operation) {
    operation->readiness = UL_READINESS_MISLED;
    if (operation->opcode != UL_OP_SENDMSG) {
        ul_stage_as(uring, operation, UL_PHASE_POLL_PENDING);
        return;
    }
    if (ul_list_is_empty(&uring->retried))
        uring->retry_ns = RETRY_NS_MIN;
    operation->phase = UL_PHASE_RESTING;
    ul_list_append(&uring->retried, operation);
}

static void follow(struct ul_uring *uring, struct ul_operation *operation, int64_t result) {
    operation->readiness = UL_READINESS_TRUE;
    if (result == UL_STEP_PUT_OFF)
        rest(uring, operation);
    else if (result != UL_STEP_WAITS)
        end(uring, operation, result);
    else if (operation->opcode != UL_OP_RELAY || !ul_relay_talks(uring, operation))
        ul_stage_as(uring, operation, UL_PHASE_POLL_PENDING);
}

void ul_step(struct ul_uring *uring, struct ul_operation *operation) {
    bool uses_spare = operation->opcode == UL_OP_RELAY ||
                      (reads(operation) && buffers_of(uring, operation) == &uring->spare);
    int error = uses_spare ? ul_buffers_open_spare(uring) : 0;
    if (error)
        ul_conclude(uring, operation, error, 0);
    else
        follow(uring, operation, reads(operation) ? UL_STEP_WAITS : try(uring, operation));
}

/* The multishot poll made itself useful, and is not needed any more. */
static void disarm(struct ul_uring *uring, struct ul_operation *operation, int64_t result) {
    bool is_over = result != UL_STEP_WAITS && result != UL_STEP_PUT_OFF;
    operation->readiness = is_over ? UL_READINESS_ENDS : UL_READINESS_GOES_ON;
    if (is_over)
        operation->argument = (uint64_t)result;
    ul_stage(uring, operation);
}

static void disarmed(struct ul_uring *uring, struct ul_operation *operation) {
    ul_list_remove(operation); /* its cancel may still wait for an SQE */
    if (operation->readiness == UL_READINESS_ENDS)
        end(uring, operation, (int64_t)operation->argument);
    else if (operation->cancelled)
        ul_conclude(uring, operation, -ECANCELED, 0);
    else
        ul_step(uring, operation);
}

static void try_when_ready(struct ul_uring *uring, struct ul_operation *operation,
                           bool is_armed) {
    uint64_t before = operation->done;
    int64_t result = try(uring, operation);
    bool was_misled = result == UL_STEP_WAITS && operation->done == before;
    if (is_armed && !was_misled)
        disarm(uring, operation, result);
    else if (was_misled && !is_armed)
        misled(uring, operation);
    else if (!was_misled)
        follow(uring, operation, result);
}

/* How many bytes there are; at the end of the stream the bytes themselves. */
static void tell(struct ul_uring *uring, struct ul_operation *operation, int ready) {
    bool is_ending = ready & (POLLRDHUP | POLLHUP | POLLERR);
    int size = is_ending ? 0 : ul_call_readable(uring->engine, operation);
    if (!size)
        operation->flags &= ~(uint32_t)UL_READABLE;
    else if (!operation->cancelled)
        ul_give(uring->engine, operation, size, 0);
    ul_stage_as(uring, operation,
                ul_is_stepped(uring, operation) ? UL_PHASE_POLL_PENDING : UL_PHASE_MAIN_PENDING);
}

void ul_step_ready(struct ul_uring *uring, struct ul_operation *operation,
                   const struct io_uring_cqe *cqe) {
    bool is_armed = cqe->flags & IORING_CQE_F_MORE;
    if (operation->readiness >= UL_READINESS_GOES_ON) {
        if (!is_armed)
            disarmed(uring, operation);
    } else if (cqe->res < 0) {
        ul_conclude(uring, operation, cqe->res, 0);
    } else if (operation->opcode == UL_OP_RECV && operation->flags & UL_READABLE) {
        tell(uring, operation, cqe->res);
    } else if (!operation->cancelled) {
        try_when_ready(uring, operation, is_armed);
    } else if (!is_armed) {
        ul_conclude(uring, operation, -ECANCELED, 0);
    }
}

static bool is_room_left(const struct ul_uring *uring, const struct ul_operation *list) {
    return !ul_list_is_empty(list) && ul_event_room(uring->engine) >= UL_ROOM_NEEDED;
}

/* Each once; those that rest again are not asked again. */
void ul_step_resting(struct ul_uring *uring) {
    const struct ul_operation *last = uring->resting.prior;
    const struct ul_operation *operation = NULL;
    while (operation != last && is_room_left(uring, &uring->resting)) {
        struct ul_operation *first = uring->resting.next;
        ul_list_remove(first);
        ul_step(uring, first);
        operation = first;
    }
}

/* Whether it has ended. */
static bool retry(struct ul_uring *uring, struct ul_operation *operation) {
    int64_t result;
    ul_list_remove(operation);
    result = try(uring, operation);
    if (result == UL_STEP_WAITS)
        misled(uring, operation);
    else
        end(uring, operation, result);
    return result != UL_STEP_WAITS;
}

void ul_step_retried(struct ul_uring *uring) {
    const struct ul_operation *last = uring->retried.prior;
    const struct ul_operation *operation = NULL;
    int64_t longer_ns = uring->retry_ns * 2;
    bool has_moved = false;
    while (operation != last && is_room_left(uring, &uring->retried)) {
        operation = uring->retried.next;
        has_moved |= retry(uring, uring->retried.next);
    }
    uring->retry_ns = longer_ns < RETRY_NS_MAX ? longer_ns : RETRY_NS_MAX;
    if (has_moved)
        uring->retry_ns = RETRY_NS_MIN;
}
