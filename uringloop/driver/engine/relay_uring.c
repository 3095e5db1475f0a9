/* relay_uring.c - a direction of a relay that only has small pieces, as requests of io_uring.
 *
 * There are two ways, and a direction changes between them.
 *
 * Bulk: the plain way of relay.c, with polls of the ring (steps.c). It is how a direction begins,
 * and the faster one for large pieces, also on io_uring: recv(2) and send(2) of one piece after
 * the other use the same memory, which stays in the cache. Requests for twenty connections
 * fill twenty buffers before the first of them is sent: measured, half as much CPU time again
 * for messages of 100 KiB. And what a slow destination keeps waiting is on the heap, where it takes
 * no buffer from anybody.
 *
 * Talk: after some small pieces, each of which was all that was there. One multishot receive
 * into the buffers of relay_pool.c, and a quiet send of each piece from its buffer
 * (CQE_SKIP_SUCCESS, with MSG_WAITALL and MSG_DONTWAIT): it has a completion only if the socket
 * did not take all at once. It is over when the enter that submitted it returns; without a
 * completion all was sent. That is concluded only when the completion queue is empty and has
 * not overflowed. So a message costs one completion and a share of one enter, and the wait
 * for the next message is not ended by a send that went well.
 *
 * A piece that fills its buffer, a send that does not fit, or a lack of buffers leads back to
 * bulk: the multishot is cancelled, and what it still brings is kept. That is the one time when more
 * than the limit may be held: a burst of what the kernel was offered buffers for.
 *
 * At most one send of a direction is on its way: two could overtake each other.
 */
#include "calls.h"
#include "uring.h"

#include <stdlib.h>

/* What is to be given to the kernel: bits of relay->wants. */
enum {
    WANT_RECEIVE = 1,
    WANT_SEND = 2,
    WANT_NO_RECEIVE = 4,
};

/* Requests. ----------------------------------------------------------------------------- */

static void fill_receive(struct ul_relay *relay, uint64_t token, struct io_uring_sqe *sqe) {
    relay->is_receiving = true;
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_RECV,
        .fd = relay->source,
        .flags = IOSQE_BUFFER_SELECT,
        .ioprio = IORING_RECV_MULTISHOT,
        .buf_group = UL_RELAY_GROUP,
        .user_data = token,
    };
}

/* Where it is remembered until its end is known; without a place it is sent aloud. */
static bool is_room_for_quiet(const struct ul_relay_pool *pool) {
    return pool->quiet_end - pool->quiet_first <= pool->quiet_mask;
}

/* What it carries counts as sent from here on; a completion takes that back. */
static void fill_send(struct ul_uring *uring, struct ul_relay *relay, uint64_t token,
                      struct io_uring_sqe *sqe) {
    struct ul_relay_pool *pool = &uring->relay_pool;
    const struct ul_piece *piece = ul_relay_piece(relay, 0);
    relay->is_sending = true;
    relay->quiet_position = uring->ring.sq.sqe_tail - 1;
    relay->quiet_bytes = piece->end - piece->begin;
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_SEND,
        .fd = relay->destination,
        .addr = (uintptr_t)(piece->memory + piece->begin),
        .len = relay->quiet_bytes,
        .msg_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT,
        .user_data = ul_tagged(token, UL_TAG_SEND),
    };
    ul_relay_count_sent(relay, relay->quiet_bytes);
    if (!is_room_for_quiet(pool))
        return;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    pool->quiet[pool->quiet_end++ & pool->quiet_mask] =
        (struct ul_quiet_send){.token = token, .position = relay->quiet_position};
}

static void fill_one(struct ul_uring *uring, struct ul_relay *relay, struct io_uring_sqe *sqe) {
    uint64_t token = relay->operation->token;
    uint8_t want = relay->wants & (uint8_t)-relay->wants;
    relay->wants &= (uint8_t)~want;
    if (want == WANT_RECEIVE)
        fill_receive(relay, token, sqe);
    else if (want == WANT_SEND)
        fill_send(uring, relay, token, sqe);
    else
        ul_request_cancel(token, UL_TAG_MAIN, sqe);
}

void ul_relay_fill(struct ul_uring *uring, struct ul_operation *operation,
                   struct io_uring_sqe *sqe) {
    struct ul_relay *relay = ul_relay_of(operation);
    fill_one(uring, relay, sqe);
    if (relay->wants)
        ul_list_append(&uring->pending, operation);
}

static void stage(struct ul_uring *uring, struct ul_relay *relay) {
    struct ul_operation *operation = relay->operation;
    while (relay->wants && !operation->next) {
        struct io_uring_sqe *sqe = ul_ring_sqe(uring);
        if (sqe)
            fill_one(uring, relay, sqe);
        else
            ul_list_append(&uring->pending, operation);
    }
}

/* Pieces. ------------------------------------------------------------------------------- */

static void fail(struct ul_relay *relay, uint32_t side, int error) {
    if (!relay->error)
        relay->error = (int32_t)ul_relay_failed(relay, side, error);
}

static void give_back(struct ul_uring *uring, const struct ul_piece *piece) {
    if (piece->buffer != UL_ON_HEAP)
        ul_relay_pool_give_back(&uring->relay_pool, (uint32_t)piece->buffer);
}

/* To the heap, or the direction fails. */
static void evacuate(struct ul_uring *uring, struct ul_relay *relay, struct ul_piece *piece) {
    struct ul_piece before = *piece;
    if (piece->buffer == UL_ON_HEAP)
        return;
    if (ul_relay_evacuate(piece))
        give_back(uring, &before);
    else
        fail(relay, UL_RELAY_RECEIVE, ENOMEM);
}

/* A piece came. Where others wait before it, it is copied: it will not be sent at once. */
static void add_piece(struct ul_uring *uring, struct ul_relay *relay, uint32_t id,
                      uint32_t size) {
    struct ul_piece piece = {.memory = ul_relay_pool_take(&uring->relay_pool, id),
                             .end = size,
                             .capacity = UL_RELAY_BUFFER_BYTES,
                             .buffer = (int32_t)id};
    ul_relay_count_received(relay, size);
    relay->is_leaving |= size == UL_RELAY_BUFFER_BYTES;
    if (!relay->count) {
        *ul_relay_piece(relay, relay->count++) = piece;
        return;
    }
    if (!ul_relay_keep(relay, piece.memory, size))
        fail(relay, UL_RELAY_RECEIVE, ENOMEM);
    give_back(uring, &piece);
}

static void shorten_first(struct ul_uring *uring, struct ul_relay *relay, uint32_t size) {
    struct ul_piece *piece = ul_relay_piece(relay, 0);
    piece->begin += size;
    if (piece->begin < piece->end)
        return;
    give_back(uring, piece);
    ul_relay_drop_first(relay);
}

uint64_t ul_relay_uring_close(struct ul_uring *uring, struct ul_operation *operation) {
    struct ul_relay *relay = ul_relay_of(operation);
    for (uint32_t index = 0; relay && index < relay->count; index++)
        give_back(uring, ul_relay_piece(relay, index));
    return ul_relay_close(operation);
}

/* What is next. ------------------------------------------------------------------------- */

static void go_plain(struct ul_uring *uring, struct ul_relay *relay) {
    for (uint32_t index = 0; index < relay->count; index++)
        evacuate(uring, relay, ul_relay_piece(relay, index));
    if (relay->error) {
        ul_conclude(uring, relay->operation, relay->error, 0);
        return;
    }
    relay->is_plain = true;
    relay->small_pieces = 0;
    ul_step(uring, relay->operation);
}

/* Back to bulk, or to the end: when the kernel has nothing of it any more. */
static void leave(struct ul_uring *uring, struct ul_relay *relay) {
    relay->wants &= WANT_NO_RECEIVE;
    if (relay->is_receiving && !relay->is_stopping) {
        relay->is_stopping = true;
        relay->wants |= WANT_NO_RECEIVE;
    }
    if (relay->is_receiving || relay->is_sending) {
        stage(uring, relay);
        uring->relay_pool.is_hasty |= relay->is_sending;
        return;
    }
    ul_list_remove(relay->operation); /* what it waited to have staged is not wanted now */
    if (relay->operation->cancelled || relay->error)
        ul_conclude(uring, relay->operation, relay->error ? relay->error : -ECANCELED, 0);
    else
        go_plain(uring, relay);
}

static void go_on(struct ul_uring *uring, struct ul_relay *relay) {
    if (relay->count && !relay->is_sending)
        relay->wants |= WANT_SEND;
    if (!relay->has_ended && !relay->is_receiving)
        relay->wants |= WANT_RECEIVE;
    stage(uring, relay);
    /* Something has to wait for the end of the send. */
    if (relay->is_sending && (relay->has_ended || relay->count > 1))
        uring->relay_pool.is_hasty = true;
}

/* The relay may be gone afterwards. Only where there is room for an event. */
static void proceed(struct ul_uring *uring, struct ul_relay *relay) {
    relay->is_leaving |= relay->state->bytes_held >= relay->limit;
    ul_relay_show_pieces(relay, relay->count - relay->is_sending);
    if (relay->is_leaving || relay->operation->cancelled || relay->error)
        leave(uring, relay);
    else if (relay->has_ended && !relay->count)
        ul_conclude(uring, relay->operation, ul_relay_carry_end(relay), 0);
    else
        go_on(uring, relay);
}

void ul_relay_start(struct ul_uring *uring, struct ul_operation *operation) {
    if (!ul_relay_open(uring->engine, operation)) {
        ul_conclude(uring, operation, -ENOMEM, 0);
        return;
    }
    ul_relay_of(operation)->is_plain = true;
    ul_step(uring, operation);
}

void ul_relay_cancel(struct ul_uring *uring, struct ul_operation *operation) {
    proceed(uring, ul_relay_of(operation));
}

bool ul_relay_talks(struct ul_uring *uring, struct ul_operation *operation) {
    const uint32_t NEEDED = UL_FEATURE_BUFFER_RING | UL_FEATURE_MULTISHOT_RECV |
                            UL_FEATURE_QUIET_SENDS;
    struct ul_relay *relay = ul_relay_of(operation);
    if (relay->small_pieces < UL_SMALL_PIECES || operation->cancelled ||
        (uring->features & NEEDED) != NEEDED || ul_relay_pool_open(uring))
        return false;
    relay->is_plain = relay->is_leaving = false;
    operation->phase = UL_PHASE_NONE;
    proceed(uring, relay);
    return true;
}

/* Answers. ------------------------------------------------------------------------------ */

/* Where the kernel finds no buffer there may be some more; else there is the other way. */
static void receive_refused(struct ul_uring *uring, struct ul_relay *relay, int result) {
    if (result == -ENOBUFS) {
        uring->engine->shared.counters.buffer_shortages++;
        relay->is_leaving |= !ul_relay_pool_grow(&uring->relay_pool);
    } else if (result == -EAGAIN) {
        relay->is_leaving = true;
    } else if (result != -EINTR && result != -ECANCELED) {
        fail(relay, UL_RELAY_RECEIVE, -result);
    }
}

static void receive_completed(struct ul_uring *uring, struct ul_relay *relay,
                              const struct io_uring_cqe *cqe) {
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if (!(cqe->flags & IORING_CQE_F_MORE))
        relay->is_receiving = relay->is_stopping = false;
    if (cqe->res > 0) {
        add_piece(uring, relay, id, (uint32_t)cqe->res);
    } else if (cqe->flags & IORING_CQE_F_BUFFER) {
        ul_relay_pool_take(&uring->relay_pool, id);
        ul_relay_pool_give_back(&uring->relay_pool, id);
    }
    if (cqe->res == 0)
        relay->has_ended = true;
    else if (cqe->res < 0 && !relay->is_receiving)
        receive_refused(uring, relay, cqe->res);
}

/* It did not go well, or was sent aloud. */
static void send_completed(struct ul_uring *uring, struct ul_relay *relay, int result) {
    relay->is_sending = false;
    relay->is_leaving |= result < (int)relay->quiet_bytes;
    ul_relay_count_sent(relay, -(uint64_t)relay->quiet_bytes);
    if (result > 0) {
        ul_relay_count_sent(relay, (uint32_t)result);
        shorten_first(uring, relay, (uint32_t)result);
    } else if (!ul_is_not_now(-result) && result != -EINTR && result != -ECANCELED) {
        fail(relay, UL_RELAY_SEND, -result);
    }
}

void ul_relay_completed(struct ul_uring *uring, struct ul_operation *operation, enum ul_tag tag,
                        const struct io_uring_cqe *cqe) {
    struct ul_relay *relay = ul_relay_of(operation);
    if (tag == UL_TAG_MAIN)
        receive_completed(uring, relay, cqe);
    else if (tag == UL_TAG_SEND)
        send_completed(uring, relay, cqe->res);
    else if (tag == UL_TAG_CANCEL && cqe->res == -ENOENT && relay->is_stopping)
        relay->wants |= WANT_NO_RECEIVE; /* whoever wants the end asks until it comes */
    proceed(uring, relay);
}

/* After an enter. ----------------------------------------------------------------------- */

static struct ul_relay *find_quiet(struct ul_uring *uring, const struct ul_quiet_send *sent) {
    struct ul_operation *operation = ul_find(uring->engine, sent->token);
    struct ul_relay *relay;
    if (!operation || operation->opcode != UL_OP_RELAY)
        return NULL;
    relay = ul_relay_of(operation);
    return relay->is_sending && relay->quiet_position == sent->position ? relay : NULL;
}

static bool is_submitted(const struct ul_uring *uring, const struct ul_quiet_send *sent) {
    uint32_t head = io_uring_smp_load_acquire(uring->ring.sq.khead);
    return (int32_t)(head - sent->position) > 0;
}

/* Takes the oldest quiet send that is over; false when there is none. */
static bool take_quiet(struct ul_uring *uring, struct ul_relay **relay) {
    struct ul_relay_pool *pool = &uring->relay_pool;
    const struct ul_quiet_send *sent = &pool->quiet[pool->quiet_first & pool->quiet_mask];
    if (pool->quiet_first == pool->quiet_end || !is_submitted(uring, sent))
        return false;
    *relay = find_quiet(uring, sent);
    pool->quiet_first++;
    if (!*relay)
        return true; /* its completion told how it went */
    uring->requests--;
    (*relay)->is_sending = false;
    shorten_first(uring, *relay, (*relay)->quiet_bytes);
    return true;
}

static bool knows_all_completions(const struct ul_uring *uring) {
    return !ul_ring_has_cqe(uring) && !(ul_ring_flags(uring) & IORING_SQ_CQ_OVERFLOW);
}

static void settle_quiet(struct ul_uring *uring) {
    struct ul_relay_pool *pool = &uring->relay_pool;
    uint32_t count = pool->quiet_end - pool->quiet_first;
    bool was_hasty = pool->is_hasty;
    struct ul_relay *relay;
    if (!knows_all_completions(uring))
        return;
    pool->is_hasty = false;
    while (count && ul_event_room(uring->engine) >= UL_ROOM_NEEDED && take_quiet(uring, &relay)) {
        count--;
        if (relay)
            proceed(uring, relay);
    }
    pool->is_hasty |= was_hasty && count;
}

void ul_relay_settle(struct ul_uring *uring) {
    settle_quiet(uring);
    ul_relay_pool_offer(&uring->relay_pool);
}

/* The end of the engine. ---------------------------------------------------------------- */

bool ul_relay_is_receiving(const struct ul_operation *operation) {
    return ul_relay_of(operation)->is_receiving;
}

void ul_relay_discard(struct ul_operation *operation, enum ul_tag tag) {
    struct ul_relay *relay = ul_relay_of(operation);
    if (tag == UL_TAG_MAIN)
        relay->is_receiving = false;
    if (tag == UL_TAG_SEND)
        relay->is_sending = false;
}

void ul_relay_discard_quiet(struct ul_uring *uring) {
    struct ul_relay *relay;
    while (uring->relay_pool.memory && knows_all_completions(uring) && take_quiet(uring, &relay))
        continue;
}
