/* border_calls.c - the plain system calls of the engine, as a kernel may answer them.
 *
 * What is answered without the kernel changes nothing there: an error is of an operation that did
 * not take place. But for connect(2): interrupted, it goes on in the background, so it is really
 * made then.
 */
#define _GNU_SOURCE
#include "border_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

ssize_t __real_recv(int fd, void *memory, size_t size, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout);
ssize_t __real_read(int fd, void *memory, size_t size);
ssize_t __real_send(int fd, const void *memory, size_t size, int flags);
ssize_t __real_sendto(int fd, const void *memory, size_t size, int flags,
                      const struct sockaddr *name, socklen_t length);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __real_write(int fd, const void *memory, size_t size);
ssize_t __real_writev(int fd, const struct iovec *pieces, int count);
ssize_t __real_sendfile(int fd, int file, off_t *offset, size_t size);
int __real_accept4(int fd, struct sockaddr *name, socklen_t *length, int flags);
int __real_connect(int fd, const struct sockaddr *name, socklen_t length);
int __real_getsockname(int fd, struct sockaddr *name, socklen_t *length);
int __real_getpeername(int fd, struct sockaddr *name, socklen_t *length);
int __real_poll(struct pollfd *entries, nfds_t count, int timeout_ms);
int __real_epoll_ctl(int set, int action, int fd, struct epoll_event *event);
int __real_epoll_wait(int set, struct epoll_event *reports, int count, int timeout_ms);
long __real_syscall(long call, ...);

/* Whether the call is answered here: errno says how. EAGAIN is left to the kernel: it says what the
 * socket can do, and is believed until that changes. */
static bool is_refused(int32_t operation, int fd) {
    int error = ub_error_for(operation, fd);
    if (!error && ub_is_not_now())
        error = EINTR;
    if (error)
        errno = error;
    return error;
}

/* Receives. ----------------------------------------------------------------------------- */

ssize_t __wrap_recv(int fd, void *memory, size_t size, int flags) {
    return is_refused(UB_RECV, fd) ? -1 : __real_recv(fd, memory, ub_part_of(size), flags);
}

ssize_t __wrap_read(int fd, void *memory, size_t size) {
    return is_refused(UB_RECV, fd) ? -1 : __real_read(fd, memory, size);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    return is_refused(UB_RECVMSG, fd) ? -1 : __real_recvmsg(fd, message, flags);
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout) {
    if (is_refused(UB_RECVMSG, fd))
        return -1;
    return __real_recvmmsg(fd, messages, (unsigned)ub_part_of(count), flags, timeout);
}

/* Sends. -------------------------------------------------------------------------------- */

ssize_t __wrap_send(int fd, const void *memory, size_t size, int flags) {
    return is_refused(UB_SEND, fd) ? -1 : __real_send(fd, memory, ub_part_of(size), flags);
}

/* A datagram leaves whole. */
ssize_t __wrap_sendto(int fd, const void *memory, size_t size, int flags,
                      const struct sockaddr *name, socklen_t length) {
    return is_refused(UB_SENDMSG, fd) ? -1 : __real_sendto(fd, memory, size, flags, name, length);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    struct msghdr fewer = *message;
    fewer.msg_iovlen = ub_part_of(message->msg_iovlen);
    return is_refused(UB_SEND, fd) ? -1 : __real_sendmsg(fd, &fewer, flags);
}

ssize_t __wrap_write(int fd, const void *memory, size_t size) {
    return is_refused(UB_SEND, fd) ? -1 : __real_write(fd, memory, ub_part_of(size));
}

ssize_t __wrap_writev(int fd, const struct iovec *pieces, int count) {
    return is_refused(UB_SEND, fd) ? -1
                                   : __real_writev(fd, pieces, (int)ub_part_of((size_t)count));
}

ssize_t __wrap_sendfile(int fd, int file, off_t *offset, size_t size) {
    return is_refused(UB_SENDFILE, fd) ? -1
                                       : __real_sendfile(fd, file, offset, ub_part_of(size));
}

/* Connections. -------------------------------------------------------------------------- */

/* Passed over are a connection that died in the queue and an interrupted call: the next answer. */
int __wrap_accept4(int fd, struct sockaddr *name, socklen_t *length, int flags) {
    int error = ub_error_for(UB_ACCEPT, fd);
    if (!error && ub_is_not_now())
        error = ub_between(0, 1) ? ECONNABORTED : EINTR;
    if (!error)
        return __real_accept4(fd, name, length, flags);
    errno = error;
    return -1;
}

int __wrap_connect(int fd, const struct sockaddr *name, socklen_t length) {
    int error = ub_error_for(UB_CONNECT, fd), result = -1;
    if (!error)
        result = __real_connect(fd, name, length);
    if (!error && !result && ub_is_not_now())
        error = EINTR;
    if (!error)
        return result;
    errno = error;
    return -1;
}

static bool is_nameless(void) {
    if (!ub_happens(ub_temper.shortages, UB_KIND_NAMELESS))
        return false;
    errno = ENOTCONN;
    return true;
}

int __wrap_getsockname(int fd, struct sockaddr *name, socklen_t *length) {
    return is_nameless() ? -1 : __real_getsockname(fd, name, length);
}

int __wrap_getpeername(int fd, struct sockaddr *name, socklen_t *length) {
    return is_nameless() ? -1 : __real_getpeername(fd, name, length);
}

/* Waits. -------------------------------------------------------------------------------- */

static bool is_interrupted(void) {
    if (!ub_happens(ub_temper.interrupts, UB_KIND_WAIT_INTERRUPTED))
        return false;
    errno = EINTR;
    return true;
}

/* The kernel goes round: what is not reported now is reported first the next time. */
static int report_count(int count) {
    return ub_happens(ub_temper.delays / 2, UB_KIND_FEW_REPORTS) ? 1 : count;
}

/* The order of reports means nothing. */
static void shuffle(struct epoll_event *reports, int count) {
    for (int i = 1; i < count; i++) {
        int other = (int)ub_between(0, (uint32_t)i);
        struct epoll_event report = reports[i];
        if (!ub_happens(ub_temper.delays, UB_KIND_COMPLETIONS_SWAPPED))
            continue;
        reports[i] = reports[other];
        reports[other] = report;
    }
}

int __wrap_epoll_wait(int set, struct epoll_event *reports, int count, int timeout_ms) {
    if (is_interrupted())
        return -1;
    count = __real_epoll_wait(set, reports, report_count(count), timeout_ms);
    shuffle(reports, count);
    return count;
}

static long wait_in_ns(const long *arguments) {
    struct epoll_event *reports = (struct epoll_event *)arguments[1];
    long count;
    if (is_interrupted())
        return -1;
    count = __real_syscall(SYS_epoll_pwait2, arguments[0], reports,
                           (long)report_count((int)arguments[2]), arguments[3], arguments[4],
                           arguments[5]);
    shuffle(reports, (int)count);
    return count;
}

long __wrap_syscall(long call, ...) {
    long arguments[6];
    va_list list;
    va_start(list, call);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (call == SYS_epoll_pwait2)
        return wait_in_ns(arguments);
    return __real_syscall(call, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

int __wrap_poll(struct pollfd *entries, nfds_t count, int timeout_ms) {
    return is_interrupted() ? -1 : __real_poll(entries, count, timeout_ms);
}

int __wrap_epoll_ctl(int set, int action, int fd, struct epoll_event *event) {
    int error = action == EPOLL_CTL_ADD ? ub_error_for(UB_REGISTER, fd) : 0;
    if (!error)
        return __real_epoll_ctl(set, action, fd, event);
    errno = error;
    return -1;
}
