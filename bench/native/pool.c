/* The ring and its receive buffers; pool.h says what each function does. */
#define _GNU_SOURCE
#include "pool.h"

#include <string.h>
#include <sys/mman.h>

#include "endpoint.h"

/* Named here because liburing 2.3 does not know them; both are kernel ABI. */
#define PBUF_RING_INC 2u
#define CQE_BUFFER_MORE (1u << 4)

/* struct io_uring_buf_reg, whose `flags` was padding in liburing 2.3. */
struct buffer_registration {
    uint64_t ring_address;
    uint32_t entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

void ring_set_up(struct io_uring *ring)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = 16u * RING_ENTRIES,
    };
    int result = io_uring_queue_init_params(RING_ENTRIES, ring, &parameters);
    if (result < 0)
        die("io_uring_setup: %s (wants kernel 6.1, and to be allowed)", strerror(-result));
    io_uring_register_ring_fd(ring); /* saves a look-up an enter; a refusal does not matter */
}

struct io_uring_sqe *ring_next(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (!sqe && io_uring_submit(ring) >= 0)
        sqe = io_uring_get_sqe(ring);
    if (!sqe)
        die("the submission queue stays full");
    return sqe;
}

void ring_receive(struct io_uring *ring, int fd, uint64_t token)
{
    struct io_uring_sqe *sqe = ring_next(ring);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    io_uring_sqe_set_data64(sqe, token);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

static void give_to_kernel(struct pool *pool, unsigned index)
{
    pool->buffers[index] = (struct buffer){0};
    io_uring_buf_ring_add(pool->ring, pool->memory + index * pool->bytes, (unsigned)pool->bytes,
                          (unsigned short)index, io_uring_buf_ring_mask(pool->count), 0);
    io_uring_buf_ring_advance(pool->ring, 1);
}

static bool register_buffers(struct pool *pool, struct io_uring *ring, unsigned count,
                             size_t bytes, unsigned flags)
{
    struct buffer_registration registration = {
        .ring_address = (uint64_t)(uintptr_t)pool->ring,
        .entries = count,
        .group = BUFFER_GROUP,
        .flags = (uint16_t)flags,
    };
    pool->count = count;
    pool->bytes = bytes;
    return io_uring_register_buf_ring(ring, (struct io_uring_buf_reg *)&registration, 0) == 0;
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die_errno("mmap");
    return memory;
}

void pool_set_up(struct pool *pool, struct io_uring *ring, unsigned count, size_t bytes)
{
    pool->ring = map(BUFFERS_MAX * sizeof(struct io_uring_buf));
    io_uring_buf_ring_init(pool->ring);
    if (!register_buffers(pool, ring, count, bytes, PBUF_RING_INC) &&
        !register_buffers(pool, ring, BUFFERS_MAX, 256u * 1024u, 0))
        die("no ring of provided buffers: wants kernel 5.19");
    pool->memory = map(pool->count * pool->bytes);
    for (unsigned i = 0; i < pool->count; i++)
        give_to_kernel(pool, i);
}

unsigned char *pool_received(struct pool *pool, unsigned flags, size_t length, unsigned *index)
{
    *index = flags >> IORING_CQE_BUFFER_SHIFT;
    struct buffer *buffer = &pool->buffers[*index];
    unsigned char *data = pool->memory + *index * pool->bytes + buffer->filled_bytes;
    buffer->filled_bytes += length;
    buffer->pieces++;
    buffer->kernel_is_done = !(flags & CQE_BUFFER_MORE);
    return data;
}

bool pool_release(struct pool *pool, unsigned index)
{
    struct buffer *buffer = &pool->buffers[index];
    buffer->pieces--;
    if (!buffer->kernel_is_done || buffer->pieces > 0)
        return false;
    give_to_kernel(pool, index);
    return true;
}
