/* A closed-loop load generator for echo servers and proxies of echo servers.
 *
 *     load [-c CONNECTIONS] [-s SIZE_BYTES] [-r ANSWER_BYTES] [-k PIPELINE] [-w WARMUP_MS]
 *          [-d DURATION_MS] [-p PID] [-v] tcp IPV4 PORT | unix PATH | udp IPV4 PORT
 *
 * Each connection keeps PIPELINE messages under way: when one has come back whole, the
 * next one is sent. After the warm-up messages are counted and timed for the duration;
 * then nothing new is sent, and all that is under way must come back: a byte that is
 * lost, or one that nobody sent, is an error. With -v each byte is compared as well.
 * With -p the CPU time of that process (all its threads, ended ones too) is read at both
 * ends of the same window, so that time and count belong together.
 *
 * With -r only the last ANSWER_BYTES of a message come back, as sink.c sends them: then nearly
 * all bytes go one way.
 *
 * Over UDP a connection is a connected socket and a message one datagram, which must come
 * back whole and in its turn. Nothing is sent again: what the kernel drops is lost, and an
 * error, so that what is under way must fit into the server's receive buffer.
 *
 * The program is built twice, over plain sockets and over TLS (channel.h).
 *
 * One thread, edge-triggered epoll, one recv and one send a message: about what the
 * leanest echo server costs, so it needs a core of its own. Prints one JSON line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "channel.h"
#include "endpoint.h"
#include "window.h"

#define CHUNK_BYTES (256u * 1024u)
#define PATTERN_PERIOD 65521u /* a prime: a lost power of two shows */
#define DATAGRAM_BYTES_MAX 65507u
#define EVENTS_MAX 256
#define READABLE (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

struct options {
    struct endpoint endpoint;
    unsigned connections;
    unsigned pipeline;
    uint64_t size_bytes;
    uint64_t answer_bytes; /* of each message, its last ones */
    bool verify;
};

struct connection {
    struct channel channel;
    unsigned index;
    uint64_t allowed_bytes; /* may be sent so far */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t messages;       /* came back whole */
    uint64_t *started_at_ns; /* of the messages under way: message m at m % pipeline */
};

struct load {
    struct options options;
    struct connection *connections;
    int epoll_fd;
    struct window window;
    uint64_t under_way; /* messages, over all connections */
    unsigned char pattern[PATTERN_PERIOD + CHUNK_BYTES];
    unsigned char received[CHUNK_BYTES];
};

static const char *const PHASE_NAMES[] = {"warming up", "measuring", "draining"};

/* The byte at a position of a connection's stream differs from connection to connection,
 * so that bytes delivered to the wrong one are noticed too. */
static const unsigned char *pattern_at(const struct load *load, const struct connection *connection,
                                       uint64_t position)
{
    return load->pattern + (position + (uint64_t)connection->index * 4099u) % PATTERN_PERIOD;
}

static void pattern_fill(unsigned char *pattern)
{
    uint32_t state = 2463534242u; /* xorshift */
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        pattern[i] = (unsigned char)(state >> 24);
    }
    for (size_t i = PATTERN_PERIOD; i < PATTERN_PERIOD + CHUNK_BYTES; i++)
        pattern[i] = pattern[i - PATTERN_PERIOD];
}

/* ---- one connection ------------------------------------------------------------- */

static void push(struct load *load, struct connection *connection)
{
    while (connection->sent_bytes < connection->allowed_bytes) {
        uint64_t left = connection->allowed_bytes - connection->sent_bytes;
        uint64_t piece = load->options.endpoint.is_datagram ? load->options.size_bytes : CHUNK_BYTES;
        size_t length = (size_t)(left < piece ? left : piece);
        ssize_t sent = channel_send(&connection->channel,
                                    pattern_at(load, connection, connection->sent_bytes), length);
        if (sent < 0 && errno == EAGAIN)
            return; /* the edge of EPOLLOUT brings us back */
        if (sent < 0)
            die_errno("send");
        connection->sent_bytes += (uint64_t)sent;
    }
}

static void check_piece(const struct load *load, const struct connection *connection,
                        uint64_t position, const unsigned char *piece, size_t length)
{
    const unsigned char *expected = pattern_at(load, connection, position);
    if (memcmp(expected, piece, length) == 0)
        return;
    size_t at = 0;
    while (expected[at] == piece[at])
        at++;
    die("verification failed: connection %u, offset %" PRIu64 ": expected %u, received %u",
        connection->index, position + at, expected[at], piece[at]);
}

/* Byte i of the answer to message m is byte size - answer + i of that message. */
static void check_bytes(const struct load *load, const struct connection *connection, size_t length)
{
    uint64_t size = load->options.size_bytes, answer = load->options.answer_bytes;
    const unsigned char *piece = load->received;
    for (uint64_t received = connection->received_bytes; length > 0;) {
        uint64_t message = received / answer, left = (message + 1) * answer - received;
        size_t piece_bytes = length < left ? length : (size_t)left;
        check_piece(load, connection, (message + 1) * size - left, piece, piece_bytes);
        received += piece_bytes;
        piece += piece_bytes;
        length -= piece_bytes;
    }
}

/* How many bytes may have come back: those of what was sent. */
static uint64_t answerable_bytes(const struct load *load, const struct connection *connection)
{
    uint64_t size = load->options.size_bytes, answer = load->options.answer_bytes;
    uint64_t begun = connection->sent_bytes % size, silent = size - answer;
    return connection->sent_bytes / size * answer + (begun > silent ? begun - silent : 0);
}

static void message_completed(struct load *load, struct connection *connection, uint64_t now)
{
    uint64_t *started = &connection->started_at_ns[connection->messages % load->options.pipeline];
    connection->messages++;
    window_record(&load->window, now - *started);
    if (load->window.phase == DRAINING) {
        load->under_way--;
        return;
    }
    *started = now;
    connection->allowed_bytes += load->options.size_bytes;
}

static void received(struct load *load, struct connection *connection, size_t length, uint64_t now)
{
    if (load->options.verify)
        check_bytes(load, connection, length);
    connection->received_bytes += length;
    if (connection->received_bytes > answerable_bytes(load, connection))
        die("connection %u received more bytes than it sent", connection->index);
    while (connection->received_bytes >= (connection->messages + 1) * load->options.answer_bytes)
        message_completed(load, connection, now);
}

/* Whether nothing more can be in the socket after a read of `length` bytes. */
static bool is_known_empty(const struct load *load, const struct connection *connection,
                           size_t length)
{
    if (load->options.endpoint.is_datagram || !channel_short_means_empty)
        return connection->received_bytes == answerable_bytes(load, connection);
    return length < CHUNK_BYTES;
}

/* Edge-triggered: read until the socket is known to be empty. A short read tells it without
 * another system call, where bytes have no borders; otherwise, that nothing is under way. */
static void pull(struct load *load, struct connection *connection, uint64_t now)
{
    for (;;) {
        ssize_t length = channel_receive(&connection->channel, load->received, CHUNK_BYTES);
        if (length < 0 && errno == EAGAIN)
            return;
        if (length < 0)
            die_errno("recv");
        if (load->options.endpoint.is_datagram && (uint64_t)length != load->options.size_bytes)
            die("connection %u received a datagram of %zd bytes", connection->index, length);
        if (length == 0)
            die("connection %u was closed by the server while %s", connection->index,
                PHASE_NAMES[load->window.phase]);
        received(load, connection, (size_t)length, now);
        if (is_known_empty(load, connection, (size_t)length))
            return;
    }
}

/* ---- the phases ----------------------------------------------------------------- */

static void go_on(struct load *load, uint64_t now)
{
    if (!window_go_on(&load->window, now))
        die("%" PRIu64 " messages never came back", load->under_way);
}

static void ready(struct load *load, struct connection *connection, uint32_t events)
{
    uint64_t now = now_ns();
    go_on(load, now);
    if (events & READABLE)
        pull(load, connection, now);
    push(load, connection);
}

static void run(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];
    window_begin(&load->window);
    for (unsigned i = 0; i < load->options.connections; i++)
        push(load, &load->connections[i]);
    while (load->under_way > 0) {
        int wait_ms = window_wait_ms(&load->window, now_ns());
        int count = epoll_wait(load->epoll_fd, events, EVENTS_MAX, wait_ms);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++)
            ready(load, events[i].data.ptr, events[i].events);
        if (count <= 0)
            go_on(load, now_ns());
    }
}

/* ---- beginning and end ---------------------------------------------------------- */

static void open_connection(struct load *load, struct connection *connection, unsigned index)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = connection};
    unsigned pipeline = load->options.pipeline;
    connection->index = index;
    channel_open(&connection->channel, &load->options.endpoint);
    connection->allowed_bytes = load->options.size_bytes * pipeline;
    connection->started_at_ns = calloc(pipeline, sizeof(uint64_t));
    if (!connection->started_at_ns)
        die("out of memory");
    for (unsigned i = 0; i < pipeline; i++)
        connection->started_at_ns[i] = now_ns();
    if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, connection->channel.fd, &event) < 0)
        die_errno("epoll_ctl");
    load->under_way += pipeline;
}

static void open_all(struct load *load)
{
    load->connections = calloc(load->options.connections, sizeof(struct connection));
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!load->connections || load->epoll_fd < 0)
        die_errno("epoll_create1");
    for (unsigned i = 0; i < load->options.connections; i++)
        open_connection(load, &load->connections[i], i);
}

static void check(const struct options *options)
{
    if (options->answer_bytes > options->size_bytes)
        die("an answer is the end of a message, and no longer");
    if (options->endpoint.is_datagram && options->answer_bytes != options->size_bytes)
        die("datagrams come back whole");
    if (options->endpoint.is_datagram && options->size_bytes > DATAGRAM_BYTES_MAX)
        die("a datagram has at most %u bytes", DATAGRAM_BYTES_MAX);
}

static void parse(struct load *load, int argc, char **argv)
{
    struct options options = {.connections = 10, .pipeline = 1, .size_bytes = 1024};
    int option;
    window_set_up(&load->window);
    while ((option = getopt(argc, argv, "+c:s:r:k:v" WINDOW_OPTIONS)) != -1) {
        switch (option) {
        case 'c': options.connections = (unsigned)positive(optarg, 'c'); break;
        case 's': options.size_bytes = positive(optarg, 's'); break;
        case 'r': options.answer_bytes = positive(optarg, 'r'); break;
        case 'k': options.pipeline = (unsigned)positive(optarg, 'k'); break;
        case 'v': options.verify = true; break;
        default:
            if (!window_option(&load->window, option, optarg))
                die("see the top of load.c for the options");
        }
    }
    endpoint_parse(&options.endpoint, argc, argv, optind);
    if (options.answer_bytes == 0)
        options.answer_bytes = options.size_bytes;
    load->options = options;
    check(&load->options);
}

int main(int argc, char **argv)
{
    static struct load load; /* too large for a stack */
    die_with_parent();
    raise_descriptor_limit();
    parse(&load, argc, argv);
    pattern_fill(load.pattern);
    open_all(&load);
    run(&load);
    window_print(&load.window);
    return 0;
}
