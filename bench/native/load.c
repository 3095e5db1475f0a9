/* A closed-loop load generator for echo servers and proxies of echo servers.
 *
 *     load [-c CONNECTIONS] [-s SIZE_BYTES] [-k PIPELINE] [-w WARMUP_MS] [-d DURATION_MS]
 *          [-p PID] [-v] tcp IPV4 PORT | unix PATH | udp IPV4 PORT
 *
 * Each connection keeps PIPELINE messages under way: when one has come back whole, the
 * next one is sent. After the warm-up messages are counted and timed for the duration;
 * then nothing new is sent, and all that is under way must come back: a byte that is
 * lost, or one that nobody sent, is an error. With -v each byte is compared as well.
 * With -p the CPU time of that process (all its threads, ended ones too) is read at both
 * ends of the same window, so that time and count belong together.
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
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "endpoint.h"
#include "histogram.h"

#define CHUNK_BYTES (256u * 1024u)
#define PATTERN_PERIOD 65521u /* a prime: a lost power of two shows */
#define DATAGRAM_BYTES_MAX 65507u
#define DRAIN_LIMIT_NS 5000000000u
#define EVENTS_MAX 256
#define READABLE (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

enum phase { WARMING_UP, MEASURING, DRAINING };

struct options {
    struct endpoint endpoint;
    unsigned connections;
    unsigned pipeline;
    uint64_t size_bytes;
    uint64_t warmup_ns;
    uint64_t duration_ns;
    pid_t measured_pid; /* 0: none */
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
    enum phase phase;
    uint64_t phase_ends_ns;
    uint64_t started_ns, ended_ns;         /* of the measured window */
    uint64_t measured_cpu_ns, own_cpu_ns;  /* within it */
    uint64_t under_way;                    /* messages, over all connections */
    clockid_t measured_clock;
    struct histogram latencies;
    unsigned char pattern[PATTERN_PERIOD + CHUNK_BYTES];
    unsigned char received[CHUNK_BYTES];
};

static const char *const PHASE_NAMES[] = {"warming up", "measuring", "draining"};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec value;
    if (clock_gettime(clock, &value) < 0)
        die_errno("clock_gettime (the measured process is gone)");
    return (uint64_t)value.tv_sec * 1000000000u + (uint64_t)value.tv_nsec;
}

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

static void check_bytes(const struct load *load, const struct connection *connection, size_t length)
{
    const unsigned char *expected = pattern_at(load, connection, connection->received_bytes);
    if (memcmp(expected, load->received, length) == 0)
        return;
    size_t at = 0;
    while (expected[at] == load->received[at])
        at++;
    die("verification failed: connection %u, offset %" PRIu64 ": expected %u, received %u",
        connection->index, connection->received_bytes + at, expected[at], load->received[at]);
}

static void message_completed(struct load *load, struct connection *connection, uint64_t now)
{
    uint64_t *started = &connection->started_at_ns[connection->messages % load->options.pipeline];
    connection->messages++;
    if (load->phase == MEASURING)
        histogram_record(&load->latencies, now - *started);
    if (load->phase == DRAINING) {
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
    if (connection->received_bytes > connection->sent_bytes)
        die("connection %u received more bytes than it sent", connection->index);
    while (connection->received_bytes >= (connection->messages + 1) * load->options.size_bytes)
        message_completed(load, connection, now);
}

/* Whether nothing more can be in the socket after a read of `length` bytes. */
static bool is_known_empty(const struct load *load, const struct connection *connection,
                           size_t length)
{
    if (load->options.endpoint.is_datagram || !channel_short_means_empty)
        return connection->received_bytes == connection->sent_bytes;
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
                PHASE_NAMES[load->phase]);
        received(load, connection, (size_t)length, now);
        if (is_known_empty(load, connection, (size_t)length))
            return;
    }
}

/* ---- the phases ----------------------------------------------------------------- */

static void read_cpu_clocks(struct load *load, int sign)
{
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t measured = load->options.measured_pid ? clock_ns(load->measured_clock) : 0;
    load->own_cpu_ns = sign < 0 ? own : own - load->own_cpu_ns;
    load->measured_cpu_ns = sign < 0 ? measured : measured - load->measured_cpu_ns;
}

static void next_phase(struct load *load, uint64_t now)
{
    switch (load->phase) {
    case WARMING_UP:
        load->phase = MEASURING;
        load->phase_ends_ns = now + load->options.duration_ns;
        load->started_ns = now;
        read_cpu_clocks(load, -1);
        return;
    case MEASURING:
        load->phase = DRAINING;
        load->phase_ends_ns = now + DRAIN_LIMIT_NS;
        load->ended_ns = now;
        read_cpu_clocks(load, +1);
        return;
    case DRAINING:
        die("%" PRIu64 " messages never came back", load->under_way);
    }
}

static int wait_ms(const struct load *load, uint64_t now)
{
    return now >= load->phase_ends_ns ? 0 : (int)((load->phase_ends_ns - now) / 1000000u + 1u);
}

static void run(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];
    load->phase_ends_ns = now_ns() + load->options.warmup_ns;
    for (unsigned i = 0; i < load->options.connections; i++)
        push(load, &load->connections[i]);
    while (load->under_way > 0) {
        int count = epoll_wait(load->epoll_fd, events, EVENTS_MAX, wait_ms(load, now_ns()));
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            uint64_t now = now_ns();
            if (now >= load->phase_ends_ns)
                next_phase(load, now);
            if (events[i].events & READABLE)
                pull(load, connection, now);
            push(load, connection);
        }
        if (count <= 0 && now_ns() >= load->phase_ends_ns)
            next_phase(load, now_ns());
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
    if (load->options.measured_pid &&
        clock_getcpuclockid(load->options.measured_pid, &load->measured_clock) != 0)
        die("there is no process %d to measure", (int)load->options.measured_pid);
    for (unsigned i = 0; i < load->options.connections; i++)
        open_connection(load, &load->connections[i], i);
}

static void print_result(const struct load *load)
{
    const struct histogram *latencies = &load->latencies;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.9f, \"connections\": %u, "
           "\"size_bytes\": %" PRIu64 ", \"pipeline\": %u, \"verified\": %s, "
           "\"measured_cpu_ns\": %" PRIu64 ", \"load_cpu_ns\": %" PRIu64 ", "
           "\"latency_ns\": {\"p50\": %" PRIu64 ", \"p90\": %" PRIu64 ", \"p99\": %" PRIu64
           ", \"p99_9\": %" PRIu64 ", \"max\": %" PRIu64 "}}\n",
           latencies->count, (double)(load->ended_ns - load->started_ns) / 1e9,
           load->options.connections, load->options.size_bytes, load->options.pipeline,
           load->options.verify ? "true" : "false", load->measured_cpu_ns, load->own_cpu_ns,
           histogram_at(latencies, 0.5), histogram_at(latencies, 0.9),
           histogram_at(latencies, 0.99), histogram_at(latencies, 0.999), latencies->max_ns);
}

static uint64_t positive(const char *text, char option)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (value == 0 || *end != '\0')
        die("-%c wants a whole number above 0, not %s", option, text);
    return value;
}

static struct options parse(int argc, char **argv)
{
    struct options options = {.connections = 10, .pipeline = 1, .size_bytes = 1024,
                              .warmup_ns = 200000000u, .duration_ns = 1000000000u};
    int option;
    while ((option = getopt(argc, argv, "+c:s:k:w:d:p:v")) != -1) {
        switch (option) {
        case 'c': options.connections = (unsigned)positive(optarg, 'c'); break;
        case 's': options.size_bytes = positive(optarg, 's'); break;
        case 'k': options.pipeline = (unsigned)positive(optarg, 'k'); break;
        case 'w': options.warmup_ns = positive(optarg, 'w') * 1000000u; break;
        case 'd': options.duration_ns = positive(optarg, 'd') * 1000000u; break;
        case 'p': options.measured_pid = (pid_t)positive(optarg, 'p'); break;
        case 'v': options.verify = true; break;
        default: die("see the top of load.c for the options");
        }
    }
    endpoint_parse(&options.endpoint, argc, argv, optind);
    if (options.endpoint.is_datagram && options.size_bytes > DATAGRAM_BYTES_MAX)
        die("a datagram has at most %u bytes", DATAGRAM_BYTES_MAX);
    return options;
}

int main(int argc, char **argv)
{
    static struct load load; /* too large for a stack */
    die_with_parent();
    raise_descriptor_limit();
    load.options = parse(argc, argv);
    pattern_fill(load.pattern);
    open_all(&load);
    run(&load);
    print_result(&load);
    return 0;
}
