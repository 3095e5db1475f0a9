/* epoll_operations.c - what each operation does to its descriptor once that is ready.
 *
 * A step is one try: it completes, or must wait, or (ACCEPT, RECV) gives events and goes
 * on. Nothing here waits, and nothing here knows the other operations.
 *
 * Descriptors may be blocking or not; no step may ever block the loop. recv(2) and send(2)
 * are told so call by call (MSG_DONTWAIT). connect(2) has no such flag and heeds O_NONBLOCK
 * only, so for a blocking descriptor it is set around the call. Connections, files, datagrams
 * to send and sendfile(2) are in calls.c.
 */
#include "epoll.h"
#include "relay.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI &&
                   EPOLLERR == POLLERR && EPOLLHUP == POLLHUP && EPOLLRDHUP == POLLRDHUP,
               "masks of poll(2) are passed to epoll as they are");

enum {
    RECEIVE_BUFFERS = 4, /* 4 x 256 KiB stay within a second-level cache */
    RECEIVE_BYTES = 256 * 1024,
    PIECE_ALIGNMENT = 64, /* a cache line: memcpy out of the scratch starts aligned */
    SENDS_MAX = 16,       /* system calls of one SEND in one step */
};

static const uint32_t ALWAYS_REPORTED = EPOLLERR | EPOLLHUP;

int ul_scratch_open(struct ul_scratch *scratch, const struct ul_config *config) {
    size_t count = config->buffer_count ? config->buffer_count : RECEIVE_BUFFERS;
    scratch->piece_max = config->buffer_bytes ? config->buffer_bytes : RECEIVE_BYTES;
    scratch->piece_min = (scratch->piece_max + 3) / 4;
    scratch->size = count * scratch->piece_max;
    scratch->used = 0;
    scratch->bytes = malloc(scratch->size);
    return scratch->bytes ? 0 : -ENOMEM;
}

void ul_scratch_close(struct ul_scratch *scratch) {
    free(scratch->bytes);
    scratch->bytes = NULL;
}

static size_t scratch_left(const struct ul_scratch *scratch) {
    size_t left = scratch->size - scratch->used;
    return left < scratch->piece_max ? left : scratch->piece_max;
}

static void scratch_take(struct ul_scratch *scratch, size_t bytes) {
    size_t used = (scratch->used + bytes + PIECE_ALIGNMENT - 1) / PIECE_ALIGNMENT;
    used *= PIECE_ALIGNMENT;
    scratch->used = used < scratch->size ? used : scratch->size;
}

uint32_t ul_epoll_interest(const struct ul_operation *operation) {
    switch (operation->opcode) {
    case UL_OP_POLL:
        return (uint32_t)operation->argument | ALWAYS_REPORTED;
    case UL_OP_SEND:
    case UL_OP_CONNECT:
    case UL_OP_SENDMSG:
    case UL_OP_SENDFILE:
        return EPOLLOUT | ALWAYS_REPORTED;
    case UL_OP_RELAY:
        return ul_relay_waits_for(operation) | ALWAYS_REPORTED;
    case UL_OP_RECV:
        if (operation->flags & UL_READABLE)
            return EPOLLIN | EPOLLRDHUP | ALWAYS_REPORTED;
        return EPOLLIN | ALWAYS_REPORTED;
    default:
        return EPOLLIN | ALWAYS_REPORTED;
    }
}

int ul_poll_now(int fd, uint32_t mask) {
    struct pollfd entry = {.fd = fd, .events = (short)mask};
    if (UL_UNINTERRUPTED(poll(&entry, 1, 0)) < 0)
        return -errno;
    return entry.revents & POLLNVAL ? -EBADF : entry.revents;
}

/* The most that this step may receive, or 0 where the turn has no room for it. */
static size_t receive_room(struct ul_engine *engine, const struct ul_operation *operation) {
    const struct ul_readiness *readiness = engine->state;
    const struct ul_scratch *scratch = &readiness->scratch;
    bool is_limited = operation->flags & UL_ONCE && operation->length < scratch->piece_max;
    size_t wanted = is_limited ? operation->length : scratch->piece_max;
    size_t left = scratch_left(scratch);
    if (ul_event_room(engine) == 0)
        return 0;
    if (left < wanted && left < scratch->piece_min) {
        engine->shared.counters.buffer_shortages++;
        return 0;
    }
    return left < wanted ? left : wanted;
}

/* One recv for each report, however much is there: a flooder gets its piece and the others
 * get theirs. What is left is reported again. */
static int64_t receive(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    size_t room = receive_room(engine, operation);
    if (!room)
        return UL_STEP_PUT_OFF;
    uint8_t *piece = readiness->scratch.bytes + readiness->scratch.used;
    engine->shared.counters.submissions++;
    ssize_t received = ul_call_recv(operation, piece, room);
    if (received <= 0)
        return ul_is_not_now((int)-received) ? UL_STEP_WAITS : received;
    scratch_take(&readiness->scratch, (size_t)received);
    if (operation->flags & UL_ONCE) {
        operation->address = (uintptr_t)piece;
        return received;
    }
    ul_give_received(engine, operation, received, (uintptr_t)piece);
    return UL_STEP_WAITS;
}

/* The bytes, or only their number, which is not asked for at the end of the stream. */
static int64_t tell_or_receive(struct ul_engine *engine, struct ul_operation *operation,
                               uint32_t ready) {
    bool is_ending = ready & (EPOLLRDHUP | ALWAYS_REPORTED);
    int size = 0;
    if (!ul_event_room(engine))
        return UL_STEP_PUT_OFF;
    if (operation->flags & UL_READABLE && !is_ending)
        size = ul_call_readable(engine, operation);
    if (!size) {
        operation->flags &= ~(uint32_t)UL_READABLE;
        return receive(engine, operation);
    }
    ul_give(engine, operation, size, 0);
    return UL_STEP_WAITS;
}

static ssize_t send_some(const struct ul_operation *operation) {
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    void *memory = (void *)(uintptr_t)operation->address;
    if (!(operation->flags & UL_VECTORED))
        return UL_UNINTERRUPTED(send(operation->fd, memory, operation->length, flags));
    size_t count = operation->length < IOV_MAX ? operation->length : IOV_MAX;
    struct msghdr message = {.msg_iov = memory, .msg_iovlen = count};
    return UL_UNINTERRUPTED(sendmsg(operation->fd, &message, flags));
}

/* A short send means that the socket is full: wait, do not ask for the EAGAIN. Only more
 * iovecs than one sendmsg takes are a reason to send again at once; even then not for
 * ever, as a quick reader could hold the loop here. */
static int64_t send_all(struct ul_engine *engine, struct ul_operation *operation) {
    for (int i = 0; i < SENDS_MAX; i++) {
        bool offers_all = !(operation->flags & UL_VECTORED) || operation->length <= IOV_MAX;
        engine->shared.counters.submissions++;
        ssize_t sent = send_some(operation);
        if (sent < 0)
            return ul_is_not_now(errno) ? UL_STEP_WAITS : -errno;
        if (ul_send_advance(operation, (uint64_t)sent))
            return (int64_t)operation->done;
        if (offers_all)
            break;
    }
    return UL_STEP_WAITS;
}

/* A Unix datagram socket whose receiver has a full queue answers EAGAIN. poll(2) knows that
 * queue only if the socket is connected to that receiver (unix_dgram_poll); else it says that
 * the socket is writable, for ever. Then the clock decides when to try again. */
static int64_t send_message(struct ul_engine *engine, struct ul_operation *operation) {
    int64_t result = ul_call_sendmsg(engine, operation);
    if (result != UL_STEP_WAITS)
        return result;
    int ready = ul_poll_now(operation->fd, POLLOUT);
    return ready > 0 && ready & POLLOUT ? UL_STEP_UNTOLD : UL_STEP_WAITS;
}

/* A step of what is sent. Where others are to have their share, the descriptor is reported
 * again: nothing has to be put off. */
static int64_t send_step(struct ul_engine *engine, struct ul_operation *operation) {
    int64_t result;
    if (operation->opcode == UL_OP_SENDMSG)
        result = send_message(engine, operation);
    else if (operation->opcode == UL_OP_SENDFILE)
        result = ul_call_sendfile(engine, operation);
    else if (operation->flags & UL_FILE)
        result = ul_call_write(engine, operation);
    else
        result = send_all(engine, operation);
    return result == UL_STEP_PUT_OFF ? UL_STEP_WAITS : result;
}

static int64_t connect_end(struct ul_engine *engine, struct ul_operation *operation) {
    int error = 0;
    socklen_t size = sizeof error;
    engine->shared.counters.submissions++;
    if (getsockopt(operation->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

/* A peer on this machine has answered by now; then no registration is needed. */
static int64_t connect_look(struct ul_engine *engine, struct ul_operation *operation) {
    engine->shared.counters.submissions++;
    return ul_poll_now(operation->fd, POLLOUT) > 0 ? connect_end(engine, operation)
                                                   : UL_STEP_WAITS;
}

/* EAGAIN is final: a Unix socket says so when the listener's backlog is full, and then
 * nothing goes on in the background and no readiness will tell of room (an unconnected
 * Unix socket always polls writable). asyncio takes it for "in progress", finds the socket
 * writable with no error and reports a connection that does not exist; here the caller
 * gets a BlockingIOError and may try again, as with a blocking socket's EAGAIN after
 * SO_SNDTIMEO. */
static int64_t connect_begin(struct ul_engine *engine, struct ul_operation *operation) {
    int flags = ul_blocking_suspend(operation->fd);
    if (flags < 0)
        return flags;
    engine->shared.counters.submissions++;
    const struct sockaddr *address = (const struct sockaddr *)(uintptr_t)operation->address;
    int error = 0;
    if (connect(operation->fd, address, (socklen_t)operation->length) < 0)
        error = errno;
    ul_blocking_restore(operation->fd, flags);
    return error == EINPROGRESS || error == EINTR ? connect_look(engine, operation) : -error;
}

static int64_t poll_end(const struct ul_operation *operation, uint32_t ready) {
    uint32_t seen = ready & ul_epoll_interest(operation);
    return seen ? (int64_t)seen : UL_STEP_WAITS;
}

/* Writable is what a descriptor mostly is, so asking costs less than a registration that
 * is undone in the same turn. Readable is what it mostly is not when somebody asks. */
static int64_t poll_begin(struct ul_engine *engine, const struct ul_operation *operation) {
    if (!(operation->argument & POLLOUT))
        return UL_STEP_WAITS;
    engine->shared.counters.submissions++;
    int ready = ul_poll_now(operation->fd, (uint32_t)operation->argument);
    return ready < 0 ? ready : poll_end(operation, (uint32_t)ready);
}

/* What did not fit is kept by the relay itself, so all relays use the same memory. */
static int64_t relay(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    size_t size = scratch_left(&readiness->scratch);
    if (size < readiness->scratch.piece_min)
        return UL_STEP_PUT_OFF;
    return ul_relay_try(operation, (char *)readiness->scratch.bytes + readiness->scratch.used,
                        size);
}

static int64_t begin_relay(struct ul_engine *engine, struct ul_operation *operation) {
    return ul_relay_open(engine, operation) ? UL_STEP_WAITS : -ENOMEM;
}

uint64_t ul_epoll_address(struct ul_engine *engine, const struct ul_operation *operation,
                          int64_t result) {
    bool wants_names = result == 0 && operation->flags & UL_NAMES;
    switch (operation->opcode) {
    case UL_OP_CONNECT:
        return wants_names ? ul_call_names(engine, operation->fd) : 0;
    case UL_OP_RELAY:
        return operation->done;
    case UL_OP_SEND:
    case UL_OP_SENDFILE:
        return result < 0 ? operation->done : 0;
    case UL_OP_RECV: /* of the UL_ONCE kind, as no other ends with bytes */
        return result > 0 ? operation->address : 0;
    case UL_OP_RECVMSG:
        return result >= 0 ? operation->address : 0;
    default:
        return 0;
    }
}

/* Whether a receive is tried when it is taken. A try in vain is one system call more, one that
 * succeeds saves the two of a registration made and undone, and a turn. One that goes on
 * (a transport's) waits but once for all its pieces, and begins before there is anything. A
 * single one (sock_recv in an echo) mostly comes after data: the others of a turn take their
 * time, in which the peer has answered; with one connection alone it mostly comes before. Not
 * so for files: a FIFO that no writer has opened yet would read as ended. */
static bool is_tried(const struct ul_operation *operation) {
    return operation->flags & UL_ONCE && !(operation->flags & UL_FILE);
}

int64_t ul_epoll_try(struct ul_engine *engine, struct ul_operation *operation) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        return is_tried(operation) ? ul_call_accept(engine, operation, 1) : UL_STEP_WAITS;
    case UL_OP_RECV:
        return is_tried(operation) ? receive(engine, operation) : UL_STEP_WAITS;
    case UL_OP_RECVMSG:
        return is_tried(operation) ? ul_epoll_receive_messages(engine, operation) : UL_STEP_WAITS;
    case UL_OP_SEND:
    case UL_OP_SENDMSG:
    case UL_OP_SENDFILE:
        return send_step(engine, operation);
    case UL_OP_CONNECT:
        return connect_begin(engine, operation);
    case UL_OP_RELAY:
        return begin_relay(engine, operation);
    case UL_OP_POLL:
        return poll_begin(engine, operation);
    default: /* a file is always ready, and blocks all the same */
        return -EOPNOTSUPP;
    }
}

int64_t ul_epoll_resume(struct ul_engine *engine, struct ul_operation *operation,
                        uint32_t ready) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        return ul_call_accept(engine, operation, 1);
    case UL_OP_RECV:
        return tell_or_receive(engine, operation, ready);
    case UL_OP_SEND:
    case UL_OP_SENDMSG:
    case UL_OP_SENDFILE:
        return send_step(engine, operation);
    case UL_OP_RECVMSG:
        return ul_epoll_receive_messages(engine, operation);
    case UL_OP_CONNECT:
        return connect_end(engine, operation);
    case UL_OP_RELAY:
        return relay(engine, operation);
    default:
        return poll_end(operation, ready);
    }
}
