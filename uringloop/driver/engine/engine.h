/* engine.h - the contract between Python and the two engines that talk to the kernel.
 *
 * Python writes commands into an array that the engine owns, calls ul_turn() once per
 * loop turn, and reads events out of another array. uring.c answers through io_uring,
 * epoll.c through readiness; nothing above this header can tell which one it has.
 *
 * The engine holds no policy and never sees a Python object: it knows integers, file
 * descriptors and addresses. It allocates only when it is opened, when a table grows,
 * and for RELAY. There is no static state. Every function answers a negative errno when it fails.
 *
 * Tokens. Python names each operation by a token: bits 0-31 an index into a dense table (below
 * 2^22, else -ENOMEM), bits 32-55 a generation, bits 56-63 zero. A token is in use from its command until the
 * event without UL_MORE, its final event; there is exactly one final event for each
 * accepted command, also after a cancel. Events of a token never come after its final one.
 *
 * Ownership. Memory named by a command (address, length) belongs to the engine until the
 * final event. The memory named by an event belongs to Python until the next ul_turn().
 * The descriptor of a command must stay open until the final event.
 *
 * Threads. All calls on one engine come from one thread at a time; the thread of the first
 * ul_turn() is the only one that may call ul_turn() where io_uring binds the ring to it.
 */
#ifndef URINGLOOP_ENGINE_H
#define URINGLOOP_ENGINE_H

#include <stdint.h>

/* Operations. Every one of them can be the target of UL_OP_CANCEL. */
enum ul_opcode {
    /* fd listens. One event per connection: result is the new descriptor (CLOEXEC,
     * NONBLOCK), address is where a struct ul_names is (0: no memory for it), flags has
     * UL_MORE. Final: -errno (EMFILE, ECANCELED, ...); the
     * listener goes on queueing connections, so the command may be given again. A
     * connection that died in the queue (ECONNABORTED, EPROTO, network errors of
     * accept(2)) is passed over silently. After the final event no connection taken
     * by the kernel for this token may be left over: the engine delivers it before the
     * final event.
     * UL_ONCE: one connection; final and only event: its descriptor, or -errno. address
     * may then name a struct ul_name to be filled with the peer's name; 0: not wanted.
     * UL_SHARED, UL_ONCE: whoever else accepts on the socket is told of each connection too. */
    UL_OP_ACCEPT = 1,
    /* fd is a stream socket. One event per piece: result is its size in bytes (> 0),
     * address is where, UL_MORE is set. Final: 0 at end of file, or -errno. Data that
     * the kernel handed over before a cancel won is delivered, in order, before the
     * final event. Running out of receive buffers is met inside: the engine waits until
     * the next turn gave them back and starts again.
     * UL_ONCE: one piece of at most `length` (> 0) bytes; final and only event: its size
     * and where it is, 0 at end of file, or -errno. It may be shorter than what was there:
     * never longer than one receive buffer.
     * UL_FILE: fd is no socket (a pipe, a FIFO, a terminal), and is read by read(2); it
     * should be non-blocking. EIO of a terminal that was hung up comes as it is. */
    UL_OP_RECV = 2,
    /* fd is a stream socket; address and length (bytes, any 64-bit size) name the data,
     * or with UL_VECTORED an array of `length` struct iovec (which the engine may change).
     * Short sends are continued inside. Final and only event: result is the number of
     * bytes sent, all of them, or -errno. After -errno some bytes may have been sent;
     * event.address then tells how many. At most one send per descriptor at a time.
     * UL_FILE: fd is no socket, and is written by write(2); it should be non-blocking. A
     * broken pipe answers -EPIPE without a signal. */
    UL_OP_SEND = 3,
    /* fd is a socket; address and length (at most 128) name a sockaddr, which the engine
     * copies while it takes the command. Final and only event: 0 or -errno. UL_NAMES: with
     * 0, address is where a struct ul_names is (0: no memory for it). */
    UL_OP_CONNECT = 4,
    /* fd is anything poll(2) takes; argument is a mask of POLLIN, POLLOUT, POLLPRI,
     * POLLRDHUP, and nothing else. Level-triggered, once: final and only event: the ready mask
     * (> 0) or -errno. */
    UL_OP_POLL = 5,
    /* argument is the token to stop. Has no event of its own; the target answers with
     * its final event: -ECANCELED where the cancel won, its true result where it came
     * too late. A token that is not in use is passed over. A cancel also reaches a
     * command that was given before it and that no turn has taken: that command (but for CLOSE)
     * is not carried out, so its descriptor may be closed by then, and the number be another's.
     * `token` and `fd` are not used. */
    UL_OP_CANCEL = 6,
    /* fd is a socket whose messages have borders (datagrams, SOCK_SEQPACKET; a stream
     * works too). One event per message: result is the size of its payload in bytes (>= 0),
     * address is where the payload is, and the UL_MESSAGE_HEADER bytes before it are a
     * struct ul_message; UL_MORE is set. length is the most that is wanted of a payload, 0
     * for no limit; what does not fit (nor into a receive buffer of UL_MESSAGE_BYTES) is cut
     * off as recvmsg(2) does, with MSG_TRUNC in the header's flags. Final: -errno, also for
     * an error of an earlier send (ECONNREFUSED, EHOSTUNREACH, ...): the command may be given
     * again. Messages that the kernel handed over before a cancel won come before the final
     * event. An end of file is a payload of 0 bytes, again and again.
     * UL_ONCE: one message; final and only event. */
    UL_OP_RECVMSG = 7,
    /* fd is a socket; address and length name one message for it, and argument the
     * receiver's struct ul_name; 0: the socket is connected. A full socket is waited for.
     * Final and only event: how many bytes were sent, all of them (of a stream perhaps
     * fewer), or -errno. At most one SENDMSG per descriptor at a time. */
    UL_OP_SENDMSG = 8,
    /* fd is a stream socket (or, with UL_FILE, a pipe); argument is the descriptor of a
     * file that is sent from the byte offset `address` on, `length` bytes or, where that is
     * more, to its end. The file's position is neither used nor changed. Short sends are
     * continued inside, with other operations served in between. Final and only event: how
     * many bytes were sent, or -errno; event.address then tells how many were sent before.
     * EINVAL, ENOSYS, EOPNOTSUPP or ESPIPE after none: this file cannot be sent so. Counts as
     * the one send per descriptor. */
    UL_OP_SENDFILE = 9,
    /* One direction between two stream sockets: what comes from fd is sent to the descriptor
     * `argument`, inside, until fd ends; then the sending side of `argument` is shut
     * (SHUT_WR). length (> 0) is how many bytes may be held, received but not sent; where
     * that is reached, nothing more is received until some are sent. (A multishot receive
     * may bring more at once, before it is stopped: one that only small pieces led to.)
     * address names a struct ul_relay_state, which the engine keeps current. Final and only event: the
     * bytes sent, all that came, or -errno; state->failed then says which side failed, and
     * event.address how many bytes were sent. What was received and not sent is lost by then.
     * Counts as the receive of fd and as the one send of `argument`. Its progress does not
     * end the wait of a turn. */
    UL_OP_RELAY = 10,

    /* Requests about files, each as the system call that it is named after; io_uring only, and
     * epoll answers -EOPNOTSUPP. Paths end with a zero byte. `fd` is the directory that a path
     * begins in, AT_FDCWD for the working directory. The low half of `length` is the length or
     * mode named below, its high half the call's flags. One event, which is final: the call's
     * result or -errno. What has not begun can be cancelled; what waits (a FIFO) too. */

    /* openat(2): address is the path, length the mode and O_* flags. Result: the descriptor,
     * also of an open that a cancel came too late for. argument, where it is not 0, names a
     * struct ul_file_info to be filled. */
    UL_OP_OPEN = 11,
    /* pread(2), pwrite(2) of fd: address and length name the memory, argument is the offset;
     * UINT64_MAX is the file's own position, which moves then. Fewer bytes than asked for may
     * be done, as by the call. EAGAIN comes as it is. */
    UL_OP_READ = 12,
    UL_OP_WRITE = 13,
    /* close(2) of fd. Once the command is written, fd is the engine's, and is closed whatever
     * happens: no cancel reaches it, and neither does ul_close(). */
    UL_OP_CLOSE = 14,
    /* fsync(2) of fd; the flag IORING_FSYNC_DATASYNC makes it fdatasync(2). */
    UL_OP_FSYNC = 15,
    /* ftruncate(2) of fd: argument is the size in bytes. Linux 6.9. */
    UL_OP_TRUNCATE = 16,
    /* statx(2): address is the path, length the mask and AT_* flags, argument where the struct
     * statx is to be. */
    UL_OP_STAT = 17,
    /* renameat2(2), linkat(2): address is the old path, argument the new one, which begins in
     * the directory of length's low half. LINK: Linux 5.15. */
    UL_OP_RENAME = 18,
    UL_OP_LINK = 19,
    /* unlinkat(2): address is the path; the flag AT_REMOVEDIR makes it rmdir(2). */
    UL_OP_UNLINK = 20,
    /* mkdirat(2): address is the path, length the mode. Linux 5.15. */
    UL_OP_MKDIR = 21,
    /* symlinkat(2): address is what the link says, argument its own path. Linux 5.15. */
    UL_OP_SYMLINK = 22,
};

/* Flags of a command. */
enum {
    /* SEND: address is an array of struct iovec. */
    UL_VECTORED = 1,
    /* Nobody waits for this answer, unless it is an error. If it comes within the turn that
     * takes the command, ul_turn() does not return for its sake, and delivers it with the next
     * event that somebody waits for (or at the timeout). One in a later turn counts fully. */
    UL_LAZY = 2,
    /* ACCEPT, RECV, RECVMSG: one event, which is final. */
    UL_ONCE = 4,
    /* RECV, SEND, SENDFILE: fd is not a socket. */
    UL_FILE = 8,
    /* CONNECT: the socket's names are wanted. */
    UL_NAMES = 16,
    /* ACCEPT: other processes or loops may accept on the socket as well. Without it io_uring may
     * keep the news of a connection from them, and then be busy, be cancelled or be killed. */
    UL_SHARED = 32,
    /* OPEN: waits for the other end of a FIFO, as open(2) does. Without it the kernel's first
     * try is one with O_NONBLOCK: that opens a FIFO which nobody writes to, and answers -ENXIO
     * for one that nobody reads. */
    UL_WAITS = 64,
    /* SEND to a TCP or UDP socket, with UL_FEATURE_ZERO_COPY: the kernel may send out of the named
     * memory instead of copying it. Then there are two events. The first has UL_MORE and the
     * number of bytes, when all of them are with the socket: its next SEND may be given, and the
     * descriptor be closed. The final one, 0, when the kernel has let go of the memory: the peer
     * has it, or is gone. Without that feature, or where the socket refuses: as any other SEND. An
     * error is one final event, as ever, when the memory is free. */
    UL_ZERO_COPY = 128,
    /* RECV: nothing is received, that is left to Python. An event with an address of 0 (and
     * UL_MORE) says that there are `result` bytes, or more by now; it comes again in the next
     * turn for as long as there are any. Once the end of the stream or an error is in sight,
     * or where the number cannot be told, the command goes on as one without this flag. Not
     * with UL_ONCE or UL_FILE. */
    UL_READABLE = 256,
};

/* The sizes that both sides count on. */
enum {
    UL_NAME_BYTES = 128,       /* struct sockaddr_storage */
    UL_MESSAGE_HEADER = 144,   /* struct ul_message */
    UL_MESSAGE_BYTES = 262144, /* the longest payload that is received whole */
};

/* A socket's address, as accept(2) and sendmsg(2) have it. */
struct ul_name { /* 132 bytes */
    uint32_t length; /* of what is valid in bytes[]; 0: no name */
    uint8_t bytes[128];
};

/* Of a connection that ACCEPT or CONNECT brings. A length of 0: the kernel would not tell, as the peer
 * is gone. */
struct ul_names { /* 264 bytes */
    struct ul_name own;
    struct ul_name peer;
};

/* Before each payload of RECVMSG: the kernel's struct io_uring_recvmsg_out, then the name. */
struct ul_message { /* 144 bytes */
    uint32_t name_length; /* 0: the sender has no name; more than 128: cut off */
    uint32_t control_length; /* 0 */
    uint32_t payload_length; /* before it was cut off, where the kernel tells */
    uint32_t flags;          /* MSG_TRUNC: the payload was cut off */
    uint8_t name[128];
};

/* What an OPEN tells of its file, as the kernel knows it without asking a server. */
struct ul_file_info { /* 16 bytes */
    uint64_t size;        /* bytes */
    uint32_t mode;        /* st_mode; 0: it could not be told */
    uint32_t block_bytes; /* the size for reads and writes that the file system likes */
};

/* Which side of a RELAY failed. */
enum {
    UL_RELAY_RECEIVE = 1, /* fd, from which it receives */
    UL_RELAY_SEND = 2,    /* `argument`, to which it sends */
};

/* What a RELAY tells while it runs; zeros before. */
struct ul_relay_state { /* 32 bytes */
    uint64_t bytes;        /* given to the destination's socket */
    uint64_t bytes_held;   /* received and not given yet */
    int64_t progress_ns;   /* when bytes moved last: CLOCK_MONOTONIC_COARSE, 0: not yet */
    uint32_t buffers_held; /* the pieces of memory that bytes_held are in */
    uint32_t failed;       /* with a final -errno: UL_RELAY_*; 0: neither, as for a cancel */
};

/* Flags of an event. */
enum {
    UL_MORE = 1, /* the operation goes on; without it this is the final event */
};

struct ul_engine; /* opaque */

struct ul_command { /* 48 bytes */
    uint64_t token;
    uint64_t address;
    uint64_t length;
    uint64_t argument;
    int32_t fd;
    uint32_t flags;
    uint32_t opcode;
    uint32_t reserved; /* 0 */
};

struct ul_event { /* 32 bytes */
    uint64_t token;
    uint64_t address;
    int64_t result;
    uint32_t flags;
    uint32_t opcode; /* the operation's */
};

/* What an engine counted since it was opened. */
struct ul_counters {
    uint64_t turns;            /* calls of ul_turn */
    uint64_t enters;           /* io_uring_enter or epoll_wait calls */
    uint64_t commands;         /* commands taken */
    uint64_t events;           /* events given */
    uint64_t submissions;      /* SQEs submitted; epoll: system calls tried for operations */
    uint64_t completions;      /* CQEs seen; epoll: readiness reports seen */
    uint64_t buffer_shortages; /* receives stopped by ENOBUFS */
    uint64_t overflows;        /* turns that found the completion queue overflowing */
    uint64_t bytes_received; /* by the engine: not what Python receives or sends itself */
    uint64_t bytes_sent;
    uint64_t bytes_relayed;
};

/* Two windows of at least so many seconds tell of the recent past. */
enum { UL_HELD_WINDOW_S = 10 };

/* One of them. What becomes ready while Python runs is late by what is left of that time; so a
 * stretch of t seconds makes t²/2 of lateness, and lateness over a window's length is how late
 * something was that became ready at any moment of it. */
struct ul_held_window {
    int64_t begin_ns;   /* CLOCK_MONOTONIC; 0: there was none yet */
    int64_t longest_ns; /* of the stretches that ended in this window */
    double squares_ns2; /* the sum of t² of all of them, in nanoseconds² */
};

/* How long Python kept the loop away from the kernel: the stretches between two turns. */
struct ul_held {
    int64_t since_ns;  /* CLOCK_MONOTONIC: when the last turn ended; 0: in a turn, or none was.
                        * Python sets it to 0 where the next stretch is not the loop's */
    uint64_t total_ns; /* of all stretches */
    struct ul_held_window window;
    struct ul_held_window before; /* the window before that */
};

/* The part of an engine that Python reads and writes. It never moves; the arrays move
 * only in ul_grow_commands(). */
struct ul_shared {
    struct ul_command *commands;
    struct ul_event *events;
    uint32_t command_capacity;
    uint32_t command_count; /* Python writes commands[command_count++]; ul_turn sets 0, or
                             * what a full events[] made it leave for the next turn */
    uint32_t event_count;   /* set by ul_turn */
    uint32_t in_flight;     /* operations without their final event */
    uint32_t buffers_held;  /* receive buffers (or parts) that events of this turn name */
    uint32_t features;      /* what this engine uses: UL_FEATURE_* */
    uint32_t relay_buffers_held; /* pieces of memory that hold bytes of RELAYs */
    uint32_t reserved;
    struct ul_counters counters;
    struct ul_held held;
};

/* What may be used, as bits. A kernel has it if a trial proved it. */
enum {
    UL_FEATURE_IO_URING = 1u << 0,            /* this is uring.c; otherwise epoll.c */
    UL_FEATURE_SINGLE_ISSUER = 1u << 1,       /* 6.0: the ring belongs to one thread */
    UL_FEATURE_DEFER_TASKRUN = 1u << 2,       /* 6.1: completions run only in our enter */
    UL_FEATURE_COOP_TASKRUN = 1u << 3,        /* 5.19: no interrupt for completions */
    UL_FEATURE_REGISTERED_RING = 1u << 4,     /* 5.18: enter without a file look-up */
    UL_FEATURE_BUFFER_RING = 1u << 5,         /* 5.19: provided-buffer rings */
    UL_FEATURE_INCREMENTAL_BUFFERS = 1u << 6, /* 6.12: a buffer is consumed piece by piece */
    UL_FEATURE_MULTISHOT_RECV = 1u << 7,      /* 6.0, needs BUFFER_RING */
    UL_FEATURE_MULTISHOT_ACCEPT = 1u << 8,    /* 5.19 */
    UL_FEATURE_MULTISHOT_RECVMSG = 1u << 9,   /* 6.0, needs BUFFER_RING */
    UL_FEATURE_QUIET_SENDS = 1u << 10,        /* 6.1: no completion of a send that went well */
    UL_FEATURE_RESTRICTED_RING = 1u << 12,    /* 5.10: the ring refuses what no loop asks for */
    /* Requests about files. The engine does not look at these; they are for whoever asks. */
    UL_FEATURE_FILES = 1u << 13,         /* 5.11: all but the following */
    UL_FEATURE_FILE_NAMES = 1u << 14,    /* 5.15: LINK, MKDIR, SYMLINK */
    UL_FEATURE_FILE_TRUNCATE = 1u << 15, /* 6.9: TRUNCATE */
    UL_FEATURE_ZERO_COPY = 1u << 11,          /* 6.1: SEND out of the caller's memory */
};

/* How to open an engine. Zero in a size means the default. */
struct ul_config {
    uint32_t features;       /* wanted: what ul_probe found, less what is switched off */
    uint32_t sq_entries;     /* default 256 */
    uint32_t cq_entries;     /* default 4096 */
    uint32_t event_capacity; /* events per turn at most, default 1024 */
    uint32_t buffer_count;   /* receive buffers, a power of two; default by feature */
    uint32_t buffer_bytes;   /* size of one; default by feature */
    uint32_t message_count;  /* receive buffers of RECVMSG, a power of two; made at need */
};

/* Opens an engine: io_uring when config->features has UL_FEATURE_IO_URING, else epoll.
 * A ring is created disabled and is enabled by the first ul_turn, in its thread. ENOMEM is
 * met by waiting, 50 ms at most, and then by smaller queues. Returns 0 and sets *engine, or
 * -errno. */
int ul_open(const struct ul_config *config, struct ul_engine **engine);

/* The shared part; valid until ul_close. */
struct ul_shared *ul_shared_of(struct ul_engine *engine);

/* Doubles commands[]; Python calls it when command_count == command_capacity.
 * Returns 0 or -ENOMEM, and then nothing has changed. */
int ul_grow_commands(struct ul_engine *engine);

/* One turn: give back the buffers that the last turn's events named, take all commands,
 * submit, wait, gather events.
 *   timeout_ns  how long to wait for the first event; 0 only looks, negative is for ever.
 * Returns the number of events, 0 at the timeout, after ul_wake() and after a signal.
 * More events than event_capacity stay for the next turn, which then does not wait.
 * -EEXIST: called from a second thread while the ring is bound to the first.
 * -EBADF: after ul_abandon. Resource shortages (EAGAIN, EBUSY, ENOMEM of enter) are not
 * returned: the turn gives what it has and the work goes on in the next one. */
int ul_turn(struct ul_engine *engine, int64_t timeout_ns);

/* The descriptor (an eventfd) to wake a waiting ul_turn by: writing any 8-byte number to it,
 * from any thread or signal handler, ends the wait. The engine reads it empty itself. */
int ul_wake_descriptor(struct ul_engine *engine);

/* Stops all operations without events, waits until the kernel let go of every buffer and
 * descriptor, frees everything. Only ul_close may run in a thread other than the loop's. */
void ul_close(struct ul_engine *engine);

/* In the child after fork: closes the descriptors, touches neither the ring nor what it
 * maps. Then only ul_close may follow, and ul_turn answers -EBADF. */
void ul_abandon(struct ul_engine *engine);

/* One trial: which step, and what it answered. */
enum ul_probe_step {
    UL_PROBE_SETUP = 0,    /* io_uring_setup */
    UL_PROBE_REGISTER = 1, /* io_uring_register */
    UL_PROBE_ENTER = 2,    /* io_uring_enter with one SQE */
    UL_PROBE_OPERATION = 3, /* a receive on a socketpair */
    UL_PROBE_DONE = 4,
};

struct ul_probe_result {
    uint32_t features;        /* every UL_FEATURE_* whose trial passed */
    uint32_t step;            /* UL_PROBE_DONE, or the step that failed */
    int32_t error;            /* 0, or the positive errno of that step */
    uint32_t kernel_features; /* io_uring_params.features as the kernel said them */
};

/* Tries io_uring for real: setup flags, a receive on a socketpair, buffer rings, multishot
 * receive and accept. Which requests about files there are, the kernel's own list tells
 * (IORING_REGISTER_PROBE). `disabled` names features not to try; with UL_FEATURE_IO_URING none is
 * (step UL_PROBE_SETUP, error 0). Never fails: the
 * record says what happened. Takes about a millisecond. */
void ul_probe(uint32_t disabled, struct ul_probe_result *result);

#endif
