/* requests.c - an operation as the SQE that asks the kernel for it.
 *
 * Each function fills one SQE and does nothing else. The kernel reads what an SQE names
 * (message header, sockaddr, iovecs) when it takes the SQE, and keeps a copy
 * (IORING_FEAT_SUBMIT_STABLE); until then it must stay where it is.
 */
#include "calls.h"
#include "uring.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEND_BYTES_MAX = 1 << 30, /* one request answers with an int */
    ADDRESSES_IN_BLOCK = 32,
};

/* Copied addresses. --------------------------------------------------------------------- */

struct ul_address_block {
    struct ul_address_block *next;
    struct ul_address addresses[ADDRESSES_IN_BLOCK];
};

static bool add_addresses(struct ul_uring *uring) {
    struct ul_address_block *block = calloc(1, sizeof(*block));
    if (!block)
        return false;
    block->next = uring->address_blocks;
    uring->address_blocks = block;
    for (int index = 0; index < ADDRESSES_IN_BLOCK; index++) {
        block->addresses[index].next = uring->free_addresses;
        uring->free_addresses = &block->addresses[index];
    }
    return true;
}

bool ul_request_copy_address(struct ul_uring *uring, struct ul_operation *operation) {
    struct ul_address *address;
    operation->argument = 0;
    if (!uring->free_addresses && !add_addresses(uring))
        return false;
    address = uring->free_addresses;
    uring->free_addresses = address->next;
    memcpy(address->bytes, (const void *)(uintptr_t)operation->address, operation->length);
    operation->argument = (uintptr_t)address;
    return true;
}

void ul_request_release_address(struct ul_uring *uring, struct ul_operation *operation) {
    struct ul_address *address = (struct ul_address *)(uintptr_t)operation->argument;
    if (!address)
        return;
    address->next = uring->free_addresses;
    uring->free_addresses = address;
}

void ul_request_free_addresses(struct ul_uring *uring) {
    while (uring->address_blocks) {
        struct ul_address_block *next = uring->address_blocks->next;
        free(uring->address_blocks);
        uring->address_blocks = next;
    }
}

/* Operations as SQEs. ------------------------------------------------------------------- */

/* A multishot has but one place for all names, so they are asked for later. */
static void fill_accept(const struct ul_uring *uring, const struct ul_operation *operation,
                        struct io_uring_sqe *sqe) {
    bool goes_on = ul_has(uring, UL_FEATURE_MULTISHOT_ACCEPT);
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_ACCEPT,
        .fd = operation->fd,
        .ioprio = goes_on ? IORING_ACCEPT_MULTISHOT : 0,
        .accept_flags = SOCK_CLOEXEC | SOCK_NONBLOCK,
        .user_data = operation->token,
    };
}

static void fill_recv(struct ul_uring *uring, const struct ul_operation *operation,
                      struct io_uring_sqe *sqe) {
    bool is_once = operation->flags & UL_ONCE;
    bool goes_on = !is_once && ul_has(uring, UL_FEATURE_MULTISHOT_RECV);
    size_t limit = is_once ? ul_wanted_bytes(operation, uring->buffers.size) : 0;
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_RECV,
        .fd = operation->fd,
        .flags = IOSQE_BUFFER_SELECT,
        .ioprio = goes_on ? IORING_RECV_MULTISHOT : 0,
        .len = (uint32_t)limit,
        .user_data = operation->token,
    };
}

/* The kernel copies the header when it takes the SQE; it says how much room the name has, and
 * no more. */
static void fill_recvmsg(const struct ul_uring *uring, const struct ul_operation *operation,
                         struct io_uring_sqe *sqe) {
    static const struct msghdr HEADER = {.msg_namelen = sizeof(((struct ul_message *)0)->name)};
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_RECVMSG,
        .fd = operation->fd,
        .flags = IOSQE_BUFFER_SELECT,
        .ioprio = IORING_RECV_MULTISHOT,
        .addr = (uintptr_t)&HEADER,
        .len = 1,
        .buf_group = uring->messages.group,
        .user_data = operation->token,
    };
}

static bool is_uncopied(const struct ul_uring *uring, const struct ul_operation *operation) {
    return operation->flags & UL_ZERO_COPY && ul_has(uring, UL_FEATURE_ZERO_COPY);
}

static void fill_send(const struct ul_operation *operation, struct io_uring_sqe *sqe) {
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_SEND,
        .fd = operation->fd,
        .addr = operation->address,
        .len = operation->length < SEND_BYTES_MAX ? (uint32_t)operation->length : SEND_BYTES_MAX,
        .msg_flags = MSG_NOSIGNAL | MSG_WAITALL,
        .user_data = operation->token,
    };
}

/* The kernel copies the message header when it takes the SQE, so one for each SQE is enough.
 * A sum of more than INT_MAX bytes is a short send to the kernel. */
static void fill_send_vectored(struct ul_uring *uring, const struct ul_operation *operation,
                               struct io_uring_sqe *sqe) {
    struct msghdr *message = &uring->headers[sqe - uring->ring.sq.sqes];
    *message = (struct msghdr){
        .msg_iov = (struct iovec *)(uintptr_t)operation->address,
        .msg_iovlen = operation->length < IOV_MAX ? operation->length : IOV_MAX,
    };
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_SENDMSG,
        .fd = operation->fd,
        .addr = (uintptr_t)message,
        .len = 1,
        .msg_flags = MSG_NOSIGNAL | MSG_WAITALL,
        .user_data = operation->token,
    };
}

/* The two kinds of send that are out of the common. */
static void fill_special_send(struct ul_uring *uring, const struct ul_operation *operation,
                              struct io_uring_sqe *sqe) {
    bool is_vectored = operation->flags & UL_VECTORED;
    if (is_vectored)
        fill_send_vectored(uring, operation, sqe);
    else
        fill_send(operation, sqe);
    if (is_uncopied(uring, operation))
        sqe->opcode = is_vectored ? IORING_OP_SENDMSG_ZC : IORING_OP_SEND_ZC;
}

static void fill_connect(const struct ul_operation *operation, struct io_uring_sqe *sqe) {
    const struct ul_address *address = (struct ul_address *)(uintptr_t)operation->argument;
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_CONNECT,
        .fd = operation->fd,
        .addr = (uintptr_t)address->bytes,
        .off = operation->length,
        .user_data = operation->token,
    };
}

void ul_request_poll(int fd, uint32_t mask, uint64_t user_data, struct io_uring_sqe *sqe) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    mask = mask << 16 | mask >> 16; /* the field is two 16-bit words, low word first */
#endif
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_POLL_ADD,
        .fd = fd,
        .poll32_events = mask,
        .user_data = user_data,
    };
}

void ul_request_cancel(uint64_t token, enum ul_tag tag, struct io_uring_sqe *sqe) {
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_ASYNC_CANCEL,
        .fd = -1,
        .addr = ul_tagged(token, tag),
        .user_data = ul_tagged(token, UL_TAG_CANCEL),
    };
}

void ul_request_spoil(struct ul_uring *uring, uint64_t user_data) {
    struct io_uring_sq *queue = &uring->ring.sq;
    uint32_t position = io_uring_smp_load_acquire(queue->khead);
    for (; position != queue->sqe_tail; position++) {
        struct io_uring_sqe *sqe = &queue->sqes[position & queue->ring_mask];
        if (sqe->user_data == user_data)
            sqe->fd = -1;
    }
}

/* A keyed wake-up never counts for POLLPRI alone; POLLRDBAND comes with it, where it comes. */
static void fill_watch(const struct ul_operation *operation, struct io_uring_sqe *sqe) {
    uint32_t mask = (uint32_t)operation->argument;
    ul_request_poll(operation->fd, mask & POLLPRI ? mask | POLLRDBAND : mask, operation->token,
                    sqe);
    sqe->len = (uint32_t)operation->length;
}

void ul_request_main(struct ul_uring *uring, const struct ul_operation *operation,
                     struct io_uring_sqe *sqe) {
    switch (operation->opcode) {
    case UL_OP_ACCEPT:
        fill_accept(uring, operation, sqe);
        break;
    case UL_OP_RECV:
        fill_recv(uring, operation, sqe);
        break;
    case UL_OP_SEND:
        if (operation->flags & (UL_VECTORED | UL_ZERO_COPY))
            fill_special_send(uring, operation, sqe);
        else
            fill_send(operation, sqe);
        break;
    case UL_OP_CONNECT:
        fill_connect(operation, sqe);
        break;
    case UL_OP_RECVMSG:
        fill_recvmsg(uring, operation, sqe);
        break;
    case UL_OP_POLL:
        fill_watch(operation, sqe);
        break;
    default:
        ul_file_request(operation, sqe);
    }
}

static bool reads(const struct ul_operation *operation) {
    return operation->opcode == UL_OP_RECV || operation->opcode == UL_OP_RECVMSG ||
           operation->opcode == UL_OP_ACCEPT;
}

void ul_request_readiness(const struct ul_operation *operation, struct io_uring_sqe *sqe) {
    uint32_t mask = reads(operation) ? POLLIN : POLLOUT;
    if (operation->opcode == UL_OP_RELAY)
        mask = ul_relay_waits_for(operation);
    ul_request_poll(operation->fd, mask, ul_tagged(operation->token, UL_TAG_POLL), sqe);
    if (operation->readiness == UL_READINESS_MISLED)
        sqe->len = IORING_POLL_ADD_MULTI;
}
