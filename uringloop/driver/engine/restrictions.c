/* restrictions.c - what a ring may be asked for, told to the kernel before anybody asks.
 *
 * Facts. A ring takes some sixty kinds of requests: it opens, renames and removes files, makes
 * sockets, maps memory. A seccomp filter sees that io_uring_enter is called, but not what lies in
 * the submission queue, which is memory that the whole process may write to. A ring that was
 * created disabled takes a list of what it may be asked for (5.10). From the moment it is enabled
 * the list stands: another opcode, another flag of an SQE, another request of io_uring_register
 * is answered by EACCES.
 *
 * Decision. The list is what requests.c, files.c, relay_uring.c, ring.c and buffers.c ask for with the
 * features in use, and no more. It keeps nobody from making another ring; who wants that denies
 * io_uring_setup, once the loop is there (SECURITY.md).
 *
 * Cost. One system call for a ring; for an SQE, two bits that the kernel looks up.
 */
#include "uring.h"

struct permission {
    uint8_t kind;     /* IORING_RESTRICTION_* */
    uint8_t number;   /* IORING_OP_* or IORING_REGISTER_* */
    uint32_t feature; /* the UL_FEATURE_* that asks for it; 0: there is no engine without */
};

/* A kernel refuses the whole list for a number that it does not know: hence the features. */
static const struct permission PERMISSIONS[] = {
    {IORING_RESTRICTION_SQE_OP, IORING_OP_POLL_ADD, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_ASYNC_CANCEL, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_ACCEPT, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_CONNECT, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_SEND, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_SENDMSG, 0},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_RECV, UL_FEATURE_BUFFER_RING},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_RECVMSG, UL_FEATURE_MULTISHOT_RECVMSG},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_SEND_ZC, UL_FEATURE_ZERO_COPY},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_SENDMSG_ZC, UL_FEATURE_ZERO_COPY},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_OPENAT, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_READ, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_WRITE, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_CLOSE, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_FSYNC, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_STATX, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_RENAMEAT, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_UNLINKAT, UL_FEATURE_FILES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_LINKAT, UL_FEATURE_FILE_NAMES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_MKDIRAT, UL_FEATURE_FILE_NAMES},
    {IORING_RESTRICTION_SQE_OP, IORING_OP_SYMLINKAT, UL_FEATURE_FILE_NAMES},
    {IORING_RESTRICTION_SQE_OP, UL_KERNEL_FTRUNCATE, UL_FEATURE_FILE_TRUNCATE},
    {IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_PBUF_RING, UL_FEATURE_BUFFER_RING},
    {IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_RING_FDS, UL_FEATURE_REGISTERED_RING},
    {IORING_RESTRICTION_REGISTER_OP, IORING_UNREGISTER_RING_FDS, UL_FEATURE_REGISTERED_RING},
};

enum { PERMISSIONS_COUNT = sizeof(PERMISSIONS) / sizeof(PERMISSIONS[0]) };

static uint8_t sqe_flags(uint32_t features) {
    uint8_t flags = 0;
    if (features & UL_FEATURE_BUFFER_RING)
        flags |= IOSQE_BUFFER_SELECT;
    if (features & UL_FEATURE_QUIET_SENDS)
        flags |= IOSQE_CQE_SKIP_SUCCESS;
    if (features & UL_FEATURE_FILES)
        flags |= IOSQE_ASYNC;
    return flags;
}

/* The numbers share one byte, whatever they mean. */
static struct io_uring_restriction allowed(uint8_t kind, uint8_t number) {
    return (struct io_uring_restriction){.opcode = kind, .sqe_op = number};
}

int ul_ring_restrict(struct ul_uring *uring) {
    struct io_uring_restriction list[PERMISSIONS_COUNT + 1];
    unsigned count = 0;
    int error;
    for (int index = 0; index < PERMISSIONS_COUNT; index++) {
        const struct permission *permission = &PERMISSIONS[index];
        if ((uring->features & permission->feature) == permission->feature)
            list[count++] = allowed(permission->kind, permission->number);
    }
    list[count++] = allowed(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, sqe_flags(uring->features));
    error = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, list,
                              count);
    return error < 0 ? error : 0;
}
