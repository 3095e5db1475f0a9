/* uring.h - what the files of the io_uring backend share: the ring, its lists, its buffers.
 *
 * ring.c knows the two queues, restrictions.c what may pass them, requests.c the SQEs,
 * buffers.c the receive memory, uring.c the operations and the turn, steps.c those operations that
 * no request of the kernel carries out, send_uring.c what SEND is answered, files.c requests about
 * files, lifetime.c how all of it begins and ends. Nobody else includes this, but probe.c for the
 * constants.
 */
#ifndef URINGLOOP_URING_H
#define URINGLOOP_URING_H

#include "internal.h"
#include "relay_pool.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/socket.h>

/* Constants newer than liburing 2.3. */
#define UL_KERNEL_FTRUNCATE 55 /* IORING_OP_FTRUNCATE, 6.9 */
#ifndef IOU_PBUF_RING_INC
#define IOU_PBUF_RING_INC 2 /* 6.12 */
#endif
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4) /* 6.12 */
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17) /* 6.15 */
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7) /* 6.15 */
#endif

/* What the engine relies on without a stand-in: all there since 5.13. The last one stands for
 * polls that go on (IORING_POLL_ADD_MULTI), which came with it and have no bit of their own. */
#define UL_KERNEL_FEATURES_NEEDED                                                                \
    (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL |                    \
     IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS)

enum {
    UL_ROOM_NEEDED = 2, /* events that one completion may bring: a piece, and the end */
    UL_MESSAGE_ROOM = UL_MESSAGE_HEADER + UL_MESSAGE_BYTES,
};

/* The kernel's struct io_uring_buf_reg; its `flags` is padding in liburing 2.3. */
struct ul_buffer_registration {
    uint64_t ring_address;
    uint32_t ring_entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

/* Receive memory: `count` buffers of `size` bytes, one after the other. With a buffer ring
 * the kernel picks them; without, they are one scratch area, filled from the start in each
 * turn. */
struct ul_buffers {
    char *memory;                   /* NULL: not mapped yet */
    struct io_uring_buf_ring *ring; /* NULL: scratch */
    struct ul_operation starved;    /* list: receives that wait for a buffer */
    uint32_t *offsets;              /* of each buffer: bytes already given to Python */
    uint16_t *used;                 /* buffers to give back in the next turn */
    uint32_t used_count;
    uint32_t available; /* buffers that the kernel may pick */
    uint32_t pieces;    /* receives that one buffer is likely to serve */
    uint32_t count;
    uint32_t size;
    uint16_t group; /* the kernel's name of the ring */
    size_t scratch_used;
};

/* A sockaddr that a CONNECT copied; lists of free ones are linked through `next`. */
struct ul_address {
    struct ul_address *next;
    char bytes[UL_SOCKADDR_MAX];
};

struct ul_address_block;

struct ul_uring {
    struct io_uring ring;
    struct ul_engine *engine;
    int enter_fd;         /* the ring's descriptor, or its index in the thread's table */
    uint32_t enter_flags; /* of every enter */
    uint32_t features;    /* UL_FEATURE_* in use */
    uint32_t requests;    /* SQEs staged or submitted that still owe their last CQE */
    bool is_enabled;
    bool is_registered; /* enter_fd is an index, which only `thread` may use */
    bool wake_is_armed;
    bool is_woken;          /* in this turn */
    pthread_t thread;       /* the one that enabled the ring */
    pid_t thread_id;
    struct msghdr *headers; /* one for each SQE: a vectored send reads it at submission */
    struct ul_operation pending; /* list: wait for an SQE */
    struct ul_operation resting; /* list: ready, but the others are to have their share first */
    struct ul_operation retried; /* list: tried again by the clock */
    int64_t retry_ns;            /* until the next time */
    struct ul_buffers buffers;    /* of RECV */
    struct ul_buffers messages;   /* of multishot RECVMSG; mapped at need */
    struct ul_buffers spare;      /* scratch of what steps.c receives; mapped at need */
    uint32_t message_count;       /* as configured, or 0 */
    struct ul_address *free_addresses;
    struct ul_address_block *address_blocks;
    struct ul_relay_pool relay_pool;  /* mapped at need */
};

/* Whose CQE it is: bits 56-63 of user_data. The bits below are the operation's token. */
enum ul_tag {
    UL_TAG_MAIN = 0,   /* the operation itself */
    UL_TAG_POLL = 1,   /* its wait for readiness */
    UL_TAG_CANCEL = 2, /* the answer to a cancel of it */
    UL_TAG_WAKE = 3,   /* the wake descriptor */
    UL_TAG_SEND = 4,   /* RELAY: its quiet send; its receive is MAIN */
    UL_TAG_SHIFT = 56,
};

static inline uint64_t ul_tagged(uint64_t token, enum ul_tag tag) {
    return token | (uint64_t)tag << UL_TAG_SHIFT;
}

/* Where an operation is. In MAIN and POLL it is in the list `pending` too if its cancel waits
 * for an SQE. */
enum ul_phase {
    UL_PHASE_NONE = 0,
    UL_PHASE_MAIN,         /* its own request is staged or in the kernel */
    UL_PHASE_POLL,         /* a poll for it is */
    UL_PHASE_MAIN_PENDING, /* in the list `pending`, to become MAIN */
    UL_PHASE_POLL_PENDING, /* in the list `pending`, to become POLL */
    UL_PHASE_STARVED,      /* in a list `starved` */
    UL_PHASE_RESTING,      /* in the list `resting` or `retried` */
    UL_PHASE_HELD,         /* is over but for its memory: `argument` is the final result */
};

static inline bool ul_is_in_kernel(const struct ul_operation *operation) {
    return operation->phase == UL_PHASE_MAIN || operation->phase == UL_PHASE_POLL;
}

/* What steps.c knows about an operation's readiness. */
enum ul_readiness_of {
    UL_READINESS_TRUE = 0, /* a poll tells it */
    UL_READINESS_MISLED,   /* a poll told it, but it was not so: only changes count */
    UL_READINESS_GOES_ON,  /* the poll for changes is being cancelled: go on then */
    UL_READINESS_ENDS,     /* the same, and then end; `argument` has the result */
};

static inline enum ul_tag ul_tag_of(const struct ul_operation *operation) {
    return operation->phase == UL_PHASE_POLL ? UL_TAG_POLL : UL_TAG_MAIN;
}

static inline bool ul_has(const struct ul_uring *uring, uint32_t feature) {
    return uring->features & feature;
}

/* Lists of operations: circular, the head is an operation without meaning. ---------------- */

static inline void ul_list_clear(struct ul_operation *head) {
    head->next = head->prior = head;
}

static inline bool ul_list_is_empty(const struct ul_operation *head) {
    return head->next == head;
}

static inline void ul_list_append(struct ul_operation *head, struct ul_operation *operation) {
    operation->prior = head->prior;
    operation->next = head;
    head->prior->next = operation;
    head->prior = operation;
}

/* Also for an operation that is in no list. */
static inline void ul_list_remove(struct ul_operation *operation) {
    if (!operation->next)
        return;
    operation->prior->next = operation->next;
    operation->next->prior = operation->prior;
    operation->next = operation->prior = NULL;
}

/* What io_uring_enter answers when it should be asked again. */
static inline bool ul_is_transient(int result) {
    return result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY ||
           result == -ENOMEM;
}

/* ring.c -------------------------------------------------------------------------------- */

/* Creates the ring, disabled. 0 or -errno. */
int ul_ring_open(struct ul_uring *uring, const struct ul_config *config);

/* restrictions.c: from the moment it is enabled the ring takes nothing but what its features need.
 * Once, and only while it is disabled. 0 or -errno. */
int ul_ring_restrict(struct ul_uring *uring);

/* Enables it in the calling thread, which owns it from now on. 0 or -errno. */
int ul_ring_enable(struct ul_uring *uring);

/* Whether the calling thread may enter the ring. */
bool ul_ring_is_ours(struct ul_uring *uring);

/* Submits what is staged, waits for `wait_count` CQEs or until timeout_ns (negative: for
 * ever), lets the kernel post what it has. Returns the SQEs submitted, or -errno. */
int ul_ring_enter(struct ul_uring *uring, uint32_t wait_count, int64_t timeout_ns);

/* The same without submitting, for when the kernel refuses to take more. */
int ul_ring_wait(struct ul_uring *uring, int64_t timeout_ns);

/* Unmaps and closes the ring. Its requests should be over. */
void ul_ring_close(struct ul_uring *uring);

/* An SQE for an otherwise full queue: submits what is staged. NULL when that failed. */
struct io_uring_sqe *ul_ring_make_room(struct ul_uring *uring);

static inline uint32_t ul_ring_staged(const struct ul_uring *uring) {
    return uring->ring.sq.sqe_tail - io_uring_smp_load_acquire(uring->ring.sq.khead);
}

/* An SQE to fill, or NULL while the kernel takes none. It owes a CQE. */
static inline struct io_uring_sqe *ul_ring_sqe(struct ul_uring *uring) {
    struct io_uring_sq *queue = &uring->ring.sq;
    if (ul_ring_staged(uring) >= queue->ring_entries)
        return ul_ring_make_room(uring);
    uring->requests++;
    return &queue->sqes[queue->sqe_tail++ & queue->ring_mask];
}

/* Takes the oldest CQE out of the queue; false when there is none. */
static inline bool ul_ring_cqe(struct ul_uring *uring, struct io_uring_cqe *cqe) {
    struct io_uring_cq *queue = &uring->ring.cq;
    uint32_t head = *queue->khead;
    if (head == io_uring_smp_load_acquire(queue->ktail))
        return false;
    *cqe = queue->cqes[head & queue->ring_mask];
    io_uring_smp_store_release(queue->khead, head + 1);
    uring->requests -= !(cqe->flags & IORING_CQE_F_MORE);
    return true;
}

static inline bool ul_ring_has_cqe(const struct ul_uring *uring) {
    return *uring->ring.cq.khead != io_uring_smp_load_acquire(uring->ring.cq.ktail);
}

/* IORING_SQ_*: what the kernel has to say. */
static inline uint32_t ul_ring_flags(const struct ul_uring *uring) {
    return IO_URING_READ_ONCE(*uring->ring.sq.kflags);
}

/* uring.c ------------------------------------------------------------------------------- */

/* Moves an operation on by one SQE, as its phase says. */
void ul_stage(struct ul_uring *uring, struct ul_operation *operation);

/* The same into a new phase; a cancelled operation ends instead. */
void ul_stage_as(struct ul_uring *uring, struct ul_operation *operation, enum ul_phase phase);

/* The final event. */
void ul_conclude(struct ul_uring *uring, struct ul_operation *operation, int64_t result,
                 uint64_t address);

/* Waits for a buffer, which the next turn may give back. */
void ul_starve(struct ul_uring *uring, struct ul_buffers *buffers,
               struct ul_operation *operation);

/* Begins, or goes on. */
void ul_run(struct ul_uring *uring, struct ul_operation *operation);

/* The end, unless the answer only says: not now. */
void ul_finish_or_retry(struct ul_uring *uring, struct ul_operation *operation, int result);

extern const struct ul_backend UL_URING_BACKEND;

/* send_uring.c -------------------------------------------------------------------------- */

void ul_send_completed(struct ul_uring *uring, struct ul_operation *operation,
                       const struct io_uring_cqe *cqe);

/* It is over, but the kernel still holds its memory: the final event has to wait. */
void ul_send_hold(struct ul_uring *uring, struct ul_operation *operation, int64_t result);

/* steps.c ------------------------------------------------------------------------------- */

/* Whether steps.c carries out the operation: with a system call, when it is ready. */
static inline bool ul_is_stepped(const struct ul_uring *uring, const struct ul_operation *operation) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        return operation->flags & (UL_SHARED | UL_ONCE);
    case UL_OP_RECV:
        return operation->flags & (UL_FILE | UL_READABLE) || !ul_has(uring, UL_FEATURE_BUFFER_RING);
    case UL_OP_SEND:
        return operation->flags & UL_FILE;
    case UL_OP_RECVMSG:
        return operation->flags & UL_ONCE || operation->length ||
               !ul_has(uring, UL_FEATURE_MULTISHOT_RECVMSG);
    case UL_OP_SENDMSG:
    case UL_OP_SENDFILE:
        return true;
    case UL_OP_RELAY:
        return ul_relay_of(operation)->is_plain;
    default:
        return false;
    }
}

/* Begins, or goes on. Only where there is room for an event. */
void ul_step(struct ul_uring *uring, struct ul_operation *operation);

/* A poll for it was answered. */
void ul_step_ready(struct ul_uring *uring, struct ul_operation *operation,
                   const struct io_uring_cqe *cqe);

/* Goes on with those that rest, as far as there is room for events. */
void ul_step_resting(struct ul_uring *uring);

/* Goes on with those that the clock wakes, likewise. */
void ul_step_retried(struct ul_uring *uring);

/* requests.c ---------------------------------------------------------------------------- */

/* CONNECT: copies the sockaddr, names the copy in operation->argument. False: no memory. */
bool ul_request_copy_address(struct ul_uring *uring, struct ul_operation *operation);
void ul_request_release_address(struct ul_uring *uring, struct ul_operation *operation);
void ul_request_free_addresses(struct ul_uring *uring);

/* The operation itself. */
void ul_request_main(struct ul_uring *uring, const struct ul_operation *operation,
                     struct io_uring_sqe *sqe);

/* A poll until the operation may be tried again; for one that was misled, a multishot. */
void ul_request_readiness(const struct ul_operation *operation, struct io_uring_sqe *sqe);

/* The cancel of the request that is tagged so. */
void ul_request_cancel(uint64_t token, enum ul_tag tag, struct io_uring_sqe *sqe);

/* What is cancelled and still staged (an enter left it behind, or the turn began with it) is not to
 * go out: its descriptor may be closed by now, and the number be another's. Without a descriptor
 * it ends with EBADF. */
void ul_request_spoil(struct ul_uring *uring, uint64_t user_data);

void ul_request_poll(int fd, uint32_t mask, uint64_t user_data, struct io_uring_sqe *sqe);

/* files.c ------------------------------------------------------------------------------- */

void ul_file_request(const struct ul_operation *operation, struct io_uring_sqe *sqe);
void ul_file_completed(struct ul_uring *uring, struct ul_operation *operation, int result);

/* At the end of the engine: carries out each CLOSE that the kernel was not given. */
void ul_file_close_all(struct ul_uring *uring);

/* buffers.c ----------------------------------------------------------------------------- */

/* Maps the memory of RECV and, if the features say so, hands it to the ring. 0 or -errno. */
int ul_buffers_open(struct ul_uring *uring, const struct ul_config *config);

/* Those of multishot RECVMSG and of what steps.c receives, unless they are there already.
 * 0 or -errno, and then nothing has changed. */
int ul_buffers_open_messages(struct ul_uring *uring);
int ul_buffers_open_spare(struct ul_uring *uring);

/* Accounts the buffer that a CQE names and returns where its data is. */
uint64_t ul_buffers_take(struct ul_buffers *buffers, const struct io_uring_cqe *cqe);

/* Gives all used buffers back to the kernel, empties the scratch area. */
void ul_buffers_give_back(struct ul_buffers *buffers);

/* Where a receive without buffer ring may put up to *size bytes; NULL: not in this turn. */
char *ul_buffers_scratch(struct ul_buffers *buffers, size_t *size);

/* Where it may put `size` bytes, aligned for a struct ul_message; NULL: not in this turn. */
char *ul_buffers_scratch_whole(struct ul_buffers *buffers, size_t size);

/* How many receives are worth starting now. */
uint32_t ul_buffers_appetite(const struct ul_buffers *buffers);

/* Frees the bookkeeping; the memory too unless the kernel might still write to it. */
void ul_buffers_close(struct ul_buffers *buffers, bool is_quiet);

/* Memory for a ring or its buffers, not seen by a child of fork; NULL: there is none. */
void *ul_buffers_map(size_t size);

/* Makes a buffer ring of the kernel, without buffers. 0 or -errno. */
int ul_buffers_register(struct ul_uring *uring, struct io_uring_buf_ring *ring, uint32_t count,
                        uint16_t group, uint16_t flags);

/* relay_uring.c ------------------------------------------------------------------------- */

/* Begins. Only where there is room for an event, as all that may end it. */
void ul_relay_start(struct ul_uring *uring, struct ul_operation *operation);

/* A plain relay waits for more to come. Where only small pieces came for a while, it goes on by
 * requests of the ring from here on. */
bool ul_relay_talks(struct ul_uring *uring, struct ul_operation *operation);

/* operation->cancelled was set. */
void ul_relay_cancel(struct ul_uring *uring, struct ul_operation *operation);

/* One of its requests was answered. */
void ul_relay_completed(struct ul_uring *uring, struct ul_operation *operation, enum ul_tag tag,
                        const struct io_uring_cqe *cqe);

/* Its place in the list `pending` is served by one SQE. */
void ul_relay_fill(struct ul_uring *uring, struct ul_operation *operation,
                   struct io_uring_sqe *sqe);

/* After an enter and the completions that it brought: what quiet sends have done is known, and
 * their buffers go back to the kernel. */
void ul_relay_settle(struct ul_uring *uring);

/* Gives its buffers back and frees it; how many bytes were sent. */
uint64_t ul_relay_uring_close(struct ul_uring *uring, struct ul_operation *operation);

/* At the end of the engine: whether the kernel has its receive. */
bool ul_relay_is_receiving(const struct ul_operation *operation);

/* The last completion of what is tagged so was thrown away; quiet sends need none. */
void ul_relay_discard(struct ul_operation *operation, enum ul_tag tag);
void ul_relay_discard_quiet(struct ul_uring *uring);

/* Whether the operation is a relay that relay_uring.c carries out. */
static inline bool ul_is_relayed(const struct ul_operation *operation) {
    return operation->opcode == UL_OP_RELAY && !ul_relay_of(operation)->is_plain;
}

/* lifetime.c ---------------------------------------------------------------------------- */

void ul_uring_close(struct ul_engine *engine);
void ul_uring_abandon(struct ul_engine *engine);

#endif
