/* The limit for a relay on readiness: a TCP proxy on epoll, without any Python.
 *
 *     relay_epoll tcp IPV4 PORT | unix PATH  tcp UPSTREAM_IPV4 PORT | unix PATH
 *
 * Each client gets a connection of its own to the upstream. Level-triggered, one thread, one
 * shared receive buffer, large enough for long messages and small enough for a processor's
 * cache: what was received is sent at once. What the socket does not take is kept, and its
 * partner is not read until it is gone. End of file is carried on as end of file once
 * everything before it has been sent; a broken connection breaks its partner.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blocks.h"
#include "endpoint.h"

#define RECEIVE_BYTES (256u * 1024u)
#define EVENTS_MAX 256

/* One of the two connections of a pair; the other one is its partner. */
struct side {
    struct side *partner;
    int fd;
    uint32_t watched;    /* EPOLLIN, EPOLLOUT; 0: epoll does not know it */
    bool is_connecting;
    bool has_ended;      /* end of file came */
    bool is_shut;        /* and end of file was sent */
    bool is_closed;
    struct blocks kept;  /* what the socket did not take */
    struct side *next_closed;
};

struct server {
    struct endpoint endpoint, upstream;
    struct sockaddr_storage upstream_address;
    socklen_t upstream_length;
    int listen_fd;
    int epoll_fd;
    struct side *closed; /* freed after the turn: its events may still name them */
    unsigned char received[RECEIVE_BYTES];
};

static void watch(struct server *server, int operation, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(server->epoll_fd, operation, fd, &event) < 0)
        die_errno("epoll_ctl");
}

/* What this side waits for now, both of them being connected. epoll always reports EPOLLHUP,
 * also while nothing is to be received; so it is not asked at all where nothing is wanted. */
static void watch_side(struct server *server, struct side *side)
{
    bool is_read = !side->has_ended && !side->partner->kept.first;
    uint32_t events = (is_read ? EPOLLIN : 0u) | (side->kept.first ? EPOLLOUT : 0u);
    if (side->is_closed || events == side->watched)
        return;
    int operation = !side->watched ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    side->watched = events;
    watch(server, operation, side->fd, events, side);
}

/* The pair's memory is that of its client's side, which is the first. */
static void close_pair(struct server *server, struct side *side, bool is_broken)
{
    struct side *pair = side < side->partner ? side : side->partner;
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (pair->is_closed)
        return;
    for (unsigned i = 0; i < 2; i++) {
        if (is_broken) /* the peer shall see it: RST, not FIN */
            setsockopt(pair[i].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(pair[i].fd);
        blocks_free(&pair[i].kept);
        pair[i].is_closed = true;
    }
    pair->next_closed = server->closed;
    server->closed = pair;
}

static void free_closed(struct server *server)
{
    while (server->closed) {
        struct side *next = server->closed->next_closed;
        free(server->closed);
        server->closed = next;
    }
}

/* ---- bytes and their end -------------------------------------------------------- */

/* How many of the bytes the socket took; -1 when the connection is broken. */
static ssize_t try_send(int fd, const unsigned char *data, size_t length)
{
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

/* Once everything before it has been sent. */
static void carry_eof(struct server *server, struct side *side)
{
    struct side *partner = side->partner;
    if (!side->has_ended || partner->kept.first || partner->is_shut)
        return;
    partner->is_shut = true;
    shutdown(partner->fd, SHUT_WR); /* where the connection is lost, its next recv tells */
    if (side->is_shut)
        close_pair(server, side, false);
}

static void readable(struct server *server, struct side *side)
{
    struct side *partner = side->partner;
    if (partner->kept.first)
        return; /* those bytes go first */
    ssize_t length = recv(side->fd, server->received, RECEIVE_BYTES, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    ssize_t sent = length > 0 ? try_send(partner->fd, server->received, (size_t)length) : 0;
    if (length < 0 || sent < 0) {
        close_pair(server, side, true);
        return;
    }
    if (sent < length)
        blocks_add(&partner->kept, server->received + sent, (size_t)(length - sent));
    side->has_ended = length == 0;
    carry_eof(server, side);
    watch_side(server, partner);
    watch_side(server, side);
}

static void connected(struct server *server, struct side *side)
{
    int error = 0;
    socklen_t length = sizeof(error);
    if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        die_errno("getsockopt(SO_ERROR)");
    side->is_connecting = false;
    if (error)
        close_pair(server, side, true);
}

static void writable(struct server *server, struct side *side)
{
    if (side->is_connecting)
        connected(server, side);
    while (side->kept.first) {
        const struct block *block = side->kept.first;
        ssize_t sent = try_send(side->fd, block->data + block->sent, block->length - block->sent);
        if (sent < 0) {
            close_pair(server, side, true);
            return;
        }
        if (sent == 0)
            return;
        blocks_sent(&side->kept, (size_t)sent);
    }
    carry_eof(server, side->partner);
    watch_side(server, side);
    watch_side(server, side->partner);
}

/* ---- beginnings ----------------------------------------------------------------- */

static void connect_upstream(struct server *server, struct side *side)
{
    const struct sockaddr *address = (const struct sockaddr *)&server->upstream_address;
    side->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (side->fd < 0)
        die_errno("socket");
    endpoint_set_nodelay(&server->upstream, side->fd);
    side->is_connecting = true;
    side->watched = EPOLLOUT;
    bool is_failed = connect(side->fd, address, server->upstream_length) < 0 &&
                     errno != EINPROGRESS;
    watch(server, EPOLL_CTL_ADD, side->fd, EPOLLOUT, side);
    if (is_failed)
        close_pair(server, side, true);
}

static void accept_one(struct server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
        return;
    if (fd < 0)
        die_errno("accept4");
    struct side *pair = calloc(2, sizeof(struct side));
    if (!pair)
        die("out of memory");
    pair[0].fd = fd; /* TCP_NODELAY is the listening socket's */
    pair[0].partner = &pair[1];
    pair[1].partner = &pair[0];
    connect_upstream(server, &pair[1]);
}

static void ready(struct server *server, struct side *side, uint32_t events)
{
    if (!side->is_closed && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
        writable(server, side);
    if (!side->is_closed && (events & ~EPOLLOUT) && !side->is_connecting)
        readable(server, side);
}

static void serve(struct server *server)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++)
            if (events[i].data.ptr)
                ready(server, events[i].data.ptr, events[i].events);
            else
                accept_one(server);
        free_closed(server);
    }
}

int main(int argc, char **argv)
{
    static struct server server; /* too large for a stack */
    die_with_parent();
    raise_descriptor_limit();
    int next = endpoint_parse(&server.endpoint, argc, argv, 1);
    endpoint_parse(&server.upstream, argc, argv, next);
    server.upstream_length = endpoint_address(&server.upstream, &server.upstream_address);
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll_fd < 0)
        die_errno("epoll_create1");
    server.listen_fd = endpoint_listen(&server.endpoint, SOCK_NONBLOCK);
    endpoint_set_nodelay(&server.endpoint, server.listen_fd);
    watch(&server, EPOLL_CTL_ADD, server.listen_fd, EPOLLIN, NULL);
    serve(&server);
}
