/* engine.c - the half of an engine that does not depend on how the kernel is asked.
 *
 * The operation table, the command and event arrays, the wake descriptor, the clock, and the
 * order of a turn: begin (give back, thread check), take the commands, finish (submit, wait,
 * gather). It makes no system call for an operation; that is the backend's work.
 */
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    EVENTS_DEFAULT = 1024,
    EVENTS_MIN = 2, /* one completion may give two: the last piece and the final event */
    COMMANDS_AT_OPEN = 256,
    SLOTS_MAX = 1 << 22, /* Python's half of so many operations takes gigabytes */
    GENERATION_END = 56, /* a token has no bit from here on */
};

/* The operation table. ------------------------------------------------------------------ */

static bool add_page(struct ul_engine *engine) {
    size_t count = (size_t)engine->page_count + 1;
    struct ul_operation **pages = realloc(engine->pages, count * sizeof(*pages));
    if (!pages)
        return false;
    engine->pages = pages;
    pages[count - 1] = calloc(UL_PAGE_SLOTS, sizeof(**pages));
    if (!pages[count - 1])
        return false;
    engine->page_count = (uint32_t)count;
    return true;
}

/* The slot for a new operation, or NULL when there is no memory for it. An index that no table
 * has is looked for here, where the table would grow to it. */
static struct ul_operation *reserve_slot(struct ul_engine *engine, uint64_t token) {
    struct ul_operation *operation;
    while (!(operation = ul_slot_of(engine, token)))
        if ((uint32_t)token >= SLOTS_MAX || !add_page(engine))
            return NULL;
    return operation;
}

/* Events. ------------------------------------------------------------------------------- */

static inline void add_event(struct ul_engine *engine, uint64_t token, uint32_t opcode,
                             int64_t result, uint64_t address, uint32_t flags) {
    struct ul_event *event = &engine->shared.events[engine->shared.event_count++];
    event->token = token;
    event->address = address;
    event->result = result;
    event->flags = flags;
    event->opcode = opcode;
}

/* Nobody waits for a good answer of a lazy operation, but all want to know of a bad one. */
static inline bool ends_the_wait(const struct ul_engine *engine,
                                 const struct ul_operation *operation, int64_t result) {
    return !(operation->flags & UL_LAZY) || operation->turn != engine->turn || result < 0;
}

static inline void count_received(struct ul_engine *engine, int64_t size) {
    engine->shared.counters.bytes_received += (uint64_t)size;
    engine->shared.buffers_held++;
}

void ul_give(struct ul_engine *engine, const struct ul_operation *operation, int64_t result,
             uint64_t address) {
    engine->counting_events += ends_the_wait(engine, operation, result);
    add_event(engine, operation->token, operation->opcode, result, address, UL_MORE);
}

void ul_give_received(struct ul_engine *engine, const struct ul_operation *operation,
                      int64_t size, uint64_t address) {
    count_received(engine, size);
    ul_give(engine, operation, size, address);
}

/* Sends first: they are what ends most often. */
static inline void count_bytes(struct ul_engine *engine, const struct ul_operation *operation,
                               int64_t result, uint64_t address) {
    if (operation->opcode == UL_OP_SEND || operation->opcode == UL_OP_SENDFILE)
        engine->shared.counters.bytes_sent += operation->done;
    else if (operation->opcode == UL_OP_RECV || operation->opcode == UL_OP_RECVMSG)
        if (address)
            count_received(engine, result);
}

void ul_finish(struct ul_engine *engine, struct ul_operation *operation, int64_t result,
               uint64_t address) {
    count_bytes(engine, operation, result, address);
    engine->counting_events += ends_the_wait(engine, operation, result);
    add_event(engine, operation->token, operation->opcode, result, address, 0);
    operation->opcode = 0;
    engine->shared.in_flight--;
}

/* Commands. ----------------------------------------------------------------------------- */

/* Answers a command that never became an operation. */
static void refuse(struct ul_engine *engine, const struct ul_command *command, int error) {
    engine->counting_events++;
    add_event(engine, command->token, command->opcode, -error, 0, 0);
}

static void cancel(struct ul_engine *engine, uint64_t token) {
    struct ul_operation *operation = ul_slot_of(engine, token);
    if (operation)
        operation->condemned = 0;
    operation = ul_find(engine, token);
    if (!operation || operation->cancelled || operation->opcode == UL_OP_CLOSE)
        return;
    operation->cancelled = true;
    engine->backend->cancel(engine, operation);
}

/* Whether its cancel is among the commands behind it. A CLOSE takes place all the same. */
static bool is_condemned(const struct ul_operation *operation, const struct ul_command *command) {
    return operation->condemned == command->token + 1 && command->opcode != UL_OP_CLOSE;
}

static void start(struct ul_engine *engine, const struct ul_command *command) {
    struct ul_operation *operation = reserve_slot(engine, command->token);
    int error = 0;
    if (!operation)
        error = ENOMEM;
    else if (operation->opcode)
        error = EEXIST;
    else if (is_condemned(operation, command))
        error = ECANCELED;
    if (error) {
        refuse(engine, command, error);
        return;
    }
    *operation = (struct ul_operation){
        .token = command->token,
        .address = command->address,
        .length = command->length,
        .argument = command->argument,
        .fd = command->fd,
        .flags = command->flags,
        .opcode = (uint8_t)command->opcode,
        .turn = engine->turn,
    };
    engine->shared.in_flight++;
    engine->backend->start(engine, operation);
}

/* What the engine itself reads, or would misunderstand; the kernel looks at the rest. */
static inline bool is_sensible(const struct ul_command *command) {
    const uint64_t POLL_MASK = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
    switch (command->opcode) {
    case UL_OP_CONNECT:
        return command->address && command->length <= UL_SOCKADDR_MAX;
    case UL_OP_POLL: /* epoll takes bits beside these for something else */
        return !(command->argument & ~POLL_MASK);
    case UL_OP_RECV:
        if (command->flags & UL_READABLE)
            return !(command->flags & (UL_ONCE | UL_FILE));
        return command->length || !(command->flags & UL_ONCE);
    case UL_OP_RELAY:
        return command->length && command->address;
    default:
        return true;
    }
}

static inline bool is_well_formed(const struct ul_command *command) {
    if (command->opcode < UL_OP_ACCEPT || command->opcode > UL_OP_SYMLINK)
        return false;
    return is_sensible(command) && !(command->token >> GENERATION_END);
}

static void take(struct ul_engine *engine, const struct ul_command *command) {
    if (command->opcode == UL_OP_CANCEL)
        cancel(engine, command->argument);
    else if (is_well_formed(command))
        start(engine, command);
    else
        refuse(engine, command, EINVAL);
}

static bool is_staged(const struct ul_shared *shared, uint64_t token) {
    for (uint32_t index = 0; index < shared->command_count; index++)
        if (shared->commands[index].token == token &&
            shared->commands[index].opcode != UL_OP_CANCEL)
            return true;
    return false;
}

/* Notes which commands are cancelled by a later one. To begin and then to cancel them would be too
 * late: whoever gave up may have closed the descriptor since, and the number be another's, whose
 * bytes would be taken or whose socket be connected. The first command of a slot on a new page
 * needs the page now; a number that is no command's needs none. */
static void condemn_cancelled(struct ul_engine *engine) {
    const struct ul_shared *shared = &engine->shared;
    for (uint32_t index = 1; index < shared->command_count; index++) {
        uint64_t token = shared->commands[index].argument;
        struct ul_operation *operation;
        if (shared->commands[index].opcode != UL_OP_CANCEL)
            continue;
        operation = ul_slot_of(engine, token);
        if (!operation && is_staged(shared, token))
            operation = reserve_slot(engine, token);
        if (operation)
            operation->condemned = token + 1;
    }
}

/* Takes commands in order until there is none left, or no room for what they may answer. */
static void take_commands(struct ul_engine *engine) {
    struct ul_shared *shared = &engine->shared;
    uint32_t taken = 0, count = shared->command_count;
    condemn_cancelled(engine);
    while (taken < count && ul_event_room(engine))
        take(engine, &shared->commands[taken++]);
    shared->counters.commands += taken;
    shared->command_count = count - taken;
    if (shared->command_count)
        memmove(shared->commands, shared->commands + taken,
                shared->command_count * sizeof(*shared->commands));
}

int ul_grow_commands(struct ul_engine *engine) {
    struct ul_shared *shared = &engine->shared;
    size_t capacity = (size_t)shared->command_capacity * 2;
    struct ul_command *commands;
    if (capacity > UINT32_MAX)
        return -ENOMEM;
    commands = realloc(shared->commands, capacity * sizeof(*commands));
    if (!commands)
        return -ENOMEM;
    shared->commands = commands;
    shared->command_capacity = (uint32_t)capacity;
    return 0;
}

/* Time. --------------------------------------------------------------------------------- */

static const int64_t WINDOW_NS = UL_HELD_WINDOW_S * (int64_t)UL_NS_PER_S;

/* A new window begins with the stretch that ended just now. */
static void move_window(struct ul_held *held, int64_t now_ns) {
    held->before = held->window;
    if (now_ns - held->window.begin_ns >= 2 * WINDOW_NS)
        held->before = (struct ul_held_window){0}; /* too long ago */
    held->window = (struct ul_held_window){.begin_ns = held->since_ns};
}

/* Python comes back after a stretch. Two readings of the clock for a turn that may wait, one for
 * any other: that is most of what the figures of lateness cost. */
static void end_stretch(struct ul_held *held, int64_t now_ns) {
    int64_t length_ns = now_ns - held->since_ns;
    if (!held->since_ns)
        return;
    if (now_ns - held->window.begin_ns >= WINDOW_NS)
        move_window(held, now_ns);
    held->since_ns = 0;
    held->total_ns += (uint64_t)length_ns;
    held->window.squares_ns2 += (double)length_ns * (double)length_ns;
    if (length_ns > held->window.longest_ns)
        held->window.longest_ns = length_ns;
}

/* A turn. ------------------------------------------------------------------------------- */

int ul_turn(struct ul_engine *engine, int64_t timeout_ns) {
    struct ul_shared *shared = &engine->shared;
    int error;
    if (engine->abandoned)
        return -EBADF;
    engine->begin_ns = ul_now_ns();
    end_stretch(&shared->held, engine->begin_ns);
    shared->event_count = 0;
    engine->counting_events = 0;
    engine->turn++;
    error = engine->backend->begin(engine);
    if (error)
        return error;
    shared->counters.turns++;
    shared->buffers_held = 0;
    take_commands(engine);
    error = engine->backend->finish(engine, timeout_ns);
    shared->counters.events += shared->event_count;
    shared->held.since_ns = timeout_ns ? ul_now_ns() : engine->begin_ns;
    if (error && !shared->event_count)
        return error; /* with events, it comes again in the next turn */
    return (int)shared->event_count;
}

/* What the backends share. -------------------------------------------------------------- */

/* Moves on over iovecs, also over empty ones: what is left begins with a byte to send. */
static bool advance_iovecs(struct ul_operation *operation, uint64_t sent) {
    struct iovec *iovec = (struct iovec *)(uintptr_t)operation->address;
    while (operation->length && iovec->iov_len <= sent) {
        sent -= iovec->iov_len;
        iovec++;
        operation->length--;
    }
    if (operation->length) {
        iovec->iov_base = (char *)iovec->iov_base + sent;
        iovec->iov_len -= sent;
    }
    operation->address = (uintptr_t)iovec;
    return !operation->length;
}

bool ul_send_advance(struct ul_operation *operation, uint64_t sent) {
    operation->done += sent;
    if (operation->flags & UL_VECTORED)
        return advance_iovecs(operation, sent);
    operation->address += sent;
    operation->length -= sent;
    return !operation->length;
}

bool ul_accept_error_passes(int error) {
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case ENONET:
        return true;
    case EOPNOTSUPP: /* accept(2) lists it here too, but a datagram socket answers it for ever */
    default:
        return false;
    }
}

/* Open and close. ----------------------------------------------------------------------- */

static void free_engine(struct ul_engine *engine) {
    if (engine->wake_fd >= 0)
        close(engine->wake_fd);
    for (uint32_t page = 0; page < engine->page_count; page++)
        free(engine->pages[page]);
    free(engine->pages);
    free(engine->names);
    free(engine->shared.events);
    free(engine->shared.commands);
    free(engine);
}

static struct ul_engine *new_engine(const struct ul_config *config) {
    struct ul_engine *engine = calloc(1, sizeof(*engine));
    uint32_t events = config->event_capacity ? config->event_capacity : EVENTS_DEFAULT;
    if (!engine)
        return NULL;
    engine->wake_fd = -1;
    engine->event_capacity = events < EVENTS_MIN ? EVENTS_MIN : events;
    engine->shared.command_capacity = COMMANDS_AT_OPEN;
    engine->shared.events = calloc(engine->event_capacity, sizeof(struct ul_event));
    engine->shared.commands = calloc(COMMANDS_AT_OPEN, sizeof(struct ul_command));
    if (engine->shared.events && engine->shared.commands)
        return engine;
    free_engine(engine);
    return NULL;
}

static int open_backend(struct ul_engine *engine, const struct ul_config *config) {
    return config->features & UL_FEATURE_IO_URING ? ul_uring_open(engine, config)
                                                  : ul_epoll_open(engine, config);
}

int ul_open(const struct ul_config *config, struct ul_engine **engine) {
    struct ul_engine *opened = new_engine(config);
    int error;
    if (!opened)
        return -ENOMEM;
    opened->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = opened->wake_fd < 0 ? -errno : open_backend(opened, config);
    if (error) {
        free_engine(opened);
        return error;
    }
    *engine = opened;
    return 0;
}

struct ul_shared *ul_shared_of(struct ul_engine *engine) {
    return &engine->shared;
}

int ul_wake_descriptor(struct ul_engine *engine) {
    return engine->wake_fd;
}

/* Those that no turn has taken. In the child of a fork they are the parent's. */
static void close_unsent(struct ul_engine *engine) {
    const struct ul_shared *shared = &engine->shared;
    for (uint32_t index = 0; index < shared->command_count && !engine->abandoned; index++)
        if (shared->commands[index].opcode == UL_OP_CLOSE)
            close(shared->commands[index].fd);
}

void ul_close(struct ul_engine *engine) {
    engine->backend->close(engine);
    close_unsent(engine);
    free_engine(engine);
}

void ul_abandon(struct ul_engine *engine) {
    if (engine->abandoned)
        return;
    engine->abandoned = true;
    engine->backend->abandon(engine);
    close(engine->wake_fd);
    engine->wake_fd = -1;
}
