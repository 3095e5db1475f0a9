/* epoll.c - the readiness engine: the contract of engine.h where io_uring cannot be used.
 *
 * Facts. epoll tells which descriptors are ready, not what was done. It is level-triggered
 * here: what was not used up is reported again, in turn with the others, so an operation
 * may stop half-way without losing anything, and one system call for each report will do.
 * A registration belongs to the pair (open file, number). It goes when the last reference
 * to the file goes, not with close(fd): with a duplicate, or a child after fork, it stays
 * and reports under a number that may by then be another's.
 *
 * Decisions. One registration for each descriptor, for all operations that wait for it,
 * changed only when one begins or ends to wait. An operation that can be tried at once is,
 * so that an echo (a receive that goes on, sends that complete) makes no epoll_ctl at all.
 * A registration goes before the final event of its last operation is given, as Python may
 * close the descriptor after that. Beginning to wait always asks the kernel (EPOLL_CTL_MOD
 * answers ENOENT for another file), and each registration has a generation that its reports
 * carry; so a number that was closed too early and used again is noticed, the operations
 * left behind end with EBADF, and none of them touches the new file.
 *
 * Some operations wait for what epoll cannot tell: regular files and devices without poll(2)
 * (EPERM), which are always ready, and a Unix datagram socket whose receiver is full, which
 * is reported writable for as long as the socket is not connected to that receiver. They are
 * tried again by the clock: after a quarter of a millisecond, then half, up to 32 ms while
 * nothing moves. (asyncio asks such a socket without end.)
 *
 * An error queue that nobody reads (IP_RECVERR, SO_TIMESTAMPING) is reported as EPOLLERR
 * without end, and no receive takes anything from it. After such a report the registration
 * becomes edge-triggered, and tells what changes; with the first report that is of use it
 * becomes level-triggered again. (asyncio asks such a socket without end, too.)
 *
 * Refused: edge-triggered reports as a rule (each must be used up to EAGAIN: one more system
 * call for each message, and a flooder holds the turn) and EPOLLONESHOT (epoll_ctl for each
 * message).
 */
#include "epoll.h"
#include "relay.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RETRY_NS_MIN = 250000,
    RETRY_NS_MAX = 32000000,
};

/* In reports of the wake descriptor. Other generations stay below. */
static const uint32_t WAKE_GENERATION = UINT32_MAX;

enum phase {
    PHASE_TRIED = 0, /* in no list */
    PHASE_WAITING,   /* in its descriptor's list */
    PHASE_RETRIED,   /* in the list of those that are tried by the clock */
    PHASE_ANSWERED,  /* its result is in `argument`; it waits for room in events[] */
};

/* Final events. -------------------------------------------------------------------------- */

static void finish_with(struct ul_engine *engine, struct ul_operation *operation,
                        int64_t result) {
    ul_finish(engine, operation, result, ul_epoll_address(engine, operation, result));
}

/* The operation is in no list and its descriptor's registration is settled, or about to be
 * before this turn ends. A result without room is kept: the work has been done. */
static void answer(struct ul_engine *engine, struct ul_operation *operation, int64_t result) {
    struct ul_readiness *readiness = engine->state;
    if (operation->opcode == UL_OP_RELAY)
        operation->done = ul_relay_close(operation);
    if (ul_event_room(engine)) {
        finish_with(engine, operation, result);
        return;
    }
    operation->phase = PHASE_ANSWERED;
    operation->argument = (uint64_t)result;
    ul_queue_append(&readiness->answered, operation);
}

static void give_answered(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    struct ul_operation *operation;
    while ((operation = readiness->answered) && ul_event_room(engine)) {
        ul_queue_remove(&readiness->answered, operation);
        finish_with(engine, operation, (int64_t)operation->argument);
    }
}

/* Registrations. ------------------------------------------------------------------------- */

static int control(struct ul_readiness *readiness, int request, int fd,
                   const struct ul_descriptor *descriptor, uint32_t interest) {
    struct epoll_event event = {
        .events = interest,
        .data.u64 = (uint64_t)descriptor->generation << 32 | (uint32_t)fd,
    };
    return epoll_ctl(readiness->epoll_fd, request, fd, &event) < 0 ? -errno : 0;
}

/* No memory for a number that is not open: it may be as large as it likes. */
static bool is_descriptor(const struct ul_readiness *readiness, int fd) {
    return fd >= 0 &&
           ((uint32_t)fd < readiness->descriptor_count || fcntl(fd, F_GETFD) >= 0);
}

/* The table's entry for fd, or NULL when there is no memory for it. */
static struct ul_descriptor *descriptor_of(struct ul_readiness *readiness, int fd) {
    uint32_t count = readiness->descriptor_count;
    if ((uint32_t)fd < count)
        return &readiness->descriptors[fd];
    while (count <= (uint32_t)fd)
        count *= 2;
    struct ul_descriptor *descriptors =
        realloc(readiness->descriptors, count * sizeof(*descriptors));
    if (!descriptors)
        return NULL;
    size_t added = count - readiness->descriptor_count;
    memset(descriptors + readiness->descriptor_count, 0, added * sizeof(*descriptors));
    readiness->descriptors = descriptors;
    readiness->descriptor_count = count;
    return &descriptors[fd];
}

/* The file these operations wait for is no longer under their number. */
static void strand(struct ul_engine *engine, struct ul_descriptor *descriptor) {
    struct ul_operation *operation;
    descriptor->interest = 0;
    while ((operation = descriptor->first)) {
        ul_queue_remove(&descriptor->first, operation);
        answer(engine, operation, -EBADF);
    }
}

int ul_epoll_add_wake(struct ul_engine *engine) {
    struct ul_descriptor wake = {.generation = WAKE_GENERATION};
    return control(engine->state, EPOLL_CTL_ADD, engine->wake_fd, &wake, EPOLLIN);
}

static int add_registration(struct ul_readiness *readiness, int fd,
                            struct ul_descriptor *descriptor, uint32_t interest) {
    descriptor->generation = (descriptor->generation + 1) & INT32_MAX;
    int error = control(readiness, EPOLL_CTL_ADD, fd, descriptor, interest);
    if (error == -EEXIST) /* a duplicate kept the file, and now has its old number again */
        error = control(readiness, EPOLL_CTL_MOD, fd, descriptor, interest);
    descriptor->interest = error ? 0 : interest;
    return error;
}

/* Registers what one more operation waits for. 0 or -errno. */
static int widen(struct ul_engine *engine, int fd, struct ul_descriptor *descriptor,
                 uint32_t wanted) {
    uint32_t interest = descriptor->interest | wanted;
    if (!descriptor->interest)
        return add_registration(engine->state, fd, descriptor, interest);
    if (control(engine->state, EPOLL_CTL_MOD, fd, descriptor, interest)) {
        strand(engine, descriptor);
        return add_registration(engine->state, fd, descriptor, wanted);
    }
    descriptor->interest = interest;
    return 0;
}

/* Brings the registration in line with those that still wait. */
static void settle(struct ul_engine *engine, int fd, struct ul_descriptor *descriptor) {
    uint32_t interest = 0;
    for (struct ul_operation *waiter = descriptor->first; waiter; waiter = waiter->next)
        interest |= ul_epoll_interest(waiter);
    if (interest && descriptor->misleads)
        interest |= EPOLLET;
    if (interest == descriptor->interest || !descriptor->interest)
        return;
    descriptor->interest = interest;
    /* DEL fails only for a file that went away, and then its registration went with it. */
    if (!interest)
        control(engine->state, EPOLL_CTL_DEL, fd, descriptor, 0);
    else if (control(engine->state, EPOLL_CTL_MOD, fd, descriptor, interest))
        strand(engine, descriptor);
}

static void join_retried(struct ul_readiness *readiness, struct ul_operation *operation) {
    operation->phase = PHASE_RETRIED;
    ul_queue_append(&readiness->retried, operation);
    readiness->retry_ns = RETRY_NS_MIN;
}

/* epoll takes no regular files and directories (EPERM): they are always ready. What they are
 * not ready for now (POLLPRI) they never will be. */
static int64_t join_unpollable(struct ul_engine *engine, struct ul_descriptor *descriptor,
                               struct ul_operation *operation) {
    int ready = ul_poll_now(operation->fd, ul_epoll_interest(operation));
    int64_t result = ready < 0 ? ready : ul_epoll_resume(engine, operation, (uint32_t)ready);
    if (!ul_epoll_goes_on(result))
        return result;
    if (operation->opcode != UL_OP_POLL) {
        join_retried(engine->state, operation);
        return UL_STEP_WAITS;
    }
    operation->phase = PHASE_WAITING;
    ul_queue_append(&descriptor->first, operation);
    return UL_STEP_WAITS;
}

/* Puts the operation among those that wait for its descriptor. UL_STEP_WAITS, or the final
 * result where it cannot wait. */
static int64_t join(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    int fd = operation->fd;
    if (!is_descriptor(readiness, fd))
        return -EBADF;
    struct ul_descriptor *descriptor = descriptor_of(readiness, fd);
    if (!descriptor)
        return -ENOMEM;
    int64_t result = widen(engine, fd, descriptor, ul_epoll_interest(operation));
    if (result == -EPERM)
        return join_unpollable(engine, descriptor, operation);
    if (result != 0)
        return result;
    operation->phase = PHASE_WAITING;
    ul_queue_append(&descriptor->first, operation);
    return UL_STEP_WAITS;
}

/* The backend's calls, up to the wait. --------------------------------------------------- */

static int begin(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    readiness->scratch.used = 0;
    readiness->inbox.slots_used = readiness->inbox.places_used = 0;
    readiness->woken = false;
    give_answered(engine);
    return 0;
}

static void start(struct ul_engine *engine, struct ul_operation *operation) {
    int64_t result = ul_epoll_try(engine, operation);
    if (result == UL_STEP_WAITS || result == UL_STEP_PUT_OFF)
        result = join(engine, operation);
    if (result == UL_STEP_UNTOLD)
        join_retried(engine->state, operation);
    else if (result != UL_STEP_WAITS)
        answer(engine, operation, result);
}

static void cancel(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    if (operation->phase == PHASE_ANSWERED)
        return; /* too late: its true result is on the way */
    if (operation->phase == PHASE_RETRIED) {
        ul_queue_remove(&readiness->retried, operation);
    } else {
        struct ul_descriptor *descriptor = &readiness->descriptors[operation->fd];
        ul_queue_remove(&descriptor->first, operation);
        settle(engine, operation->fd, descriptor);
    }
    answer(engine, operation, -ECANCELED);
}

/* Serving reports. ----------------------------------------------------------------------- */

/* A registration that reports though its number is closed or another file's: a duplicate
 * keeps the file open, and epoll_ctl cannot name it any more. It would report for ever.
 * Only a new epoll set is free of it. Without one (EMFILE) the next report tries again. */
static void renew_epoll(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    int fresh_fd = epoll_create1(EPOLL_CLOEXEC);
    if (fresh_fd < 0)
        return;
    close(readiness->epoll_fd);
    readiness->epoll_fd = fresh_fd;
    ul_epoll_add_wake(engine);
    for (uint32_t fd = 0; fd < readiness->descriptor_count; fd++) {
        struct ul_descriptor *descriptor = &readiness->descriptors[fd];
        uint32_t interest = descriptor->interest;
        if (interest && control(readiness, EPOLL_CTL_ADD, (int)fd, descriptor, interest))
            strand(engine, descriptor);
    }
}

/* Whom a report is for, or NULL. */
static struct ul_descriptor *reported(struct ul_readiness *readiness,
                                      const struct epoll_event *report) {
    uint32_t fd = (uint32_t)report->data.u64;
    struct ul_descriptor *descriptor = &readiness->descriptors[fd];
    bool is_current = descriptor->generation == (uint32_t)(report->data.u64 >> 32);
    return is_current && descriptor->first ? descriptor : NULL;
}

/* False where the operation has to be served again in the next turn. A relay may go on to wait
 * for its other descriptor. */
static bool resume(struct ul_engine *engine, struct ul_descriptor *descriptor,
                   struct ul_operation *operation, uint32_t ready) {
    int fd = operation->fd;
    if (!(ready & ul_epoll_interest(operation)))
        return true;
    int64_t result = ul_epoll_resume(engine, operation, ready);
    if (operation->fd == fd && (result == UL_STEP_WAITS || result == UL_STEP_PUT_OFF))
        return result == UL_STEP_WAITS;
    ul_queue_remove(&descriptor->first, operation);
    if (result == UL_STEP_WAITS)
        result = join(engine, operation);
    if (result == UL_STEP_UNTOLD)
        join_retried(engine->state, operation);
    else if (result != UL_STEP_WAITS)
        answer(engine, operation, result);
    return true;
}

static void take_wake(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    uint64_t wakes;
    ssize_t size = read(engine->wake_fd, &wakes, sizeof(wakes));
    (void)size; /* nothing to read: somebody else took it, but somebody did write it */
    readiness->woken = true;
}

static bool serve_report(struct ul_engine *engine, const struct epoll_event *report) {
    struct ul_readiness *readiness = engine->state;
    uint32_t fd = (uint32_t)report->data.u64;
    if (report->data.u64 >> 32 == WAKE_GENERATION) {
        take_wake(engine);
        return true;
    }
    struct ul_descriptor *descriptor = reported(engine->state, report);
    if (!descriptor) {
        renew_epoll(engine);
        return true;
    }
    bool is_served = true;
    uint32_t events_before = engine->shared.event_count;
    struct ul_operation *next;
    for (struct ul_operation *waiter = descriptor->first; waiter; waiter = next) {
        next = waiter->next;
        is_served &= resume(engine, descriptor, waiter, report->events);
        descriptor = &readiness->descriptors[fd]; /* the table may have grown */
    }
    descriptor->misleads = report->events == EPOLLERR && is_served &&
                           engine->shared.event_count == events_before;
    settle(engine, (int)fd, descriptor);
    return is_served;
}

/* Serves the first `count` reports and keeps those that this turn has no room for. They are
 * the first of the next turn, so that the last descriptors starve as little as the first. */
static void serve(struct ul_engine *engine, uint32_t count) {
    struct ul_readiness *readiness = engine->state;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!serve_report(engine, &readiness->reports[i]))
            readiness->reports[kept++] = readiness->reports[i];
    readiness->kept_count = kept;
}

/* Kept reports are a turn old: their descriptors may be drained, or waited for no more. */
static uint32_t look_again(struct ul_readiness *readiness) {
    uint32_t ready_count = 0;
    for (uint32_t i = 0; i < readiness->kept_count; i++) {
        struct epoll_event report = readiness->reports[i];
        struct ul_descriptor *descriptor = reported(readiness, &report);
        int fd = (int)(uint32_t)report.data.u64;
        int ready = descriptor ? ul_poll_now(fd, descriptor->interest) : 0;
        if (ready <= 0)
            continue;
        report.events = (uint32_t)ready;
        readiness->reports[ready_count++] = report;
    }
    return ready_count;
}

/* Trying by the clock. ------------------------------------------------------------------- */

/* One step of an operation that epoll tells nothing about. Whether it moved. */
static bool retry_one(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    uint32_t events_before = engine->shared.event_count;
    uint64_t done_before = operation->done;
    int64_t result = ul_epoll_resume(engine, operation, ul_epoll_interest(operation));
    bool is_socket = operation->opcode == UL_OP_SENDMSG; /* now full itself: epoll can tell */
    if (result == UL_STEP_WAITS && is_socket) {
        ul_queue_remove(&readiness->retried, operation);
        result = join(engine, operation);
        if (result != UL_STEP_WAITS)
            answer(engine, operation, result);
        return true;
    }
    if (!ul_epoll_goes_on(result)) {
        ul_queue_remove(&readiness->retried, operation);
        answer(engine, operation, result);
        return true;
    }
    return engine->shared.event_count != events_before || operation->done != done_before;
}

static void retry(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    struct ul_operation *next;
    bool has_moved = false;
    for (struct ul_operation *operation = readiness->retried; operation; operation = next) {
        next = operation->next;
        has_moved |= retry_one(engine, operation);
    }
    int64_t longer_ns = readiness->retry_ns * 2;
    readiness->retry_ns = longer_ns < RETRY_NS_MAX ? longer_ns : RETRY_NS_MAX;
    if (has_moved)
        readiness->retry_ns = RETRY_NS_MIN;
}

static int64_t until_retry(const struct ul_readiness *readiness, int64_t timeout_ns) {
    bool is_sooner = timeout_ns >= 0 && timeout_ns <= readiness->retry_ns;
    return !readiness->retried || is_sooner ? timeout_ns : readiness->retry_ns;
}

/* Waiting. ------------------------------------------------------------------------------- */

/* Waits for reports and serves them. 0 or -errno. */
static int wait_and_serve(struct ul_engine *engine, int64_t timeout_ns) {
    struct ul_readiness *readiness = engine->state;
    engine->shared.counters.enters++;
    int count = ul_epoll_wait(readiness, timeout_ns);
    if (count < 0)
        return count;
    engine->shared.counters.completions += (uint32_t)count;
    serve(engine, (uint32_t)count);
    return 0;
}

static bool is_turn_over(const struct ul_engine *engine) {
    const struct ul_readiness *readiness = engine->state;
    return engine->counting_events || readiness->woken || readiness->kept_count ||
           !ul_event_room(engine);
}

/* Kept reports are served without looking for new ones: those would come twice. There are
 * fewer of them each turn, so a wake-up and the others wait for a few turns at most. */
static int finish(struct ul_engine *engine, int64_t timeout_ns) {
    struct ul_readiness *readiness = engine->state;
    int64_t deadline_ns = ul_deadline_after(engine->begin_ns, timeout_ns);
    if (readiness->kept_count) {
        serve(engine, look_again(readiness));
        if (is_turn_over(engine))
            return 0;
    }
    do {
        int64_t left_ns = is_turn_over(engine) ? 0 : ul_time_left(deadline_ns);
        int error = wait_and_serve(engine, until_retry(readiness, left_ns));
        if (error)
            return error == -EINTR ? 0 : error;
        retry(engine);
    } while (!is_turn_over(engine) && ul_time_left(deadline_ns));
    return 0;
}

const struct ul_backend UL_EPOLL_BACKEND = {
    .start = start,
    .cancel = cancel,
    .begin = begin,
    .finish = finish,
    .close = ul_epoll_close,
    .abandon = ul_epoll_abandon,
};
