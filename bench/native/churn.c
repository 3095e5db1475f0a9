/* A load of short connections for an echo server: connect, request, answer, end.
 *
 *     churn [-c AT_ONCE] [-s SIZE_BYTES] [-w WARMUP_MS] [-d DURATION_MS] [-p PID]
 *           tcp IPV4 PORT
 *
 * AT_ONCE connections are open at any time. Each sends SIZE_BYTES, compares what comes back,
 * says end of file, and waits for the server's: only then it has ended, is counted, and the
 * next one is opened in its place. After the duration no new one is opened, and those under
 * way must end. An answer that is lost, changed or too long is an error. With -p the CPU
 * time of that process (all its threads, ended ones too) is read at both ends of the window.
 *
 * Who says the end first keeps the pair of addresses for a minute (TIME_WAIT), and that is
 * this program. On the loopback connections therefore come from many source addresses.
 *
 * One thread, level-triggered epoll. Prints one JSON line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "endpoint.h"
#include "histogram.h"

#define SIZE_BYTES_MAX 16384u /* fits into any send buffer, so a send is never short */
#define SOURCE_ADDRESSES 200u
#define DRAIN_LIMIT_NS 5000000000u
#define EVENTS_MAX 256

enum phase { WARMING_UP, MEASURING, DRAINING };

struct options {
    struct endpoint endpoint;
    unsigned at_once;
    uint64_t size_bytes;
    uint64_t warmup_ns;
    uint64_t duration_ns;
    pid_t measured_pid; /* 0: none */
};

struct connection {
    int fd;
    uint64_t number; /* how many were opened before it */
    uint64_t received_bytes;
    uint64_t started_ns;
};

struct churn {
    struct options options;
    struct sockaddr_in server;
    struct connection *connections;
    int epoll_fd;
    enum phase phase;
    uint64_t phase_ends_ns;
    uint64_t started_ns, ended_ns;        /* of the measured window */
    uint64_t measured_cpu_ns, own_cpu_ns; /* within it */
    uint64_t opened;
    unsigned under_way;
    clockid_t measured_clock;
    struct histogram latencies;
    unsigned char pattern[256u + SIZE_BYTES_MAX];
    unsigned char received[SIZE_BYTES_MAX + 1u];
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec value;
    if (clock_gettime(clock, &value) < 0)
        die_errno("clock_gettime (the measured process is gone)");
    return (uint64_t)value.tv_sec * 1000000000u + (uint64_t)value.tv_nsec;
}

/* Two connections at once send different bytes, so that a mix-up shows. */
static const unsigned char *request_of(const struct churn *churn, const struct connection *connection)
{
    return churn->pattern + connection->number % 251u;
}

/* ---- one connection ------------------------------------------------------------- */

static void bind_source(const struct churn *churn, int fd, uint64_t number)
{
    int yes = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    if (ntohl(churn->server.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
        return;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % SOURCE_ADDRESSES));
    /* The port is chosen by connect(), for which only the whole pair must be new. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes)) < 0)
        die_errno("setsockopt(IP_BIND_ADDRESS_NO_PORT)");
    if (bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0)
        die_errno("bind");
}

static void open_connection(struct churn *churn, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    ssize_t size = (ssize_t)churn->options.size_bytes;
    connection->number = churn->opened++;
    connection->received_bytes = 0;
    connection->started_ns = now_ns();
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die_errno("socket");
    bind_source(churn, connection->fd, connection->number);
    if (connect(connection->fd, (struct sockaddr *)&churn->server, sizeof(churn->server)) < 0)
        die_errno("connect");
    if (send(connection->fd, request_of(churn, connection), (size_t)size, MSG_NOSIGNAL) != size)
        die_errno("send");
    if (epoll_ctl(churn->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        die_errno("epoll_ctl");
    churn->under_way++;
}

static void ended(struct churn *churn, struct connection *connection, uint64_t now)
{
    if (connection->received_bytes < churn->options.size_bytes)
        die("connection %" PRIu64 " was closed by the server after %" PRIu64 " bytes",
            connection->number, connection->received_bytes);
    if (churn->phase == MEASURING)
        histogram_record(&churn->latencies, now - connection->started_ns);
    close(connection->fd);
    churn->under_way--;
    if (churn->phase != DRAINING)
        open_connection(churn, connection);
}

static void received(struct churn *churn, struct connection *connection, uint64_t length)
{
    const unsigned char *expected = request_of(churn, connection) + connection->received_bytes;
    if (connection->received_bytes + length > churn->options.size_bytes)
        die("connection %" PRIu64 " received more bytes than it sent", connection->number);
    if (memcmp(expected, churn->received, length) != 0)
        die("verification failed: connection %" PRIu64 ", in the %" PRIu64 " bytes from %" PRIu64,
            connection->number, length, connection->received_bytes);
    connection->received_bytes += length;
    if (connection->received_bytes == churn->options.size_bytes &&
        shutdown(connection->fd, SHUT_WR) < 0)
        die_errno("shutdown");
}

static void pull(struct churn *churn, struct connection *connection, uint64_t now)
{
    ssize_t length = recv(connection->fd, churn->received, sizeof(churn->received), MSG_DONTWAIT);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length < 0)
        die_errno("recv");
    if (length == 0)
        ended(churn, connection, now);
    else
        received(churn, connection, (uint64_t)length);
}

/* ---- the phases ----------------------------------------------------------------- */

static void read_cpu_clocks(struct churn *churn, bool ends)
{
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t measured = churn->options.measured_pid ? clock_ns(churn->measured_clock) : 0;
    churn->own_cpu_ns = ends ? own - churn->own_cpu_ns : own;
    churn->measured_cpu_ns = ends ? measured - churn->measured_cpu_ns : measured;
}

static void next_phase(struct churn *churn, uint64_t now)
{
    switch (churn->phase) {
    case WARMING_UP:
        churn->phase = MEASURING;
        churn->phase_ends_ns = now + churn->options.duration_ns;
        churn->started_ns = now;
        read_cpu_clocks(churn, false);
        return;
    case MEASURING:
        churn->phase = DRAINING;
        churn->phase_ends_ns = now + DRAIN_LIMIT_NS;
        churn->ended_ns = now;
        read_cpu_clocks(churn, true);
        return;
    case DRAINING:
        die("%u connections never ended", churn->under_way);
    }
}

static int wait_ms(const struct churn *churn, uint64_t now)
{
    return now >= churn->phase_ends_ns ? 0 : (int)((churn->phase_ends_ns - now) / 1000000u + 1u);
}

static void run(struct churn *churn)
{
    struct epoll_event events[EVENTS_MAX];
    churn->phase_ends_ns = now_ns() + churn->options.warmup_ns;
    for (unsigned i = 0; i < churn->options.at_once; i++)
        open_connection(churn, &churn->connections[i]);
    while (churn->under_way > 0) {
        int count = epoll_wait(churn->epoll_fd, events, EVENTS_MAX, wait_ms(churn, now_ns()));
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            uint64_t now = now_ns();
            if (now >= churn->phase_ends_ns)
                next_phase(churn, now);
            pull(churn, events[i].data.ptr, now);
        }
        if (count <= 0 && now_ns() >= churn->phase_ends_ns)
            next_phase(churn, now_ns());
    }
}

/* ---- beginning and end ---------------------------------------------------------- */

static void prepare(struct churn *churn)
{
    const struct options *options = &churn->options;
    churn->server.sin_family = AF_INET;
    churn->server.sin_port = htons(options->endpoint.port);
    if (inet_pton(AF_INET, options->endpoint.host, &churn->server.sin_addr) != 1)
        die("not an IPv4 address: %s", options->endpoint.host);
    for (size_t i = 0; i < sizeof(churn->pattern); i++)
        churn->pattern[i] = (unsigned char)(i * 31u + i / 256u);
    churn->connections = calloc(options->at_once, sizeof(struct connection));
    churn->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!churn->connections || churn->epoll_fd < 0)
        die_errno("epoll_create1");
    if (options->measured_pid &&
        clock_getcpuclockid(options->measured_pid, &churn->measured_clock) != 0)
        die("there is no process %d to measure", (int)options->measured_pid);
}

static void print_result(const struct churn *churn)
{
    const struct histogram *latencies = &churn->latencies;
    printf("{\"connections\": %" PRIu64 ", \"seconds\": %.9f, \"measured_cpu_ns\": %" PRIu64
           ", \"load_cpu_ns\": %" PRIu64 ", \"latency_ns\": {\"p50\": %" PRIu64
           ", \"p99\": %" PRIu64 ", \"p99_9\": %" PRIu64 "}}\n",
           latencies->count, (double)(churn->ended_ns - churn->started_ns) / 1e9,
           churn->measured_cpu_ns, churn->own_cpu_ns, histogram_at(latencies, 0.5),
           histogram_at(latencies, 0.99), histogram_at(latencies, 0.999));
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
    struct options options = {.at_once = 10, .size_bytes = 64,
                              .warmup_ns = 200000000u, .duration_ns = 1000000000u};
    int option;
    while ((option = getopt(argc, argv, "+c:s:w:d:p:")) != -1) {
        switch (option) {
        case 'c': options.at_once = (unsigned)positive(optarg, 'c'); break;
        case 's': options.size_bytes = positive(optarg, 's'); break;
        case 'w': options.warmup_ns = positive(optarg, 'w') * 1000000u; break;
        case 'd': options.duration_ns = positive(optarg, 'd') * 1000000u; break;
        case 'p': options.measured_pid = (pid_t)positive(optarg, 'p'); break;
        default: die("see the top of churn.c for the options");
        }
    }
    endpoint_parse(&options.endpoint, argc, argv, optind);
    if (!options.endpoint.host || options.endpoint.is_datagram)
        die("connections are opened over TCP only");
    if (options.size_bytes > SIZE_BYTES_MAX)
        die("a request has at most %u bytes", SIZE_BYTES_MAX);
    return options;
}

int main(int argc, char **argv)
{
    static struct churn churn; /* too large for a stack */
    die_with_parent();
    churn.options = parse(argc, argv);
    prepare(&churn);
    run(&churn);
    print_result(&churn);
    return 0;
}
