/* internal.h - what engine.c, uring.c and epoll.c share; nothing of it is seen by Python.
 *
 * engine.c owns the operation table, the command and event arrays, the wake descriptor and
 * the common half of each call in engine.h; a backend owns its kernel objects, behind
 * `struct ul_backend`. Every operation lives in a slot named by the low 32 bits of its
 * token; slots come in pages that never move, so pointers to operations stay good.
 */
#ifndef URINGLOOP_INTERNAL_H
#define URINGLOOP_INTERNAL_H

#define _GNU_SOURCE

#include "engine.h"
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum {
    UL_PAGE_SHIFT = 9,
    UL_PAGE_SLOTS = 1 << UL_PAGE_SHIFT,
    UL_SOCKADDR_MAX = 128,
    UL_NS_PER_S = 1000000000,
};

struct ul_operation {
    uint64_t token; /* of the operation in this slot; meaningless while opcode is 0 */
    uint64_t address;
    uint64_t length;   /* bytes, or iovecs */
    uint64_t argument; /* the command's; CONNECT: the backend's own */
    uint64_t done;     /* SEND, SENDFILE: bytes sent so far */
    uint64_t condemned; /* engine.c's own: one more than a token whose command is not to be taken */
    int32_t fd;
    uint32_t flags;  /* of the command */
    uint8_t opcode;  /* 0: the slot is free */
    uint8_t phase;   /* the backend's own */
    bool cancelled;  /* engine.c sets it before backend->cancel: do not start again */
    uint8_t readiness; /* the backend's own */
    uint32_t turn;                     /* the turn that took the command (UL_LAZY) */
    uint32_t notices;                  /* SEND: that the kernel owes, each for memory it holds */
    struct ul_operation *next, *prior; /* the backend's lists */
};

/* engine.c counts turns, commands, events and bytes; the backend counts the rest of
 * ul_counters. start and cancel are called while ul_event_room() is not 0; commands that
 * find no room stay in commands[] for the next turn. */
struct ul_backend {
    /* Carry out one command whose operation is already in its slot. May add events. */
    void (*start)(struct ul_engine *engine, struct ul_operation *operation);
    /* Called once for an operation, whatever number of cancels name it. */
    void (*cancel)(struct ul_engine *engine, struct ul_operation *operation);
    /* Before the first start of a turn: give buffers back, start what waited for them.
     * 0 or -errno (-EEXIST from a wrong thread); then the turn ends with it. */
    int (*begin)(struct ul_engine *engine);
    /* Submit, wait until timeout_ns for the first event that counts, gather events. */
    int (*finish)(struct ul_engine *engine, int64_t timeout_ns);
    void (*close)(struct ul_engine *engine);   /* frees the backend's part */
    void (*abandon)(struct ul_engine *engine); /* descriptors only */
};

struct ul_engine {
    struct ul_shared shared; /* first: ul_shared_of is this address */
    const struct ul_backend *backend;
    void *state; /* the backend's own */
    struct ul_operation **pages;
    struct ul_names *names; /* one for each event; NULL until a connection comes */
    uint32_t page_count;
    uint32_t event_capacity;
    uint32_t turn;
    int64_t begin_ns; /* of this turn, by ul_now_ns(): its timeout counts from there */
    uint32_t counting_events; /* events of this turn that end the wait (not lazy) */
    int wake_fd;
    bool abandoned;
};

int ul_uring_open(struct ul_engine *engine, const struct ul_config *config);
int ul_epoll_open(struct ul_engine *engine, const struct ul_config *config);

/* Where an operation of that token is, or would be; NULL where the table does not reach. */
static inline struct ul_operation *ul_slot_of(const struct ul_engine *engine, uint64_t token) {
    uint32_t index = (uint32_t)token;
    uint32_t page = index >> UL_PAGE_SHIFT;
    if (page >= engine->page_count)
        return NULL;
    return &engine->pages[page][index & (UL_PAGE_SLOTS - 1)];
}

/* The operation in use under `token`, or NULL: never used, answered, or another generation. */
static inline struct ul_operation *ul_find(const struct ul_engine *engine, uint64_t token) {
    struct ul_operation *operation = ul_slot_of(engine, token);
    if (!operation || !operation->opcode || operation->token != token)
        return NULL;
    return operation;
}

/* Room left in events[]; a backend asks before it takes anything out of the kernel. */
static inline uint32_t ul_event_room(const struct ul_engine *engine) {
    return engine->event_capacity - engine->shared.event_count;
}

/* Adds an event that is not final (UL_MORE) and brings no bytes. */
void ul_give(struct ul_engine *engine, const struct ul_operation *operation, int64_t result,
             uint64_t address);

/* The same with `size` bytes at `address`, which were received and are Python's until the next
 * turn: they are counted. */
void ul_give_received(struct ul_engine *engine, const struct ul_operation *operation,
                      int64_t size, uint64_t address);

/* Adds the final event and frees the slot. Only where ul_event_room() is not 0. For a receive
 * `address` is where the bytes are, 0 where there are none. */
void ul_finish(struct ul_engine *engine, struct ul_operation *operation, int64_t result,
               uint64_t address);

/* SEND: counts `sent` bytes; true when all is sent. Moves address and length on
 * (UL_VECTORED: over the iovecs, changing the first one that is left). */
bool ul_send_advance(struct ul_operation *operation, uint64_t sent);

/* CLOCK_MONOTONIC. */
static inline int64_t ul_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)UL_NS_PER_S + now.tv_nsec;
}

/* accept(2): errors of one dead connection, which must not end an ACCEPT. */
bool ul_accept_error_passes(int error);

#endif
