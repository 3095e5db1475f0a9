/* The limit for a readiness loop: a TCP and Unix echo server on epoll without any Python.
 *
 *     echo_epoll tcp IPV4 PORT | unix PATH
 *
 * Level-triggered, one thread, one shared receive buffer. What the socket does not take
 * is kept, and the connection is not read again until it is gone. End of file is
 * answered with end of file once everything has been echoed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"

#define RECEIVE_BYTES (256u * 1024u)
#define EVENTS_MAX 256

struct connection {
    int fd;
    size_t pending_bytes;   /* received, not yet taken by the socket */
    unsigned char *pending; /* allocated when a send was short for the first time */
};

struct server {
    struct endpoint endpoint;
    int listen_fd;
    int epoll_fd;
    unsigned char received[RECEIVE_BYTES];
};

static void watch(struct server *server, int operation, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(server->epoll_fd, operation, fd, &event) < 0)
        die_errno("epoll_ctl");
}

static void connection_close(struct connection *connection)
{
    close(connection->fd);
    free(connection->pending);
    free(connection);
}

static void accept_one(struct server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
        return;
    if (fd < 0)
        die_errno("accept4");
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection)
        die("out of memory");
    connection->fd = fd;
    endpoint_set_nodelay(&server->endpoint, fd);
    watch(server, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
}

/* How many of the bytes the socket took; -1 when the connection is broken. */
static ssize_t try_send(int fd, const unsigned char *data, size_t length)
{
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void keep_rest(struct server *server, struct connection *connection,
                      const unsigned char *rest, size_t length)
{
    if (!connection->pending && !(connection->pending = malloc(RECEIVE_BYTES)))
        die("out of memory");
    memmove(connection->pending, rest, length);
    if (connection->pending_bytes == 0)
        watch(server, EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
    connection->pending_bytes = length;
}

static void readable(struct server *server, struct connection *connection)
{
    ssize_t length = recv(connection->fd, server->received, RECEIVE_BYTES, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    ssize_t sent = length > 0 ? try_send(connection->fd, server->received, (size_t)length) : -1;
    if (sent < 0)
        connection_close(connection);
    else if (sent < length)
        keep_rest(server, connection, server->received + sent, (size_t)(length - sent));
}

static void writable(struct server *server, struct connection *connection)
{
    ssize_t sent = try_send(connection->fd, connection->pending, connection->pending_bytes);
    if (sent < 0) {
        connection_close(connection);
        return;
    }
    size_t left = connection->pending_bytes - (size_t)sent;
    if (left > 0) {
        keep_rest(server, connection, connection->pending + sent, left);
        return;
    }
    connection->pending_bytes = 0;
    watch(server, EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
}

static void serve(struct server *server)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_one(server);
            else if (connection->pending_bytes > 0)
                writable(server, connection);
            else
                readable(server, connection);
        }
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    die_with_parent();
    raise_descriptor_limit();
    endpoint_parse(&server.endpoint, argc, argv, 1);
    server.listen_fd = endpoint_listen(&server.endpoint, SOCK_NONBLOCK);
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll_fd < 0)
        die_errno("epoll_create1");
    watch(&server, EPOLL_CTL_ADD, server.listen_fd, EPOLLIN, NULL);
    serve(&server);
}
