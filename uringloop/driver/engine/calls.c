/* calls.c - writes, datagrams, files, single receives, connections by plain system calls.
 *
 * Facts, and what follows from them:
 *
 *   Pipes and terminals. io_uring answers EAGAIN at once for a READ or WRITE on a file with
 *   O_NONBLOCK, as asyncio's pipes have it. So both engines wait for readiness and then call
 *   read(2) and write(2).
 *
 *   SIGPIPE. write(2) and sendfile(2) have no MSG_NOSIGNAL. CPython ignores the signal, but
 *   a program may have changed that; so it is blocked around the call, and where the call
 *   raised it, taken back. The kernel raises it for the calling thread only, and queues a
 *   blocked signal even where it is ignored.
 *
 *   Datagrams. A request to the ring for each takes no less time than sendto(2) does; and
 *   steps.c says what else the kernel does to some.
 *
 *   accept(2), read(2), write(2) and sendfile(2) heed O_NONBLOCK only, and have no flag of their own;
 *   so that is set around the call where it is not set already. It belongs to the open file:
 *   another process that shares it could see it for these microseconds, and may change it at
 *   any time, which is why it is asked for each time. Asking poll(2) first instead would not do:
 *   between the two calls another process may take what there was, and the call would sleep.
 */
#include "calls.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITES_MAX = 16, /* system calls of one SEND in one try */
    ACCEPTS_MAX = 64, /* connections of one listener in one try */
    SENDFILE_BYTES_MAX = 1024 * 1024,
    SENDFILES_MAX = 4,
};

/* Without blocking. --------------------------------------------------------------------- */

int ul_blocking_suspend(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
        return -errno;
    return flags;
}

void ul_blocking_restore(int fd, int flags) {
    if (!(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags);
}

/* Without SIGPIPE. ---------------------------------------------------------------------- */

struct guard {
    sigset_t mask_before;
    bool was_pending;
};

static sigset_t broken_pipe_set(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

static struct guard guard_begin(void) {
    struct guard guard = {.was_pending = false};
    sigset_t set = broken_pipe_set(), pending;
    pthread_sigmask(SIG_BLOCK, &set, &guard.mask_before);
    if (sigismember(&guard.mask_before, SIGPIPE) && !sigpending(&pending))
        guard.was_pending = sigismember(&pending, SIGPIPE);
    return guard;
}

/* `result` of the calls between: bytes, or -errno. */
static void guard_end(const struct guard *guard, int64_t result) {
    const struct timespec at_once = {0};
    sigset_t set = broken_pipe_set();
    if (result == -EPIPE && !guard->was_pending)
        sigtimedwait(&set, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &guard->mask_before, NULL);
}

/* Write. -------------------------------------------------------------------------------- */

static ssize_t write_some(const struct ul_operation *operation) {
    void *memory = (void *)(uintptr_t)operation->address;
    size_t length = operation->length;
    if (operation->flags & UL_VECTORED)
        return UL_UNINTERRUPTED(
            writev(operation->fd, memory, length < IOV_MAX ? (int)length : IOV_MAX));
    return UL_UNINTERRUPTED(write(operation->fd, memory, length));
}

/* A short write means that the pipe is full. Only more iovecs than one writev takes are a
 * reason to write again at once, and not for ever. */
static int64_t write_all(struct ul_engine *engine, struct ul_operation *operation) {
    for (int i = 0; i < WRITES_MAX; i++) {
        bool offers_all = !(operation->flags & UL_VECTORED) || operation->length <= IOV_MAX;
        ssize_t written = write_some(operation);
        engine->shared.counters.submissions++;
        if (written < 0)
            return ul_is_not_now(errno) ? UL_STEP_WAITS : -errno;
        if (ul_send_advance(operation, (uint64_t)written))
            return (int64_t)operation->done;
        if (offers_all)
            break;
    }
    return UL_STEP_WAITS;
}

typedef int64_t call(struct ul_engine *engine, struct ul_operation *operation);

static int64_t call_on_file(struct ul_engine *engine, struct ul_operation *operation,
                            call *writes) {
    int flags = ul_blocking_suspend(operation->fd);
    struct guard guard;
    int64_t result;
    if (flags < 0)
        return flags;
    guard = guard_begin();
    result = writes(engine, operation);
    guard_end(&guard, result);
    ul_blocking_restore(operation->fd, flags);
    return result;
}

int64_t ul_call_write(struct ul_engine *engine, struct ul_operation *operation) {
    return call_on_file(engine, operation, write_all);
}

/* Datagrams. ---------------------------------------------------------------------------- */

int64_t ul_call_sendmsg(struct ul_engine *engine, const struct ul_operation *operation) {
    const struct ul_name *name = (struct ul_name *)(uintptr_t)operation->argument;
    ssize_t sent = UL_UNINTERRUPTED(
        sendto(operation->fd, (void *)(uintptr_t)operation->address, operation->length,
               MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)(name ? name->bytes : NULL),
               name ? name->length : 0));
    engine->shared.counters.submissions++;
    if (sent < 0)
        return ul_is_not_now(errno) ? UL_STEP_WAITS : -errno;
    engine->shared.counters.bytes_sent += (uint64_t)sent;
    return sent;
}

/* Files. -------------------------------------------------------------------------------- */

/* Until the other end is full, or the others are to have their share. */
static int64_t send_file(struct ul_engine *engine, struct ul_operation *operation) {
    for (int i = 0; i < SENDFILES_MAX; i++) {
        uint64_t left = operation->length - operation->done;
        size_t size = left < SENDFILE_BYTES_MAX ? (size_t)left : SENDFILE_BYTES_MAX;
        off_t offset = (off_t)(operation->address + operation->done);
        ssize_t sent = UL_UNINTERRUPTED(
            sendfile(operation->fd, (int)operation->argument, &offset, size));
        engine->shared.counters.submissions++;
        if (sent < 0)
            return ul_is_not_now(errno) ? UL_STEP_WAITS : -errno;
        operation->done += (uint64_t)sent;
        if (!sent || operation->done == operation->length)
            return (int64_t)operation->done;
    }
    return UL_STEP_PUT_OFF;
}

int64_t ul_call_sendfile(struct ul_engine *engine, struct ul_operation *operation) {
    return call_on_file(engine, operation, send_file);
}

/* Receives. ----------------------------------------------------------------------------- */

size_t ul_wanted_bytes(const struct ul_operation *operation, size_t size) {
    return operation->length && operation->length < size ? (size_t)operation->length : size;
}

static ssize_t read_some(int fd, void *memory, size_t size) {
    int flags = ul_blocking_suspend(fd);
    ssize_t received;
    if (flags < 0)
        return flags;
    received = UL_UNINTERRUPTED(read(fd, memory, size));
    if (received < 0)
        received = -errno;
    ul_blocking_restore(fd, flags);
    return received;
}

ssize_t ul_call_recv(const struct ul_operation *operation, void *memory, size_t size) {
    ssize_t received;
    if (operation->flags & UL_FILE)
        return read_some(operation->fd, memory, size);
    received = UL_UNINTERRUPTED(recv(operation->fd, memory, size, MSG_DONTWAIT));
    return received < 0 ? -errno : received;
}

int ul_call_readable(struct ul_engine *engine, const struct ul_operation *operation) {
    int size = 0;
    engine->shared.counters.submissions++;
    return ioctl(operation->fd, FIONREAD, &size) < 0 ? 0 : size;
}

ssize_t ul_call_recvmsg(const struct ul_operation *operation, struct ul_message *message,
                        size_t size) {
    struct iovec payload = {.iov_base = message + 1, .iov_len = size};
    struct msghdr header = {
        .msg_name = message->name,
        .msg_namelen = sizeof(message->name),
        .msg_iov = &payload,
        .msg_iovlen = 1,
    };
    ssize_t received = UL_UNINTERRUPTED(recvmsg(operation->fd, &header, MSG_DONTWAIT));
    if (received < 0)
        return -errno;
    message->name_length = header.msg_namelen;
    message->control_length = 0;
    message->payload_length = (uint32_t)received;
    message->flags = (uint32_t)header.msg_flags;
    return received;
}

/* Connections. -------------------------------------------------------------------------- */

/* A descriptor or -errno; fills the peer's name where it is wanted. */
static int accept_with_name(const struct ul_operation *operation) {
    struct ul_name *name = (struct ul_name *)(uintptr_t)operation->address;
    bool is_wanted = operation->flags & UL_ONCE && name;
    socklen_t length = sizeof(name->bytes);
    int fd = UL_UNINTERRUPTED(
        accept4(operation->fd, (struct sockaddr *)(is_wanted ? name->bytes : NULL),
                is_wanted ? &length : NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd < 0)
        return -errno;
    if (is_wanted)
        name->length = length < sizeof(name->bytes) ? length : sizeof(name->bytes);
    return fd;
}

/* Takes one connection. UL_STEP_PUT_OFF: there may be more; anything else ends the loop. */
static int64_t accept_one(struct ul_engine *engine, struct ul_operation *operation) {
    int fd = accept_with_name(operation);
    engine->shared.counters.submissions++;
    if (fd >= 0 && operation->flags & UL_ONCE)
        return fd;
    if (fd >= 0) {
        ul_call_give_connection(engine, operation, fd);
        return UL_STEP_PUT_OFF;
    }
    if (ul_is_not_now(-fd))
        return UL_STEP_WAITS;
    return ul_accept_error_passes(-fd) ? UL_STEP_PUT_OFF : fd;
}

int64_t ul_call_accept(struct ul_engine *engine, struct ul_operation *operation,
                       uint32_t room_needed) {
    int flags = ul_blocking_suspend(operation->fd);
    int64_t result = UL_STEP_PUT_OFF;
    if (flags < 0)
        return flags;
    for (int i = 0; i < ACCEPTS_MAX && result == UL_STEP_PUT_OFF; i++) {
        if (ul_event_room(engine) < room_needed)
            break;
        result = accept_one(engine, operation);
    }
    ul_blocking_restore(operation->fd, flags);
    return result == UL_STEP_PUT_OFF ? UL_STEP_WAITS : result;
}

/* What that event's address may be until the next turn. */
static struct ul_names *names_of_next_event(struct ul_engine *engine) {
    if (!engine->names)
        engine->names = calloc(engine->event_capacity, sizeof(*engine->names));
    return engine->names ? &engine->names[engine->shared.event_count] : NULL;
}

uint64_t ul_call_names(struct ul_engine *engine, int fd) {
    struct ul_names *names = names_of_next_event(engine);
    if (names) {
        socklen_t own = sizeof(names->own.bytes), peer = sizeof(names->peer.bytes);
        names->own.length = getsockname(fd, (struct sockaddr *)names->own.bytes, &own) ? 0 : own;
        names->peer.length =
            getpeername(fd, (struct sockaddr *)names->peer.bytes, &peer) ? 0 : peer;
    }
    return (uintptr_t)names;
}

void ul_call_give_connection(struct ul_engine *engine, const struct ul_operation *operation,
                             int fd) {
    ul_give(engine, operation, fd, ul_call_names(engine, fd));
}
