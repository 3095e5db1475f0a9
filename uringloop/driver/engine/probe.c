/* probe.c - what this kernel and this process allow, found by trying.
 *
 * Versions and feature bits tell what a kernel was built with, not what a seccomp filter, a
 * sysctl or a bug leaves of it. So each trial opens a real engine, small, and lets it do what
 * a loop would. One feature is added at a time to those that passed; so what is found has
 * been tried together.
 *
 * An engine hides whether the kernel really did what a feature means, because it has a
 * stand-in for everything. Two things give it away: a multishot request needs no further
 * submission, and incremental pieces lie side by side.
 */
#include "uring.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    WAIT_NS = 20000000,
    WAITS_MAX = 10, /* a signal may end one early */
    TOKEN = 1,
    PIECE_BYTES = 5,
    REQUESTS_MAX = 64, /* of the kernel's list */
    QUIET_BYTES = 4 * 1024 * 1024, /* more than a socket takes by default */
};

static const char PIECES[2][PIECE_BYTES] = {
    {'h', 'e', 'l', 'l', 'o'},
    {'a', 'g', 'a', 'i', 'n'},
};

static const struct ul_config SMALL = {
    .sq_entries = 8,
    .cq_entries = 16,
    .event_capacity = 8,
    .buffer_count = 2,
    .buffer_bytes = 4096,
    .message_count = 2,
};

/* Turns until there is an event; the first one is the answer. 0 or -errno. */
static int await_event(struct ul_engine *engine, struct ul_event *event) {
    for (int waits = 0; waits < WAITS_MAX; waits++) {
        int count = ul_turn(engine, WAIT_NS);
        if (count < 0)
            return count;
        if (count) {
            *event = engine->shared.events[0];
            return event->result < 0 ? (int)event->result : 0;
        }
    }
    return -ETIMEDOUT;
}

/* Starts an operation that goes on, and hands it to the kernel. */
static int begin_operation(struct ul_engine *engine, enum ul_opcode opcode, int fd) {
    struct ul_shared *shared = &engine->shared;
    int count;
    shared->commands[shared->command_count++] = (struct ul_command){
        .token = TOKEN,
        .fd = fd,
        .opcode = opcode,
    };
    count = ul_turn(engine, 0);
    return count > 0 ? (int)shared->events[0].result : count;
}

static int receive_piece(struct ul_engine *engine, int peer, const char *piece,
                         uint64_t *address) {
    struct ul_event event;
    int error;
    if (send(peer, piece, PIECE_BYTES, MSG_NOSIGNAL) != PIECE_BYTES)
        return -errno;
    error = await_event(engine, &event);
    if (error)
        return error;
    *address = event.address;
    if (event.result != PIECE_BYTES ||
        memcmp((const char *)(uintptr_t)event.address, piece, PIECE_BYTES))
        return -EBADMSG;
    return 0;
}

static int receive_on(struct ul_engine *engine, enum ul_opcode opcode, const int pair[2]) {
    bool goes_on = opcode == UL_OP_RECVMSG || engine->shared.features & UL_FEATURE_MULTISHOT_RECV;
    bool is_incremental =
        opcode == UL_OP_RECV && engine->shared.features & UL_FEATURE_INCREMENTAL_BUFFERS;
    uint64_t addresses[2], submissions;
    int error = begin_operation(engine, opcode, pair[0]);
    submissions = engine->shared.counters.submissions;
    for (int piece = 0; piece < 2 && !error; piece++)
        error = receive_piece(engine, pair[1], PIECES[piece], &addresses[piece]);
    if (error)
        return error;
    if (goes_on && engine->shared.counters.submissions > submissions)
        return -EOPNOTSUPP;
    if (is_incremental && addresses[1] != addresses[0] + PIECE_BYTES)
        return -EOPNOTSUPP;
    return 0;
}

static int accept_one(struct ul_engine *engine, const struct sockaddr_un *name, socklen_t size) {
    struct ul_event event;
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;
    if (client < 0)
        return -errno;
    error = connect(client, (const struct sockaddr *)name, size) ? -errno : 0;
    if (!error)
        error = await_event(engine, &event);
    if (!error)
        close((int)event.result);
    close(client);
    return error;
}

static int accept_on(struct ul_engine *engine, int listener) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(name);
    uint64_t submissions;
    int error;
    /* A name without bytes lets the kernel choose one that is in no file system. */
    if (bind(listener, (struct sockaddr *)&name, sizeof(name.sun_family)) ||
        listen(listener, 2) || getsockname(listener, (struct sockaddr *)&name, &size))
        return -errno;
    error = begin_operation(engine, UL_OP_ACCEPT, listener);
    submissions = engine->shared.counters.submissions;
    for (int connection = 0; connection < 2 && !error; connection++)
        error = accept_one(engine, &name, size);
    if (!error && engine->shared.counters.submissions > submissions)
        return -EOPNOTSUPP;
    return error;
}

/* The descriptors outlive the engine, as its operations need. */

static int try_receive(struct ul_engine *engine, enum ul_opcode opcode) {
    int type = opcode == UL_OP_RECVMSG ? SOCK_DGRAM : SOCK_STREAM;
    int pair[2];
    int error;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
        error = -errno;
        ul_close(engine);
        return error;
    }
    error = receive_on(engine, opcode, pair);
    ul_close(engine);
    close(pair[0]);
    close(pair[1]);
    return error;
}

static int try_accept(struct ul_engine *engine) {
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = listener < 0 ? -errno : accept_on(engine, listener);
    ul_close(engine);
    if (listener >= 0)
        close(listener);
    return error;
}

/* The first turn enables the ring and submits the poll for the wake descriptor. */
static int try_turn(struct ul_engine *engine, enum ul_probe_step *step) {
    int result = ul_turn(engine, 0);
    *step = engine->shared.counters.enters ? UL_PROBE_ENTER : UL_PROBE_REGISTER;
    if (result < 0)
        return result;
    return engine->shared.counters.submissions ? 0 : -EBUSY;
}

/* What the completion of one request tells, or 0 where it has none. */
static int ask_ring(struct ul_uring *uring, const struct io_uring_sqe *request) {
    struct io_uring_sqe *sqe = ul_ring_sqe(uring);
    struct io_uring_cqe cqe;
    bool is_answered = false;
    int result = 0;
    if (!sqe)
        return -EBUSY;
    *sqe = *request;
    ul_ring_enter(uring, 0, 0);
    while (ul_ring_cqe(uring, &cqe)) {
        if (cqe.user_data != request->user_data)
            continue;
        is_answered = true;
        result = cqe.res;
    }
    uring->requests -= !is_answered;
    return ul_ring_staged(uring) ? -EBUSY : result;
}

/* How many bytes a completion of a quiet send tells: 0 for no completion, or -errno. */
static int send_quietly(struct ul_uring *uring, int fd, const void *bytes, size_t size) {
    const struct io_uring_sqe request = {
        .opcode = IORING_OP_SEND,
        .fd = fd,
        .flags = IOSQE_CQE_SKIP_SUCCESS,
        .addr = (uintptr_t)bytes,
        .len = (uint32_t)size,
        .msg_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT,
        .user_data = TOKEN,
    };
    return ask_ring(uring, &request);
}

/* Nothing for a send that went well; the bytes for one that filled the socket; then EAGAIN. */
static int send_on(struct ul_uring *uring, int fd, const void *bytes) {
    int small = send_quietly(uring, fd, bytes, PIECE_BYTES);
    int partial = send_quietly(uring, fd, bytes, QUIET_BYTES);
    int none = send_quietly(uring, fd, bytes, QUIET_BYTES);
    return small || partial <= 0 || partial >= QUIET_BYTES || none != -EAGAIN ? -EOPNOTSUPP : 0;
}

static int try_quiet_send(struct ul_engine *engine) {
    void *bytes = ul_buffers_map(QUIET_BYTES); /* never written to: addresses, not memory */
    int pair[2];
    int error = bytes ? 0 : -ENOMEM;
    if (!error && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        error = -errno;
    if (!error) {
        error = send_on(engine->state, pair[0], bytes);
        close(pair[0]);
        close(pair[1]);
    }
    ul_close(engine);
    if (bytes)
        munmap(bytes, QUIET_BYTES);
    return error;
}

/* What no loop asks for is refused, and what a loop asks for is not. */
static int try_restrictions(struct ul_engine *engine) {
    const struct io_uring_sqe request = {.opcode = IORING_OP_NOP, .fd = -1, .user_data = TOKEN};
    if (ask_ring(engine->state, &request) == -EACCES)
        return try_receive(engine, UL_OP_RECV);
    ul_close(engine);
    return -EOPNOTSUPP;
}

/* A Unix socket refuses (EOPNOTSUPP), where a kernel that does not know the request answers EINVAL:
 * so it is known without a network. */
static int send_uncopied(struct ul_uring *uring, int fd) {
    struct iovec piece = {.iov_base = (void *)(uintptr_t)PIECES[0], .iov_len = PIECE_BYTES};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct io_uring_sqe *sqe = ul_ring_sqe(uring);
    struct io_uring_cqe cqe;
    int result = -EBUSY;
    if (!sqe)
        return result;
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_SENDMSG_ZC,
        .fd = fd,
        .addr = (uintptr_t)&message,
        .len = 1,
        .msg_flags = MSG_NOSIGNAL | MSG_WAITALL,
        .user_data = TOKEN,
    };
    ul_ring_enter(uring, 0, 0);
    while (ul_ring_cqe(uring, &cqe))
        if (cqe.user_data == TOKEN && !(cqe.flags & IORING_CQE_F_NOTIF))
            result = cqe.res;
    return result == -EOPNOTSUPP ? 0 : -EOPNOTSUPP;
}

static int try_zero_copy(struct ul_engine *engine) {
    int pair[2];
    int error = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        error = -errno;
    if (!error) {
        error = send_uncopied(engine->state, pair[0]);
        close(pair[0]);
        close(pair[1]);
    }
    ul_close(engine);
    return error;
}

/* What the feature that was added last is about. */
static int try_operation(struct ul_engine *engine, uint32_t features) {
    if (features & UL_FEATURE_RESTRICTED_RING)
        return try_restrictions(engine);
    if (features & UL_FEATURE_ZERO_COPY)
        return try_zero_copy(engine);
    if (features & UL_FEATURE_QUIET_SENDS)
        return try_quiet_send(engine);
    if (features & UL_FEATURE_MULTISHOT_RECVMSG)
        return try_receive(engine, UL_OP_RECVMSG);
    if (features & UL_FEATURE_MULTISHOT_ACCEPT)
        return try_accept(engine);
    return try_receive(engine, UL_OP_RECV);
}

static int try_features(uint32_t features, enum ul_probe_step *step) {
    struct ul_config config = SMALL;
    struct ul_engine *engine;
    int error;
    config.features = features;
    *step = UL_PROBE_SETUP;
    error = ul_open(&config, &engine);
    if (error)
        return error;
    error = try_turn(engine, step);
    if (!error && engine->shared.features != features)
        error = -EOPNOTSUPP;
    if (error) {
        ul_close(engine);
        return error;
    }
    *step = UL_PROBE_OPERATION;
    return try_operation(engine, features);
}

union known_requests {
    struct io_uring_probe head;
    char room[sizeof(struct io_uring_probe) + REQUESTS_MAX * sizeof(struct io_uring_probe_op)];
};

static bool knows(const union known_requests *known, const uint8_t *opcodes, size_t count) {
    for (size_t index = 0; index < count; index++)
        if (opcodes[index] > known->head.last_op ||
            !(known->head.ops[opcodes[index]].flags & IO_URING_OP_SUPPORTED))
            return false;
    return true;
}

/* A list, not a trial: what a request does to a file would be left behind. */
static uint32_t file_features(int fd, uint32_t disabled) {
    static const uint8_t FILES[] = {
        IORING_OP_OPENAT, IORING_OP_READ,  IORING_OP_WRITE,    IORING_OP_CLOSE,
        IORING_OP_FSYNC,  IORING_OP_STATX, IORING_OP_RENAMEAT, IORING_OP_UNLINKAT,
    };
    static const uint8_t NAMES[] = {IORING_OP_LINKAT, IORING_OP_MKDIRAT, IORING_OP_SYMLINKAT};
    static const uint8_t TRUNCATE[] = {UL_KERNEL_FTRUNCATE};
    union known_requests known = {.room = {0}};
    uint32_t features = 0;
    if (io_uring_register((unsigned int)fd, IORING_REGISTER_PROBE, &known, REQUESTS_MAX) < 0 ||
        !knows(&known, FILES, sizeof(FILES)))
        return 0;
    features |= UL_FEATURE_FILES;
    if (knows(&known, NAMES, sizeof(NAMES)))
        features |= UL_FEATURE_FILE_NAMES;
    if (knows(&known, TRUNCATE, sizeof(TRUNCATE)))
        features |= UL_FEATURE_FILE_TRUNCATE;
    return disabled & UL_FEATURE_FILES ? 0 : features & ~disabled;
}

static int ask_kernel(struct ul_probe_result *result, uint32_t disabled, uint32_t *files) {
    struct io_uring_params params = {0};
    int fd = io_uring_setup(2, &params);
    if (fd < 0)
        return fd;
    *files = file_features(fd, disabled);
    close(fd);
    result->kernel_features = params.features;
    return 0;
}

void ul_probe(uint32_t disabled, struct ul_probe_result *result) {
    enum ul_probe_step step = UL_PROBE_SETUP;
    uint32_t features = UL_FEATURE_IO_URING, files = 0;
    int error;
    *result = (struct ul_probe_result){.step = step};
    if (disabled & UL_FEATURE_IO_URING)
        return;
    error = ask_kernel(result, disabled, &files);
    if (!error)
        error = try_features(features, &step);
    if (error) {
        result->step = step;
        result->error = -error;
        return;
    }
    for (uint32_t feature = UL_FEATURE_SINGLE_ISSUER; feature <= UL_FEATURE_RESTRICTED_RING;
         feature <<= 1)
        if (!(disabled & feature) && !try_features(features | feature, &step))
            features |= feature;
    result->features = features | files;
    result->step = UL_PROBE_DONE;
}
