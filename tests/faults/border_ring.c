/* border_ring.c - io_uring_enter(2), the requests that go in and the completions that come out.
 *
 * A request that is to fail, or is not to be made now, becomes a NOP; when its completion comes, it
 * is given the result. One that is to move less is shortened; a multishot may become a single one,
 * as the kernel may end it after each answer. That is done once for each request, when it is first
 * submitted: what the kernel did not take stays staged.
 *
 * Completions are in memory that both sides may write to. Neighbours change places where no order is
 * promised: of two operations, unless both used up the same buffer. The last ones may be kept back
 * by taking the tail back; the kernel counts on with its own, and says at once that there is
 * something, so nobody sleeps on them. Only with DEFER_TASKRUN, where it posts nothing behind our
 * back; and never one of a quiet send, whose missing completion means that all was sent.
 */
#define _GNU_SOURCE
#include "border_internal.h"

#include "uring.h"

#include <poll.h>

enum {
    RINGS = 256,
    FORCED_MAX = 1024,
    TAG_SHIFT = UL_TAG_SHIFT,
};

/* What a completion is to say. */
struct forced {
    uint64_t user_data;
    int32_t result;
    bool is_for_success; /* only in place of a good result */
};

/* A ring of the process, from its creation to its end. */
struct ring_state {
    struct io_uring *ring; /* NULL: a free place */
    int fd;
    int index;             /* in the thread's table of registered rings; -1: not there */
    uint32_t prepared;     /* requests before this position were looked at */
    uint32_t seen;         /* and completions before this one */
    uint32_t kept_back;    /* completions behind the tail that is shown */
    uint32_t forced_count;
    struct forced forced[FORCED_MAX];
};

static struct ring_state states[RINGS];

int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
void __real_io_uring_queue_exit(struct io_uring *ring);
int __real_io_uring_register(unsigned fd, unsigned action, const void *argument, unsigned count);
int __real_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait_count, unsigned flags,
                           void *argument, size_t size);

/* Rings. -------------------------------------------------------------------------------- */

static struct ring_state *state_of(const struct io_uring *ring) {
    for (int place = 0; place < RINGS; place++)
        if (states[place].ring == ring)
            return &states[place];
    return NULL;
}

static struct ring_state *state_entered(int fd, uint32_t flags) {
    bool by_index = flags & IORING_ENTER_REGISTERED_RING;
    for (int place = 0; place < RINGS; place++) {
        struct ring_state *state = &states[place];
        if (state->ring && (by_index ? state->index : state->fd) == fd)
            return state;
    }
    return NULL;
}

/* Rings that were left without an exit, as a forked child leaves its parent's: their memory is
 * free, and their number and address are given again. */
static void forget_left(const struct io_uring *ring) {
    for (int place = 0; place < RINGS; place++)
        if (states[place].ring == ring || states[place].fd == ring->ring_fd)
            states[place].ring = NULL;
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params) {
    int error = __real_io_uring_queue_init_params(entries, ring, params);
    struct ring_state *state;
    if (error)
        return error;
    forget_left(ring);
    state = state_of(NULL);
    if (state) {
        state->ring = ring;
        state->fd = ring->ring_fd;
        state->index = -1;
        state->prepared = state->seen = state->kept_back = state->forced_count = 0;
    }
    return error;
}

void __wrap_io_uring_queue_exit(struct io_uring *ring) {
    struct ring_state *state = state_of(ring);
    if (state)
        state->ring = NULL;
    __real_io_uring_queue_exit(ring);
}

int __wrap_io_uring_register(unsigned fd, unsigned action, const void *argument,
                             unsigned count) {
    const struct io_uring_rsrc_update *update = argument;
    int result = __real_io_uring_register(fd, action, argument, count);
    struct ring_state *state = state_entered((int)fd, 0);
    if (state && action == IORING_REGISTER_RING_FDS && result == 1)
        state->index = (int)update->offset;
    if (state && action == IORING_UNREGISTER_RING_FDS)
        state->index = -1;
    return result;
}

/* Requests. ----------------------------------------------------------------------------- */

static void note_result(struct ring_state *state, uint64_t user_data, int result,
                        bool is_for_success) {
    state->forced[state->forced_count++] = (struct forced){
        .user_data = user_data, .result = result, .is_for_success = is_for_success};
}

static void force(struct ring_state *state, struct io_uring_sqe *sqe, int result) {
    uint64_t user_data = sqe->user_data;
    note_result(state, user_data, result, false);
    *sqe = (struct io_uring_sqe){.opcode = IORING_OP_NOP, .fd = -1, .user_data = user_data};
}

static int32_t operation_of(const struct io_uring_sqe *sqe) {
    bool is_main = sqe->user_data >> TAG_SHIFT == UL_TAG_MAIN;
    switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
        return UB_ACCEPT;
    case IORING_OP_RECV:
        return UB_RECV;
    case IORING_OP_RECVMSG:
        return UB_RECVMSG;
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG: /* of several pieces; datagrams go another way */
        return UB_SEND;
    case IORING_OP_CONNECT:
        return UB_CONNECT;
    case IORING_OP_POLL_ADD:
        return is_main ? UB_POLL : -1;
    default:
        return -1;
    }
}

/* What the kernel says in place of a try. 0: it tries. A poll waits, and has no such answer. */
static int not_now(const struct io_uring_sqe *sqe, int32_t operation) {
    bool is_receive = operation == UB_RECV || operation == UB_RECVMSG;
    if (operation == UB_CONNECT || operation == UB_POLL)
        return 0;
    if (is_receive && sqe->flags & IOSQE_BUFFER_SELECT &&
        ub_happens(ub_temper.shortages, UB_KIND_NO_BUFFER))
        return -ENOBUFS;
    if (!ub_is_not_now())
        return 0;
    if (operation == UB_ACCEPT && ub_between(0, 1))
        return -ECONNABORTED;
    return ub_between(0, 1) ? -EINTR : -EAGAIN;
}

static void end_multishot(struct io_uring_sqe *sqe, uint16_t flag) {
    if (sqe->ioprio & flag && ub_happens(ub_temper.cuts, UB_KIND_MULTISHOT_ENDED))
        sqe->ioprio &= (uint16_t)~flag;
}

/* A send that is cut short has a completion, whatever was asked. */
static void shorten_send(struct io_uring_sqe *sqe) {
    uint32_t size = (uint32_t)ub_part_of(sqe->len);
    if (size == sqe->len)
        return;
    sqe->len = size;
    sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
}

/* A multishot takes no length; 0 stands for that of a buffer. */
static void shorten_receive(struct io_uring_sqe *sqe) {
    uint32_t size = sqe->len ? sqe->len : UL_RELAY_BUFFER_BYTES;
    uint32_t part = (uint32_t)ub_part_of(size);
    if (!(sqe->ioprio & IORING_RECV_MULTISHOT) && part < size)
        sqe->len = part;
}

static void shorten(struct io_uring_sqe *sqe) {
    struct msghdr *message = (struct msghdr *)(uintptr_t)sqe->addr;
    switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
        end_multishot(sqe, IORING_ACCEPT_MULTISHOT);
        break;
    case IORING_OP_RECV:
        end_multishot(sqe, IORING_RECV_MULTISHOT);
        shorten_receive(sqe);
        break;
    case IORING_OP_SEND:
        shorten_send(sqe);
        break;
    case IORING_OP_SENDMSG:
        message->msg_iovlen = ub_part_of(message->msg_iovlen);
        break;
    default:
        break;
    }
}

/* A poll of something else than the operation itself: for a descriptor to be readable. To say
 * so of a connect would say that it is connected. */
static bool may_mislead(const struct io_uring_sqe *sqe) {
    return sqe->opcode == IORING_OP_POLL_ADD && sqe->user_data >> TAG_SHIFT == UL_TAG_POLL &&
           sqe->poll32_events == POLLIN && !sqe->len;
}

static void prepare(struct ring_state *state, struct io_uring_sqe *sqe) {
    int32_t operation = operation_of(sqe);
    int error;
    if (state->forced_count == FORCED_MAX)
        return;
    if (sqe->opcode == IORING_OP_ASYNC_CANCEL) {
        if (ub_happens(ub_temper.losing, UB_KIND_CANCEL_LOST))
            force(state, sqe, -ENOENT);
        return;
    }
    if (may_mislead(sqe) && ub_happens(ub_temper.not_now / 2, UB_KIND_POLL_MISLED))
        force(state, sqe, POLLIN);
    if (operation < 0)
        return;
    error = -ub_error_for(operation, sqe->fd);
    if (!error)
        error = not_now(sqe, operation);
    if (error)
        force(state, sqe, error);
    else if (operation == UB_CONNECT && ub_is_not_now())
        note_result(state, sqe->user_data, -EINPROGRESS, true);
    else
        shorten(sqe);
}

static void prepare_staged(struct ring_state *state) {
    struct io_uring_sq *queue = &state->ring->sq;
    uint32_t head = io_uring_smp_load_acquire(queue->khead);
    if ((int32_t)(head - state->prepared) > 0)
        state->prepared = head;
    for (; state->prepared != queue->sqe_tail; state->prepared++)
        prepare(state, &queue->sqes[state->prepared & queue->ring_mask]);
}

/* Completions. -------------------------------------------------------------------------- */

static struct io_uring_cqe *cqe_at(const struct ring_state *state, uint32_t position) {
    const struct io_uring_cq *queue = &state->ring->cq;
    return &queue->cqes[position & queue->ring_mask];
}

/* Of a request that became a NOP; or of a connect, which may be said to go on. */
static void give_result(struct ring_state *state, struct io_uring_cqe *cqe) {
    for (uint32_t i = 0; i < state->forced_count; i++) {
        if (state->forced[i].user_data != cqe->user_data)
            continue;
        if (cqe->res == 0 || !state->forced[i].is_for_success)
            cqe->res = state->forced[i].result;
        state->forced[i] = state->forced[--state->forced_count];
        return;
    }
}

static bool is_ordered(const struct io_uring_cqe *one, const struct io_uring_cqe *other) {
    const uint32_t BUFFERS = IORING_CQE_F_BUFFER;
    return one->user_data == other->user_data || (one->flags & other->flags & BUFFERS);
}

static void swap_some(struct ring_state *state, uint32_t begin, uint32_t end) {
    for (uint32_t position = begin + 1; (int32_t)(end - position) > 0; position++) {
        struct io_uring_cqe *one = cqe_at(state, position - 1), *other = cqe_at(state, position);
        struct io_uring_cqe cqe = *one;
        if (is_ordered(one, other) ||
            !ub_happens(ub_temper.delays, UB_KIND_COMPLETIONS_SWAPPED))
            continue;
        *one = *other;
        *other = cqe;
    }
}

static uint32_t late_count(const struct ring_state *state, uint32_t begin, uint32_t end) {
    uint32_t count;
    if (begin == end || !(state->ring->flags & IORING_SETUP_DEFER_TASKRUN) ||
        !ub_happens(ub_temper.delays, UB_KIND_COMPLETION_LATE))
        return 0;
    count = ub_between(1, end - begin);
    for (uint32_t position = end - count; position != end; position++)
        if (cqe_at(state, position)->user_data >> TAG_SHIFT == UL_TAG_SEND)
            return 0;
    return count;
}

static void show_tail(struct ring_state *state, uint32_t tail) {
    io_uring_smp_store_release(state->ring->cq.ktail, tail);
}

static void look_at_completions(struct ring_state *state) {
    uint32_t tail = io_uring_smp_load_acquire(state->ring->cq.ktail);
    uint32_t head = *state->ring->cq.khead, begin = state->seen;
    if ((int32_t)(head - begin) > 0)
        begin = head; /* the kernel posted some between two enters, and they were taken */
    for (uint32_t position = begin; position != tail; position++)
        give_result(state, cqe_at(state, position));
    swap_some(state, begin, tail);
    state->seen = tail;
    state->kept_back = late_count(state, begin, tail);
    if (state->kept_back)
        show_tail(state, tail - state->kept_back);
}

static void show_all(struct ring_state *state) {
    if (state->kept_back)
        show_tail(state, state->seen);
    state->kept_back = 0;
}

/* Enter. -------------------------------------------------------------------------------- */

static int refusal(uint32_t submit) {
    static const int ANSWERS[] = {-EAGAIN, -EBUSY, -ENOMEM};
    if (ub_happens(ub_temper.interrupts, UB_KIND_WAIT_INTERRUPTED))
        return -EINTR;
    if (submit && ub_happens(ub_temper.shortages / 2, UB_KIND_ENTER_REFUSED))
        return ANSWERS[ub_between(0, 2)];
    return 0;
}

int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait_count, unsigned flags,
                           void *argument, size_t size) {
    struct ring_state *state = state_entered((int)fd, flags);
    int result;
    if (!state)
        return __real_io_uring_enter2(fd, submit, wait_count, flags, argument, size);
    show_all(state);
    result = ub_is_active ? refusal(submit) : 0;
    if (result)
        return result;
    if (ub_is_active)
        prepare_staged(state);
    else
        state->prepared = state->ring->sq.sqe_tail;
    if (submit > 1 && ub_happens(ub_temper.cuts / 2, UB_KIND_ENTER_PARTIAL)) {
        submit = ub_between(1, submit - 1);
        wait_count = 0; /* the kernel never waits where it did not take all */
    }
    if (wait_count && submit && ub_happens(ub_temper.interrupts, UB_KIND_WAIT_INTERRUPTED))
        wait_count = 0;
    result = __real_io_uring_enter2(fd, submit, wait_count, flags, argument, size);
    look_at_completions(state);
    return result;
}
