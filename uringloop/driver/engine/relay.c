/* relay.c - what a direction of a relay does, whichever engine waits for its sockets.
 *
 * The plain way: receive into scratch memory, offer it to the destination at once. What did
 * not fit is kept on the heap, and until it is sent nothing is received. So a direction that
 * keeps up holds no memory at all, and one that does not holds one piece of `limit` bytes.
 *
 * A direction waits for one thing at a time, and names it: for the source to be readable, or,
 * with something kept, for the destination to be writable. operation->fd is the one it waits for.
 *
 * The end is carried by shutdown(2), which never waits.
 */
#include "relay.h"
#include "calls.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    ROUNDS_MAX = 4, /* receives of one try: then others have their share */
    HEAP_BYTES_MIN = 4096,
};

/* Life. --------------------------------------------------------------------------------- */

bool ul_relay_open(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_relay_state *state = (struct ul_relay_state *)(uintptr_t)operation->address;
    struct ul_relay *relay = calloc(1, sizeof(*relay));
    operation->address = (uintptr_t)relay;
    if (!relay)
        return false;
    relay->state = state;
    relay->engine = engine;
    relay->operation = operation;
    relay->limit = operation->length;
    relay->source = operation->fd;
    relay->destination = (int32_t)operation->argument;
    *state = (struct ul_relay_state){0};
    return true;
}

void ul_relay_drop_first(struct ul_relay *relay) {
    struct ul_piece *piece = ul_relay_piece(relay, 0);
    if (piece->buffer == UL_ON_HEAP)
        free(piece->memory);
    relay->first = (uint8_t)((relay->first + 1) % UL_PIECES_MAX);
    relay->count--;
}

uint64_t ul_relay_close(struct ul_operation *operation) {
    struct ul_relay *relay = ul_relay_of(operation);
    uint64_t bytes;
    if (!relay)
        return 0;
    bytes = relay->state->bytes;
    while (relay->count)
        ul_relay_drop_first(relay);
    ul_relay_show_pieces(relay, 0);
    relay->state->bytes_held = 0;
    free(relay);
    operation->address = 0;
    return bytes;
}

void ul_relay_close_all(struct ul_engine *engine) {
    for (uint32_t page = 0; page < engine->page_count; page++)
        for (uint32_t slot = 0; slot < UL_PAGE_SLOTS; slot++) {
            struct ul_operation *operation = &engine->pages[page][slot];
            if (operation->opcode == UL_OP_RELAY && operation->address)
                ul_relay_close(operation);
        }
}

/* Counting. ----------------------------------------------------------------------------- */

static int64_t moment_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void ul_relay_count_received(struct ul_relay *relay, uint64_t size) {
    relay->state->bytes_held += size;
    relay->state->progress_ns = moment_ns();
}

void ul_relay_count_sent(struct ul_relay *relay, uint64_t size) {
    relay->state->bytes_held -= size;
    relay->state->bytes += size;
    relay->state->progress_ns = moment_ns();
    relay->engine->shared.counters.bytes_relayed += size;
}

void ul_relay_show_pieces(struct ul_relay *relay, uint32_t count) {
    struct ul_shared *shared = &relay->engine->shared;
    shared->relay_buffers_held = shared->relay_buffers_held + count - relay->state->buffers_held;
    relay->state->buffers_held = count;
}

int64_t ul_relay_failed(struct ul_relay *relay, uint32_t side, int error) {
    relay->state->failed = side;
    return -error;
}

/* A peer that is gone leaves ENOTCONN, and its reason in the socket. */
int64_t ul_relay_carry_end(struct ul_relay *relay) {
    int error = 0, reason = 0;
    socklen_t size = sizeof(reason);
    if (shutdown(relay->destination, SHUT_WR) < 0)
        error = errno;
    if (!error)
        return (int64_t)relay->state->bytes;
    if (!getsockopt(relay->destination, SOL_SOCKET, SO_ERROR, &reason, &size) && reason)
        error = reason;
    return ul_relay_failed(relay, UL_RELAY_SEND, error);
}

/* What is kept. ------------------------------------------------------------------------- */

/* The last piece, if bytes may be added there: the kernel may be sending the first. */
static struct ul_piece *open_piece(struct ul_relay *relay) {
    struct ul_piece *last = ul_relay_piece(relay, relay->count - 1u);
    bool may_grow = relay->count > 1 || (relay->count && !relay->is_sending);
    return may_grow && last->buffer == UL_ON_HEAP ? last : NULL;
}

static bool make_room(struct ul_piece *piece, uint32_t size) {
    uint32_t needed = piece->end + size, capacity = piece->capacity;
    char *memory;
    if (needed <= capacity)
        return true;
    capacity = capacity * 2 > needed ? capacity * 2 : needed;
    if (capacity < HEAP_BYTES_MIN)
        capacity = HEAP_BYTES_MIN;
    memory = realloc(piece->memory, capacity);
    if (!memory)
        return false;
    piece->memory = memory;
    piece->capacity = capacity;
    return true;
}

bool ul_relay_keep(struct ul_relay *relay, const char *bytes, uint32_t size) {
    struct ul_piece fresh = {.buffer = UL_ON_HEAP}, *piece = open_piece(relay);
    bool is_new = !piece;
    if (is_new)
        piece = &fresh;
    if (!make_room(piece, size))
        return false;
    memcpy(piece->memory + piece->end, bytes, size);
    piece->end += size;
    if (is_new)
        *ul_relay_piece(relay, relay->count++) = fresh;
    return true;
}

bool ul_relay_evacuate(struct ul_piece *piece) {
    uint32_t size = piece->end - piece->begin;
    char *memory = malloc(size);
    if (!memory)
        return false;
    memcpy(memory, piece->memory + piece->begin, size);
    *piece = (struct ul_piece){
        .memory = memory, .end = size, .capacity = size, .buffer = UL_ON_HEAP};
    return true;
}

/* The plain way. ------------------------------------------------------------------------ */

/* A try is not over. Final results are bytes or -errno. */
#define GOES_ON (INT64_MIN + 8)

/* How many bytes the destination takes now, or -errno. */
static ssize_t offer(struct ul_relay *relay, const char *bytes, size_t size) {
    ssize_t sent =
        UL_UNINTERRUPTED(send(relay->destination, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL));
    relay->engine->shared.counters.submissions++;
    if (sent < 0)
        return ul_is_not_now(errno) ? 0 : -errno;
    ul_relay_count_sent(relay, (uint64_t)sent);
    return sent;
}

static int64_t send_kept(struct ul_relay *relay) {
    while (relay->count) {
        struct ul_piece *piece = ul_relay_piece(relay, 0);
        ssize_t sent = offer(relay, piece->memory + piece->begin, piece->end - piece->begin);
        if (sent < 0)
            return ul_relay_failed(relay, UL_RELAY_SEND, (int)-sent);
        piece->begin += (uint32_t)sent;
        if (piece->begin < piece->end)
            return UL_STEP_WAITS;
        ul_relay_drop_first(relay);
    }
    return GOES_ON;
}

/* A small piece, and all that was there. */
static void count_small(struct ul_relay *relay, size_t received, size_t wanted) {
    if (received >= wanted || received > UL_SMALL_BYTES)
        relay->small_pieces = 0;
    else if (relay->small_pieces < UL_SMALL_PIECES)
        relay->small_pieces++;
}

/* One piece, from the source to the destination. */
static int64_t move(struct ul_relay *relay, char *scratch, size_t size) {
    ssize_t sent, received =
        UL_UNINTERRUPTED(recv(relay->source, scratch, size, MSG_DONTWAIT));
    relay->engine->shared.counters.submissions++;
    if (received < 0)
        return ul_is_not_now(errno) ? UL_STEP_WAITS
                                    : ul_relay_failed(relay, UL_RELAY_RECEIVE, errno);
    relay->has_ended = !received;
    if (!received)
        return ul_relay_carry_end(relay);
    ul_relay_count_received(relay, (uint64_t)received);
    count_small(relay, (size_t)received, size);
    sent = offer(relay, scratch, (size_t)received);
    if (sent < 0)
        return ul_relay_failed(relay, UL_RELAY_SEND, (int)-sent);
    if (sent < received)
        relay->small_pieces = 0;
    if (sent < received && !ul_relay_keep(relay, scratch + sent, (uint32_t)(received - sent)))
        return ul_relay_failed(relay, UL_RELAY_RECEIVE, ENOMEM);
    return sent < received || (size_t)received < size ? UL_STEP_WAITS : GOES_ON;
}

int64_t ul_relay_try(struct ul_operation *operation, char *scratch, size_t size) {
    struct ul_relay *relay = ul_relay_of(operation);
    int64_t result = send_kept(relay);
    if (size > relay->limit)
        size = relay->limit;
    if (result == GOES_ON && relay->has_ended)
        result = ul_relay_carry_end(relay);
    for (int i = 0; i < ROUNDS_MAX && result == GOES_ON; i++)
        result = move(relay, scratch, size);
    ul_relay_show_pieces(relay, relay->count);
    relay->sends_next = relay->count;
    operation->fd = relay->count ? relay->destination : relay->source;
    operation->done = 2 * relay->state->bytes + relay->state->bytes_held; /* any progress shows */
    return result == GOES_ON ? UL_STEP_WAITS : result;
}

uint32_t ul_relay_waits_for(const struct ul_operation *operation) {
    return ul_relay_of(operation)->sends_next ? POLLOUT : POLLIN;
}
