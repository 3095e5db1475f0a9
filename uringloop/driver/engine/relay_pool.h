/* relay_pool.h - the buffers that relays of the io_uring engine receive into, and what they have
 * sent without a completion; see relay_pool.c and relay_uring.c. */
#ifndef URINGLOOP_RELAY_POOL_H
#define URINGLOOP_RELAY_POOL_H

#include "relay.h"

#include <liburing.h>

struct ul_uring;

enum {
    UL_RELAY_GROUP = 2, /* the kernel's name of the buffer ring */
    UL_RELAY_BUFFER_BYTES = 16 * 1024,
};

/* A send without a completion, whose SQE stands at `position` of the submission queue. */
struct ul_quiet_send {
    uint64_t token;
    uint32_t position;
};

struct ul_relay_pool {
    char *memory; /* NULL: not mapped yet */
    struct io_uring_buf_ring *ring;
    uint16_t *free_ids; /* a stack: what was used last is in the cache */
    uint32_t free_count;
    uint32_t count; /* all */
    uint32_t size;  /* of one */
    uint32_t offered; /* that the kernel may pick */
    uint32_t target;  /* that it should be offered */
    uint32_t smallest; /* of `offered`, since the target was looked at */
    uint32_t offers;   /* since then */
    struct ul_quiet_send *quiet; /* a ring: those whose end is not known yet */
    uint32_t quiet_first, quiet_end, quiet_mask;
    bool is_hasty; /* something has to wait for the end of a quiet send: do not sleep */
};

/* Maps the memory and gives the ring to the kernel, unless that was done. 0 or -errno, and then
 * nothing has changed. */
int ul_relay_pool_open(struct ul_uring *uring);

/* Frees all but what the kernel may still write to. */
void ul_relay_pool_close(struct ul_relay_pool *pool, bool is_quiet);

/* A buffer that the kernel picked is the caller's now; where it is. */
char *ul_relay_pool_take(struct ul_relay_pool *pool, uint32_t id);

/* It is nobody's again. The kernel may have it from the next ul_relay_pool_offer() on. */
void ul_relay_pool_give_back(struct ul_relay_pool *pool, uint32_t id);

/* Offers the kernel as many as it should have. */
void ul_relay_pool_offer(struct ul_relay_pool *pool);

/* The kernel found none: it should have more. False: there are no more. */
bool ul_relay_pool_grow(struct ul_relay_pool *pool);

#endif
