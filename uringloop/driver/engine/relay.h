/* relay.h - one direction of a relay, as both engines keep it.
 *
 * relay.c does what needs no particular engine: what waits to be sent, one try by plain system
 * calls, the end. relay_uring.c has the requests of io_uring, relay_pool.c the buffers that
 * they receive into. Python knows nothing of these structs but struct ul_relay_state.
 */
#ifndef URINGLOOP_RELAY_H
#define URINGLOOP_RELAY_H

#include "internal.h"

enum {
    UL_PIECES_MAX = 4, /* one that is sent, and what waits, joined on the heap */
    UL_SMALL_PIECES = 4, /* one after the other: a conversation */
    UL_SMALL_BYTES = 8 * 1024,
    UL_ON_HEAP = -1,
};

/* Bytes that were received and not sent yet: memory[begin] to memory[end]. */
struct ul_piece {
    char *memory;
    uint32_t begin, end;
    uint32_t capacity; /* of memory */
    int32_t buffer;    /* its number in the pool, or UL_ON_HEAP */
};

struct ul_relay {
    struct ul_relay_state *state;
    struct ul_engine *engine;
    uint64_t limit; /* of bytes held */
    int32_t source;
    int32_t destination;
    bool has_ended; /* the source: nothing more will come */
    bool is_plain;         /* carried out by ul_relay_try() */
    bool sends_next;       /* plain: waits for the destination, not for the source */
    uint8_t small_pieces;  /* plain: that came one after the other */
    uint8_t first, count;  /* of pieces[], which is used as a ring */
    struct ul_piece pieces[UL_PIECES_MAX];

    /* The rest is relay_uring.c's. */
    struct ul_operation *operation;
    int32_t error;           /* -errno that ends it, or 0 */
    uint8_t wants;           /* what is to be given to the kernel */
    bool is_receiving;       /* the kernel has its receive */
    bool is_stopping;        /* that is being cancelled */
    bool is_sending;         /* the kernel has, or is to be given, its quiet send */
    bool is_leaving;         /* it becomes plain as soon as the kernel has nothing of it */
    uint32_t quiet_position;       /* of the send's SQE */
    uint32_t quiet_bytes;          /* that it sends */
};

/* The operation's; set while it is in use. */
static inline struct ul_relay *ul_relay_of(const struct ul_operation *operation) {
    return (struct ul_relay *)(uintptr_t)operation->address;
}

/* Makes the relay of an operation that was just taken; false: no memory, and it has none. */
bool ul_relay_open(struct ul_engine *engine, struct ul_operation *operation);

/* Frees it, if there is one, with what is on the heap; answers how many bytes were sent. */
uint64_t ul_relay_close(struct ul_operation *operation);

/* Closes those of all operations: the engine is about to go. */
void ul_relay_close_all(struct ul_engine *engine);

static inline struct ul_piece *ul_relay_piece(struct ul_relay *relay, uint32_t index) {
    return &relay->pieces[(relay->first + index) % UL_PIECES_MAX];
}

/* Forgets the first piece; its buffer is the caller's to give back. */
void ul_relay_drop_first(struct ul_relay *relay);

/* Adds bytes behind the others, on the heap: to the last piece, unless the kernel may be sending
 * that. False: no memory. */
bool ul_relay_keep(struct ul_relay *relay, const char *bytes, uint32_t size);

/* Moves a piece to the heap. Its buffer is the caller's to give back. False: no memory. */
bool ul_relay_evacuate(struct ul_piece *piece);

/* Counts a received piece, be it kept or sent at once. */
void ul_relay_count_received(struct ul_relay *relay, uint64_t size);
void ul_relay_count_sent(struct ul_relay *relay, uint64_t size);

/* Tells the state how many pieces there are. */
void ul_relay_show_pieces(struct ul_relay *relay, uint32_t count);

/* A failure of one side (UL_RELAY_*), as the final result. */
int64_t ul_relay_failed(struct ul_relay *relay, uint32_t side, int error);

/* The source has ended and all is sent: carries the end. The final result. */
int64_t ul_relay_carry_end(struct ul_relay *relay);

/* Receives and sends what can be at once; `scratch` is only used within the call. A final
 * result, or UL_STEP_WAITS, for operation->fd and as ul_relay_waits_for() says. */
int64_t ul_relay_try(struct ul_operation *operation, char *scratch, size_t size);

/* POLLIN or POLLOUT: what operation->fd has to be ready for. */
uint32_t ul_relay_waits_for(const struct ul_operation *operation);

#endif
