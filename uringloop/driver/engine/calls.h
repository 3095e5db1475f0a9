/* calls.h - one try of an operation by a system call that does not wait.
 *
 * Both engines use these: io_uring has no request that does the same better (calls.c says
 * why for each), and epoll has nothing else. A try never blocks, keeps its progress in the
 * operation, and knows nothing of readiness or of other operations.
 */
#ifndef URINGLOOP_CALLS_H
#define URINGLOOP_CALLS_H

#include "internal.h"

#include <errno.h>
#include <sys/types.h>

/* What a try answers in place of a final result. */
#define UL_STEP_WAITS INT64_MIN         /* the descriptor is not ready (any more) */
#define UL_STEP_PUT_OFF (INT64_MIN + 1) /* it is, but others are to have their share first */

/* SEND with UL_FILE. operation->done counts. */
int64_t ul_call_write(struct ul_engine *engine, struct ul_operation *operation);

/* SENDMSG. Never put off. */
int64_t ul_call_sendmsg(struct ul_engine *engine, const struct ul_operation *operation);

/* SENDFILE. operation->done counts. */
int64_t ul_call_sendfile(struct ul_engine *engine, struct ul_operation *operation);

/* RECV: at most `size` bytes by recv(2), or read(2) with UL_FILE. Bytes or -errno. */
ssize_t ul_call_recv(const struct ul_operation *operation, void *memory, size_t size);

/* RECV with UL_READABLE: how many bytes there are; 0: none, or it cannot be told. */
int ul_call_readable(struct ul_engine *engine, const struct ul_operation *operation);

/* RECVMSG: a struct ul_message and `size` bytes of payload, or fewer, to `message`. The
 * payload's bytes, or -errno. */
ssize_t ul_call_recvmsg(const struct ul_operation *operation, struct ul_message *message,
                        size_t size);

/* Where the next event may have the names of `fd`, a struct ul_names; 0: no memory. */
uint64_t ul_call_names(struct ul_engine *engine, int fd);

/* ACCEPT: gives connections until there is none, or others are to have their share, or there is no
 * room for `room_needed` events. A descriptor (UL_ONCE), UL_STEP_WAITS or -errno. */
int64_t ul_call_accept(struct ul_engine *engine, struct ul_operation *operation,
                       uint32_t room_needed);

/* Gives an ACCEPT's connection, with its names. */
void ul_call_give_connection(struct ul_engine *engine, const struct ul_operation *operation,
                             int fd);

/* How many of `size` bytes a RECVMSG, or a RECV with UL_ONCE, wants at most. */
size_t ul_wanted_bytes(const struct ul_operation *operation, size_t size);

/* Makes fd non-blocking; answers its flags before, for ul_blocking_restore(), or -errno. */
int ul_blocking_suspend(int fd);
void ul_blocking_restore(int fd, int flags);

/* A system call that a signal interrupted is made again at once: it does not wait, and "not now"
 * would be believed until something changes (polls that misled, EPOLLET). */
#define UL_UNINTERRUPTED(call)                                                                   \
    ({                                                                                           \
        __typeof__(call) ul_answer_;                                                             \
        do                                                                                       \
            ul_answer_ = (call);                                                                 \
        while (ul_answer_ < 0 && errno == EINTR);                                                \
        ul_answer_;                                                                              \
    })

static inline bool ul_is_not_now(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

#endif
