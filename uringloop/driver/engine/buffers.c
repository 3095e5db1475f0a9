/* buffers.c - the memory that receives are answered in.
 *
 * One pool for all connections, small so that it stays in the cache. With a provided-buffer
 * ring (5.19) an idle connection holds no memory: the kernel picks a buffer when data is
 * there. Two ways of picking:
 *
 *   plain        one completion uses up one buffer, however little arrived. So there are
 *                many, each large enough that a 100 KiB message stays in one piece.
 *   incremental  (6.12) a completion uses up only the bytes that arrived; the kernel goes on
 *                in the same buffer until it is full, and says so by leaving out
 *                IORING_CQE_F_BUF_MORE. So a few large ones serve small and large messages.
 *
 * Messages have a ring of their own, of plain buffers: an incremental one that is nearly used
 * up would cut a datagram off. Each takes the longest message there is. That costs addresses,
 * not memory: pages are there from the first write on, and a small message writes to one. The
 * kernel takes 32 messages of a socket at a time, so 64 buffers outlast a burst; with fewer
 * than 32 every burst would end a multishot, and with many more long messages would drive
 * each other out of the caches.
 *
 * A buffer goes back at the start of the next turn, not when its completion is seen: Python
 * has read the events by then. That holds for an incremental buffer too, whose earlier
 * pieces may be named by events of the same turn. Its offset starts over when it goes back.
 *
 * When the buffers ran out, many receives wait. Starting all of them for the few buffers that
 * come back would end most of them with ENOBUFS again, and leave it to chance who gets one;
 * so only as many start as can be served, the longest waiting first.
 */
#include "uring.h"

#include <stdlib.h>
#include <sys/mman.h>

enum {
    GROUP = 0,
    MESSAGE_GROUP = 1,
    MESSAGE_COUNT = 64,
    SPARE_COUNT = 16,
    PLAIN_COUNT = 16,
    PLAIN_BYTES = 256 * 1024,
    INCREMENTAL_COUNT = 4,
    INCREMENTAL_BYTES = 1024 * 1024,
    COUNT_MAX = 32768, /* the kernel's */
    LIKELY_PIECE_BYTES = 64 * 1024,
    SCRATCH_PIECE_MAX = 256 * 1024, /* and half of what is left, so that others get theirs */
    ALIGNMENT = 64, /* of messages in scratch */
    SCRATCH_PARTS = 16,             /* a smaller rest is not worth a system call */
};

void *ul_buffers_map(size_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* A child of fork must not share pages that the kernel writes to on the parent's behalf. */
    madvise(memory, size, MADV_DONTFORK);
    return memory;
}

static inline size_t memory_bytes(const struct ul_buffers *buffers) {
    return (size_t)buffers->count * buffers->size;
}

static inline size_t ring_bytes(const struct ul_buffers *buffers) {
    return buffers->count * sizeof(struct io_uring_buf);
}

static inline char *buffer_start(const struct ul_buffers *buffers, uint32_t id) {
    return buffers->memory + (size_t)id * buffers->size;
}

/* Makes one buffer whole again and puts it at ring position tail + `offset`. */
static inline void add(struct ul_buffers *buffers, uint32_t id, int offset) {
    buffers->offsets[id] = 0;
    io_uring_buf_ring_add(buffers->ring, buffer_start(buffers, id), buffers->size, (uint16_t)id,
                          io_uring_buf_ring_mask(buffers->count), offset);
}

static inline void advance(struct ul_buffers *buffers, uint32_t count) {
    io_uring_buf_ring_advance(buffers->ring, (int)count);
    buffers->available += count;
}

int ul_buffers_register(struct ul_uring *uring, struct io_uring_buf_ring *ring, uint32_t count,
                        uint16_t group, uint16_t flags) {
    struct ul_buffer_registration registration = {
        .ring_address = (uintptr_t)ring,
        .ring_entries = count,
        .group = group,
        .flags = flags,
    };
    int error = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_PBUF_RING,
                                  &registration, 1);
    if (error < 0)
        return error;
    io_uring_buf_ring_init(ring);
    return 0;
}

static int register_ring(struct ul_uring *uring, struct ul_buffers *buffers,
                         bool is_incremental) {
    int error = ul_buffers_register(uring, buffers->ring, buffers->count, buffers->group,
                                    is_incremental ? IOU_PBUF_RING_INC : 0);
    if (error)
        return error;
    for (uint32_t id = 0; id < buffers->count; id++)
        add(buffers, id, (int)id);
    advance(buffers, buffers->count);
    return 0;
}

static int open_ring(struct ul_uring *uring, struct ul_buffers *buffers, bool is_incremental) {
    buffers->offsets = calloc(buffers->count, sizeof(*buffers->offsets));
    buffers->used = calloc(buffers->count, sizeof(*buffers->used));
    buffers->ring = ul_buffers_map(ring_bytes(buffers));
    if (!buffers->offsets || !buffers->used || !buffers->ring)
        return -ENOMEM;
    return register_ring(uring, buffers, is_incremental);
}

static bool is_ring_size(uint32_t count) {
    return count <= COUNT_MAX && !(count & (count - 1));
}

int ul_buffers_open(struct ul_uring *uring, const struct ul_config *config) {
    struct ul_buffers *buffers = &uring->buffers;
    bool is_incremental = uring->features & UL_FEATURE_INCREMENTAL_BUFFERS;
    buffers->count = config->buffer_count   ? config->buffer_count
                     : is_incremental ? INCREMENTAL_COUNT
                                            : PLAIN_COUNT;
    buffers->size = config->buffer_bytes   ? config->buffer_bytes
                    : is_incremental ? INCREMENTAL_BYTES
                                           : PLAIN_BYTES;
    buffers->pieces = is_incremental ? 1 + buffers->size / LIKELY_PIECE_BYTES : 1;
    buffers->group = GROUP;
    if (!is_ring_size(buffers->count) || !is_ring_size(config->message_count) ||
        memory_bytes(buffers) < SCRATCH_PARTS)
        return -EINVAL;
    uring->message_count = config->message_count;
    buffers->memory = ul_buffers_map(memory_bytes(buffers));
    if (!buffers->memory)
        return -ENOMEM;
    return uring->features & UL_FEATURE_BUFFER_RING ? open_ring(uring, buffers, is_incremental)
                                                    : 0;
}

/* Nobody receives into them: they can go at once, and be opened again later. */
static void undo_open(struct ul_buffers *buffers) {
    ul_buffers_close(buffers, true);
    buffers->memory = NULL;
    buffers->ring = NULL;
    buffers->offsets = NULL;
    buffers->used = NULL;
}

static int open_rooms(struct ul_uring *uring, struct ul_buffers *buffers, uint32_t count) {
    buffers->count = uring->message_count ? uring->message_count : count;
    buffers->size = UL_MESSAGE_ROOM;
    buffers->memory = ul_buffers_map(memory_bytes(buffers));
    return buffers->memory ? 0 : -ENOMEM;
}

int ul_buffers_open_messages(struct ul_uring *uring) {
    struct ul_buffers *buffers = &uring->messages;
    int error;
    if (buffers->memory)
        return 0;
    buffers->group = MESSAGE_GROUP;
    buffers->pieces = 1;
    error = open_rooms(uring, buffers, MESSAGE_COUNT);
    if (!error)
        error = open_ring(uring, buffers, false);
    if (error)
        undo_open(buffers);
    return error;
}

int ul_buffers_open_spare(struct ul_uring *uring) {
    return uring->spare.memory ? 0 : open_rooms(uring, &uring->spare, SPARE_COUNT);
}

uint64_t ul_buffers_take(struct ul_buffers *buffers, const struct io_uring_cqe *cqe) {
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    uint64_t address = (uintptr_t)buffer_start(buffers, id) + buffers->offsets[id];
    if (cqe->res > 0)
        buffers->offsets[id] += (uint32_t)cqe->res;
    if (!(cqe->flags & IORING_CQE_F_BUF_MORE)) {
        buffers->available--;
        buffers->used[buffers->used_count++] = (uint16_t)id;
    }
    return address;
}

void ul_buffers_give_back(struct ul_buffers *buffers) {
    uint32_t count = buffers->used_count;
    buffers->scratch_used = 0;
    if (!count)
        return;
    for (uint32_t index = 0; index < count; index++)
        add(buffers, buffers->used[index], (int)index);
    advance(buffers, count);
    buffers->used_count = 0;
}

char *ul_buffers_scratch(struct ul_buffers *buffers, size_t *size) {
    size_t left = memory_bytes(buffers) - buffers->scratch_used;
    if (left < memory_bytes(buffers) / SCRATCH_PARTS)
        return NULL;
    *size = left / 2 < SCRATCH_PIECE_MAX ? left / 2 : SCRATCH_PIECE_MAX;
    return buffers->memory + buffers->scratch_used;
}

char *ul_buffers_scratch_whole(struct ul_buffers *buffers, size_t size) {
    size_t used = (buffers->scratch_used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (used + size > memory_bytes(buffers))
        return NULL;
    buffers->scratch_used = used;
    return buffers->memory + used;
}

uint32_t ul_buffers_appetite(const struct ul_buffers *buffers) {
    return buffers->ring ? buffers->available * buffers->pieces : SCRATCH_PARTS;
}

void ul_buffers_close(struct ul_buffers *buffers, bool is_quiet) {
    if (buffers->ring && is_quiet)
        munmap(buffers->ring, ring_bytes(buffers));
    if (buffers->memory && is_quiet)
        munmap(buffers->memory, memory_bytes(buffers));
    free(buffers->offsets);
    free(buffers->used);
}
