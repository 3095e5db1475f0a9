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
#include <unistd.h>

#include "endpoint.h"
#include "window.h"

#define SIZE_BYTES_MAX 16384u /* fits into any send buffer, so a send is never short */
#define SOURCE_ADDRESSES 200u
#define EVENTS_MAX 256

struct options {
    struct endpoint endpoint;
    unsigned at_once;
    uint64_t size_bytes;
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
    struct window window;
    uint64_t opened;
    unsigned under_way;
    unsigned char pattern[256u + SIZE_BYTES_MAX];
    unsigned char received[SIZE_BYTES_MAX + 1u];
};

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
    window_record(&churn->window, now - connection->started_ns);
    close(connection->fd);
    churn->under_way--;
    if (churn->window.phase != DRAINING)
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

static void go_on(struct churn *churn, uint64_t now)
{
    if (!window_go_on(&churn->window, now))
        die("%u connections never ended", churn->under_way);
}

static void run(struct churn *churn)
{
    struct epoll_event events[EVENTS_MAX];
    window_begin(&churn->window);
    for (unsigned i = 0; i < churn->options.at_once; i++)
        open_connection(churn, &churn->connections[i]);
    while (churn->under_way > 0) {
        int wait_ms = window_wait_ms(&churn->window, now_ns());
        int count = epoll_wait(churn->epoll_fd, events, EVENTS_MAX, wait_ms);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            uint64_t now = now_ns();
            go_on(churn, now);
            pull(churn, events[i].data.ptr, now);
        }
        if (count <= 0)
            go_on(churn, now_ns());
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
}

static void parse(struct churn *churn, int argc, char **argv)
{
    struct options options = {.at_once = 10, .size_bytes = 64};
    int option;
    window_set_up(&churn->window);
    while ((option = getopt(argc, argv, "+c:s:" WINDOW_OPTIONS)) != -1) {
        switch (option) {
        case 'c': options.at_once = (unsigned)positive(optarg, 'c'); break;
        case 's': options.size_bytes = positive(optarg, 's'); break;
        default:
            if (!window_option(&churn->window, option, optarg))
                die("see the top of churn.c for the options");
        }
    }
    endpoint_parse(&options.endpoint, argc, argv, optind);
    if (!options.endpoint.host || options.endpoint.is_datagram)
        die("connections are opened over TCP only");
    if (options.size_bytes > SIZE_BYTES_MAX)
        die("a request has at most %u bytes", SIZE_BYTES_MAX);
    churn->options = options;
}

int main(int argc, char **argv)
{
    static struct churn churn; /* too large for a stack */
    die_with_parent();
    parse(&churn, argc, argv);
    prepare(&churn);
    run(&churn);
    window_print(&churn.window);
    return 0;
}
