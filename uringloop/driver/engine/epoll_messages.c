/* epoll_messages.c - RECVMSG of the readiness engine: many messages for one call.
 *
 * A report says that there is a message, not how many there are. recvmsg(2) in a
 * loop needs one call more to learn that there is no further one; recvmmsg(2) learns it on
 * the way, costs no more for a single one, and less for each of several. A step takes BATCH at
 * most, so that a flooded socket leaves the rest of the turn to others; what it left is
 * reported again. An error behind some messages is kept by the kernel for the next call.
 *
 * Nobody knows the size of a message beforehand, and most are small. So each is received into
 * a slot of 2 KiB, the slots one after the other, and what does not fit goes on in a place for
 * the longest payload, of which there are few in a turn; only then the slot is copied before
 * it. The pages of places that were never needed do not exist.
 */
#include "epoll.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    BATCH = 16, /* messages of one socket in one step */
    SLOT_BYTES = 2048,
    SLOT_PAYLOAD = SLOT_BYTES - UL_MESSAGE_HEADER, /* holds what fits into an Ethernet frame */
    SLOTS_FOR_A_PLACE = 32,
    PLACE_BYTES = UL_MESSAGE_HEADER + UL_MESSAGE_BYTES + 64 - UL_MESSAGE_HEADER % 64,
    PLACES = 16, /* for long messages in one turn */
};

_Static_assert(sizeof(struct ul_message) == UL_MESSAGE_HEADER, "the header has its size");
_Static_assert(offsetof(struct ul_message, name) + UL_NAME_BYTES == UL_MESSAGE_HEADER,
               "the payload follows the name");

void ul_inbox_prepare(struct ul_inbox *inbox, const struct ul_config *config) {
    inbox->place_count = config->message_count ? config->message_count : PLACES;
    inbox->slot_count = inbox->place_count * SLOTS_FOR_A_PLACE;
}

void ul_inbox_close(struct ul_inbox *inbox) {
    free(inbox->slots);
    inbox->slots = NULL;
}

/* Most loops receive no message ever: the memory is made for the first one that does. */
static bool inbox_open(struct ul_inbox *inbox) {
    size_t slot_bytes = (size_t)inbox->slot_count * SLOT_BYTES;
    if (!inbox->slots)
        inbox->slots = malloc(slot_bytes + (size_t)inbox->place_count * PLACE_BYTES);
    inbox->places = inbox->slots ? inbox->slots + slot_bytes : NULL;
    return inbox->slots;
}

static uint8_t *slot_at(const struct ul_inbox *inbox, uint32_t index) {
    return inbox->slots + (size_t)(inbox->slots_used + index) * SLOT_BYTES;
}

static uint8_t *place_at(const struct ul_inbox *inbox, uint32_t index) {
    return inbox->places + (size_t)(inbox->places_used + index) * PLACE_BYTES;
}

/* The most bytes that are wanted of a payload. */
static size_t payload_max(const struct ul_operation *operation) {
    bool is_limited = operation->length && operation->length < UL_MESSAGE_BYTES;
    return is_limited ? operation->length : UL_MESSAGE_BYTES;
}

static inline uint32_t lesser(uint32_t one, uint32_t other) {
    return one < other ? one : other;
}

/* How many messages there is room for. */
static uint32_t message_room(struct ul_engine *engine, const struct ul_operation *operation) {
    const struct ul_readiness *readiness = engine->state;
    const struct ul_inbox *inbox = &readiness->inbox;
    uint32_t room = lesser(ul_event_room(engine), operation->flags & UL_ONCE ? 1 : BATCH);
    uint32_t left = inbox->slot_count - inbox->slots_used;
    if (payload_max(operation) > SLOT_PAYLOAD)
        left = lesser(left, inbox->place_count - inbox->places_used);
    if (room && !left)
        engine->shared.counters.buffer_shortages++;
    return lesser(room, left);
}

/* Where the kernel is to put one message: a slot, and a place for the rest of it. */
struct target {
    struct iovec parts[2];
};

static void aim(const struct ul_inbox *inbox, uint32_t index, size_t wanted,
                struct mmsghdr *message, struct target *target) {
    uint8_t *slot = slot_at(inbox, index);
    bool is_short = wanted <= SLOT_PAYLOAD;
    target->parts[0].iov_base = slot + UL_MESSAGE_HEADER;
    target->parts[0].iov_len = is_short ? wanted : SLOT_PAYLOAD;
    if (!is_short) {
        target->parts[1].iov_base = place_at(inbox, index) + SLOT_BYTES;
        target->parts[1].iov_len = wanted - SLOT_PAYLOAD;
    }
    message->msg_hdr = (struct msghdr){
        .msg_name = ((struct ul_message *)slot)->name,
        .msg_namelen = UL_NAME_BYTES,
        .msg_iov = target->parts,
        .msg_iovlen = is_short ? 1 : 2,
    };
}

/* Completes the header; answers where the payload is, in one piece. */
static uint64_t payload_of(const struct ul_inbox *inbox, uint32_t index,
                           const struct mmsghdr *message) {
    uint8_t *start = slot_at(inbox, index);
    struct ul_message *header = (struct ul_message *)start;
    header->name_length = message->msg_hdr.msg_namelen;
    header->control_length = 0;
    header->payload_length = message->msg_len;
    header->flags = (uint32_t)message->msg_hdr.msg_flags;
    if (message->msg_len > SLOT_PAYLOAD) {
        uint8_t *place = place_at(inbox, index);
        start = memcpy(place, start, SLOT_BYTES);
    }
    return (uintptr_t)start + UL_MESSAGE_HEADER;
}

static void give_messages(struct ul_engine *engine, struct ul_operation *operation,
                          const struct mmsghdr *messages, uint32_t count) {
    struct ul_readiness *readiness = engine->state;
    struct ul_inbox *inbox = &readiness->inbox;
    uint32_t places = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t payload = payload_of(inbox, i, &messages[i]);
        if (messages[i].msg_len > SLOT_PAYLOAD)
            places = i + 1;
        if (operation->flags & UL_ONCE)
            operation->address = payload; /* its event is the final one */
        else
            ul_give_received(engine, operation, messages[i].msg_len, payload);
    }
    inbox->slots_used += count;
    inbox->places_used += places;
}

int64_t ul_epoll_receive_messages(struct ul_engine *engine, struct ul_operation *operation) {
    struct ul_readiness *readiness = engine->state;
    struct mmsghdr messages[BATCH];
    struct target targets[BATCH];
    if (!inbox_open(&readiness->inbox))
        return -ENOMEM;
    uint32_t room = message_room(engine, operation);
    if (!room)
        return UL_STEP_PUT_OFF;
    for (uint32_t i = 0; i < room; i++)
        aim(&readiness->inbox, i, payload_max(operation), &messages[i], &targets[i]);
    engine->shared.counters.submissions++;
    int count =
        UL_UNINTERRUPTED(recvmmsg(operation->fd, messages, room, MSG_DONTWAIT, NULL));
    if (count < 0)
        return ul_is_not_now(errno) ? UL_STEP_WAITS : -errno;
    give_messages(engine, operation, messages, (uint32_t)count);
    return operation->flags & UL_ONCE ? (int64_t)messages[0].msg_len : UL_STEP_WAITS;
}
