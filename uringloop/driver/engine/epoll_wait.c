/* epoll_wait.c - how long the readiness engine sleeps: deadlines and the two calls that wait. */
#include "epoll.h"
#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* Linux 5.11; the same number wherever it matters */
#endif

enum { NS_PER_MS = 1000000 };

int64_t ul_deadline_after(int64_t begin_ns, int64_t timeout_ns) {
    if (timeout_ns <= 0)
        return timeout_ns;
    return timeout_ns < INT64_MAX - begin_ns ? begin_ns + timeout_ns : INT64_MAX;
}

int64_t ul_time_left(int64_t deadline_ns) {
    if (deadline_ns <= 0)
        return deadline_ns;
    int64_t left = deadline_ns - ul_now_ns();
    return left > 0 ? left : 0;
}

/* epoll_pwait2, in nanoseconds. By number, as a C library may be older than the kernel. */
static int wait_ns(struct ul_readiness *readiness, int64_t timeout_ns) {
    struct {
        int64_t seconds, nanoseconds;
    } timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int)syscall(SYS_epoll_pwait2, readiness->epoll_fd, readiness->reports,
                        UL_REPORTS_MAX, timeout_ns < 0 ? NULL : &timeout, NULL, (size_t)0);
}

/* epoll_wait, in milliseconds. Rounded up, so that no timer fires early. */
static int wait_ms(struct ul_readiness *readiness, int64_t timeout_ns) {
    int64_t timeout_ms = -1;
    if (timeout_ns >= 0)
        timeout_ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    if (timeout_ms > INT_MAX)
        timeout_ms = INT_MAX;
    return epoll_wait(readiness->epoll_fd, readiness->reports, UL_REPORTS_MAX, (int)timeout_ms);
}

int ul_epoll_wait(struct ul_readiness *readiness, int64_t timeout_ns) {
    bool is_exact = timeout_ns <= 0; /* in any unit: the older call is the cheaper one */
    int count = readiness->has_pwait2 && !is_exact ? wait_ns(readiness, timeout_ns)
                                                   : wait_ms(readiness, timeout_ns);
    return count < 0 ? -errno : count;
}

void ul_epoll_wait_probe(struct ul_readiness *readiness) {
    readiness->has_pwait2 = wait_ns(readiness, 0) == 0;
}
