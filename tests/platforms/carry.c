/* carry.c - carries a message over the engines, on platforms where no Python of theirs runs here.
 *
 * scripts/platforms.sh compiles it together with the engine. Each engine that works takes a
 * message from one end of a pair of sockets to the other, and is then told to stop. A line for
 * each; the status is 0 when every engine that could be opened carried all of it.
 */
#include "engine.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MESSAGE_BYTES = 1 << 20,
    TURN_NS_MAX = 1000000000,
    TURNS_MAX = 10000,
    RECEIVE = 0, /* tokens, and places in `final` */
    SEND = 1,
    OPERATIONS = 2,
};

struct carrier {
    struct ul_engine *engine;
    struct ul_shared *shared;
    uint64_t received_bytes;
    int64_t final[OPERATIONS];
    int unanswered;
};

static char sent[MESSAGE_BYTES], received[MESSAGE_BYTES];

static void command(struct carrier *carrier, const struct ul_command *command) {
    carrier->shared->commands[carrier->shared->command_count++] = *command;
}

static void begin(struct carrier *carrier, const int pair[2]) {
    command(carrier, &(struct ul_command){.token = RECEIVE, .opcode = UL_OP_RECV, .fd = pair[0]});
    command(carrier, &(struct ul_command){.token = SEND,
                                          .opcode = UL_OP_SEND,
                                          .fd = pair[1],
                                          .address = (uintptr_t)sent,
                                          .length = MESSAGE_BYTES});
    carrier->unanswered = OPERATIONS;
}

static void take(struct carrier *carrier, const struct ul_event *event) {
    if (!(event->flags & UL_MORE)) {
        carrier->final[event->token] = event->result;
        carrier->unanswered--;
    } else if (carrier->received_bytes + (uint64_t)event->result <= MESSAGE_BYTES) {
        memcpy(received + carrier->received_bytes, (void *)(uintptr_t)event->address,
               (size_t)event->result);
        carrier->received_bytes += (uint64_t)event->result;
        if (carrier->received_bytes == MESSAGE_BYTES)
            command(carrier,
                    &(struct ul_command){.opcode = UL_OP_CANCEL, .argument = RECEIVE});
    }
}

/* Turns until both are answered; 0 or -errno of a turn. */
static int turn_until_done(struct carrier *carrier) {
    for (int turn = 0; carrier->unanswered && turn < TURNS_MAX; turn++) {
        int count = ul_turn(carrier->engine, TURN_NS_MAX);
        if (count < 0)
            return count;
        for (int i = 0; i < count; i++)
            take(carrier, &carrier->shared->events[i]);
    }
    return 0;
}

static int is_carried(const struct carrier *carrier) {
    return !carrier->unanswered && carrier->received_bytes == MESSAGE_BYTES &&
           carrier->final[SEND] == MESSAGE_BYTES && carrier->final[RECEIVE] < 0 &&
           !memcmp(sent, received, MESSAGE_BYTES);
}

/* Whether an engine with these features carries the message. */
static int carry(const char *name, uint32_t features) {
    const struct ul_config config = {.features = features};
    struct carrier carrier = {.received_bytes = 0};
    int pair[2], error = ul_open(&config, &carrier.engine);
    if (error || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
        printf("%s: not opened (%d)\n", name, error);
        return 0;
    }
    memset(received, 0, MESSAGE_BYTES);
    carrier.shared = ul_shared_of(carrier.engine);
    begin(&carrier, pair);
    error = turn_until_done(&carrier);
    printf("%s: %s in %llu turns (%d)\n", name, is_carried(&carrier) ? "carried" : "FAILED",
           (unsigned long long)carrier.shared->counters.turns, error);
    ul_close(carrier.engine);
    close(pair[0]);
    close(pair[1]);
    return is_carried(&carrier);
}

int main(void) {
    struct ul_probe_result found;
    int all_carried;
    for (size_t i = 0; i < MESSAGE_BYTES; i++)
        sent[i] = (char)(i * 2654435761u >> 24);
    ul_probe(0, &found);
    all_carried = carry("epoll", 0);
    if (found.features & UL_FEATURE_IO_URING)
        all_carried &= carry("io_uring", found.features);
    else
        printf("io_uring: not usable: %s in step %u\n", strerror(found.error), found.step);
    return !all_carried;
}
