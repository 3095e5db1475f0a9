/* files.c - requests about files: each command is one request of the kernel, as it is.
 *
 * The kernel first tries a request within the enter that submits it. A read of what is in the
 * page cache, the open of a known path and a close end there; what would block goes to one of
 * the kernel's own threads (io-wq), or is polled for (a FIFO). Some always go to a thread:
 * STAT, FSYNC, TRUNCATE, all that changes a directory, and OPEN where it may create a file. In
 * any case the loop's thread never waits for a disk.
 *
 * OPEN and the file's size. Whoever opens a file wants to know whether it is a directory and
 * how large it is. A request of its own would go to a thread. statx(2) with
 * AT_STATX_DONT_SYNC answers from what the kernel holds, and a file just opened is held.
 *
 * CLOSE never fails to close: a descriptor that leaks is worse than an answer too many.
 */
#include "uring.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct statx, and STATX_TYPE | STATX_MODE | STATX_SIZE. The call is made by its
 * number: musl has neither function nor struct before 1.2.5, and its wheels are for any 1.2. */
struct file_status {
    uint32_t mask, block_bytes;
    uint64_t attributes;
    uint32_t links, owner, group;
    uint16_t mode, padding;
    uint64_t inode, size, rest[26];
};

_Static_assert(sizeof(struct file_status) == 256, "the kernel fills so much");

enum { STATUS_WANTED = 0x203 };

static const uint8_t KERNEL_OPCODES[] = {
    [UL_OP_OPEN - UL_OP_OPEN] = IORING_OP_OPENAT,
    [UL_OP_READ - UL_OP_OPEN] = IORING_OP_READ,
    [UL_OP_WRITE - UL_OP_OPEN] = IORING_OP_WRITE,
    [UL_OP_CLOSE - UL_OP_OPEN] = IORING_OP_CLOSE,
    [UL_OP_FSYNC - UL_OP_OPEN] = IORING_OP_FSYNC,
    [UL_OP_TRUNCATE - UL_OP_OPEN] = UL_KERNEL_FTRUNCATE,
    [UL_OP_STAT - UL_OP_OPEN] = IORING_OP_STATX,
    [UL_OP_RENAME - UL_OP_OPEN] = IORING_OP_RENAMEAT,
    [UL_OP_LINK - UL_OP_OPEN] = IORING_OP_LINKAT,
    [UL_OP_UNLINK - UL_OP_OPEN] = IORING_OP_UNLINKAT,
    [UL_OP_MKDIR - UL_OP_OPEN] = IORING_OP_MKDIRAT,
    [UL_OP_SYMLINK - UL_OP_OPEN] = IORING_OP_SYMLINKAT,
};

/* All have their flags in the same place, and their second path where an offset is. */
void ul_file_request(const struct ul_operation *operation, struct io_uring_sqe *sqe) {
    *sqe = (struct io_uring_sqe){
        .opcode = KERNEL_OPCODES[operation->opcode - UL_OP_OPEN],
        .flags = operation->flags & UL_WAITS ? IOSQE_ASYNC : 0,
        .fd = operation->fd,
        .addr = operation->address,
        .len = (uint32_t)operation->length,
        .off = operation->opcode == UL_OP_OPEN ? 0 : operation->argument,
        .open_flags = (uint32_t)(operation->length >> 32),
        .user_data = operation->token,
    };
}

/* A seccomp filter that knows no statx(2) leaves the mode at 0. */
static void tell_about(int fd, struct ul_file_info *info) {
    struct file_status status;
    *info = (struct ul_file_info){0};
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATUS_WANTED, &status))
        return;
    *info = (struct ul_file_info){
        .size = status.size,
        .mode = status.mode,
        .block_bytes = status.block_bytes,
    };
}

/* A thread of the kernel was interrupted, by a cancel or a signal. Of an open the kernel's own
 * numbers for that come through (ERESTARTSYS to ERESTART_RESTARTBLOCK; seen on 6.18). */
static bool is_interrupted(int result) {
    return result == -EINTR || (result <= -512 && result >= -516);
}

/* A close that was interrupted is done all the same. */
void ul_file_completed(struct ul_uring *uring, struct ul_operation *operation, int result) {
    bool is_close = operation->opcode == UL_OP_CLOSE;
    if (is_interrupted(result) && !is_close) {
        ul_stage_as(uring, operation, UL_PHASE_MAIN_PENDING);
        return;
    }
    if (operation->opcode == UL_OP_OPEN && result >= 0 && operation->argument)
        tell_about(result, (struct ul_file_info *)(uintptr_t)operation->argument);
    ul_conclude(uring, operation, is_close && is_interrupted(result) ? 0 : result, 0);
}

void ul_file_close_all(struct ul_uring *uring) {
    struct ul_engine *engine = uring->engine;
    for (uint32_t page = 0; page < engine->page_count; page++) {
        for (uint32_t slot = 0; slot < UL_PAGE_SLOTS; slot++) {
            const struct ul_operation *operation = &engine->pages[page][slot];
            if (operation->opcode == UL_OP_CLOSE && operation->phase == UL_PHASE_MAIN_PENDING)
                close(operation->fd);
        }
    }
}
