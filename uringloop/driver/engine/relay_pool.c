/* relay_pool.c - the buffers that relays of the io_uring engine receive small pieces into.
 *
 * A buffer ring of the relays' own: an idle direction holds no memory, and a piece is sent from
 * the buffer that it was received into. Plain buffers, not incremental ones: each goes back on
 * its own when its piece is sent, mostly within the same turn.
 *
 * The kernel picks buffers in the order in which they were offered, so all that are offered
 * pass through the cache in turn. Therefore few are: `target`. A buffer that is given back is
 * the next to be offered. When the kernel finds none (ENOBUFS), as with hundreds of connections
 * whose data came at once, it is offered twice as many from then on; when for long not half of
 * them were needed, half as many. What was never needed is addresses, not memory.
 *
 * All of them together are the bound; a direction that finds none goes on without (relay_uring.c).
 */
#include "relay_pool.h"
#include "uring.h"

#include <stdlib.h>
#include <sys/mman.h>

enum {
    COUNT = 1024,
    TARGET_MIN = 16,
    OFFERS_UNTIL_LOOK = 1024,
    SMALL_POOL = 8, /* for an engine that was opened with less than the default */
};

static inline char *start_of(const struct ul_relay_pool *pool, uint32_t id) {
    return pool->memory + (size_t)id * pool->size;
}

static inline size_t memory_bytes(const struct ul_relay_pool *pool) {
    return (size_t)pool->count * pool->size;
}

static inline size_t ring_bytes(const struct ul_relay_pool *pool) {
    return pool->count * sizeof(struct io_uring_buf);
}

static int map_all(struct ul_uring *uring, struct ul_relay_pool *pool) {
    uint32_t quiet_count = uring->ring.sq.ring_entries;
    pool->memory = ul_buffers_map(memory_bytes(pool));
    pool->ring = ul_buffers_map(ring_bytes(pool));
    pool->free_ids = calloc(pool->count, sizeof(*pool->free_ids));
    pool->quiet = calloc(quiet_count, sizeof(*pool->quiet));
    pool->quiet_mask = quiet_count - 1;
    if (!pool->memory || !pool->ring || !pool->free_ids || !pool->quiet)
        return -ENOMEM;
    return ul_buffers_register(uring, pool->ring, pool->count, UL_RELAY_GROUP, 0);
}

int ul_relay_pool_open(struct ul_uring *uring) {
    struct ul_relay_pool *pool = &uring->relay_pool;
    bool is_small = uring->buffers.count < SMALL_POOL;
    int error;
    if (pool->memory)
        return 0;
    pool->count = is_small && uring->buffers.size < UL_RELAY_BUFFER_BYTES ? SMALL_POOL : COUNT;
    pool->size = UL_RELAY_BUFFER_BYTES;
    pool->target = pool->count < TARGET_MIN ? 2 : TARGET_MIN;
    error = map_all(uring, pool);
    if (error) {
        ul_relay_pool_close(pool, true);
        *pool = (struct ul_relay_pool){0};
        return error;
    }
    for (uint32_t id = pool->count; id--;)
        pool->free_ids[pool->free_count++] = (uint16_t)id;
    ul_relay_pool_offer(pool);
    return 0;
}

void ul_relay_pool_close(struct ul_relay_pool *pool, bool is_quiet) {
    if (pool->ring && is_quiet)
        munmap(pool->ring, ring_bytes(pool));
    if (pool->memory && is_quiet)
        munmap(pool->memory, memory_bytes(pool));
    free(pool->free_ids);
    free(pool->quiet);
}

char *ul_relay_pool_take(struct ul_relay_pool *pool, uint32_t id) {
    pool->offered--;
    if (pool->offered < pool->smallest)
        pool->smallest = pool->offered;
    return start_of(pool, id);
}

void ul_relay_pool_give_back(struct ul_relay_pool *pool, uint32_t id) {
    pool->free_ids[pool->free_count++] = (uint16_t)id;
}

/* Half as many will do if half of them were never needed. */
static void look_at_target(struct ul_relay_pool *pool) {
    if (pool->smallest > pool->target / 2 && pool->target / 2 >= TARGET_MIN)
        pool->target /= 2;
    pool->smallest = pool->target;
    pool->offers = 0;
}

void ul_relay_pool_offer(struct ul_relay_pool *pool) {
    int count = 0;
    while (pool->offered + (uint32_t)count < pool->target && pool->free_count) {
        uint32_t id = pool->free_ids[--pool->free_count];
        io_uring_buf_ring_add(pool->ring, start_of(pool, id), pool->size, (uint16_t)id,
                              io_uring_buf_ring_mask(pool->count), count);
        count++;
    }
    if (!count)
        return;
    io_uring_buf_ring_advance(pool->ring, count);
    pool->offered += (uint32_t)count;
    if (++pool->offers >= OFFERS_UNTIL_LOOK)
        look_at_target(pool);
}

bool ul_relay_pool_grow(struct ul_relay_pool *pool) {
    if (pool->target < pool->count)
        pool->target *= 2;
    ul_relay_pool_offer(pool);
    return pool->offered;
}
