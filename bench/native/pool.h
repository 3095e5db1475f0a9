/* What the programs on io_uring share: the ring, and its pool of receive buffers.
 *
 * Few large buffers that the kernel fills piece by piece where it can (incremental, 6.12),
 * plain ones before. Together they fit into a processor's cache, roughly: a larger pool makes
 * long messages dearer. A buffer goes back to the kernel when that is done with it and all
 * its pieces have been released. */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>

#define RING_ENTRIES 1024u
#define BUFFERS_MAX 16u
#define BUFFER_GROUP 0

struct buffer {
    size_t filled_bytes;  /* where the kernel puts the next piece */
    unsigned pieces;      /* received and not yet released */
    bool kernel_is_done;  /* will not write to it before it is given back */
};

struct pool {
    struct io_uring_buf_ring *ring;
    unsigned char *memory;
    unsigned count;
    size_t bytes; /* of one buffer */
    struct buffer buffers[BUFFERS_MAX];
};

/* One thread, completions only in our enter. Ends the process where that is denied. */
void ring_set_up(struct io_uring *ring);

/* So many incremental buffers (at most BUFFERS_MAX, a power of two), or plain ones. Ends the
 * process where the kernel has no rings of buffers. */
void pool_set_up(struct pool *pool, struct io_uring *ring, unsigned count, size_t bytes);

/* Where the `length` bytes of a receive are, whose completion has these flags, and in which
 * buffer: a piece, which is to be released. Completions in the order of the ring. */
unsigned char *pool_received(struct pool *pool, unsigned flags, size_t length, unsigned *index);

/* Whether the buffer went back to the kernel with this piece. */
bool pool_release(struct pool *pool, unsigned index);

/* A submission that has a place in the queue; what is in there is submitted when it is full. */
struct io_uring_sqe *ring_next(struct io_uring *ring);

/* A multishot receive into the pool. */
void ring_receive(struct io_uring *ring, int fd, uint64_t token);

#endif
