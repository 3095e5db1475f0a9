/* The upstream of one-way bulk: takes what comes, and answers each message by its last bytes.
 *
 *     sink [-s SIZE_BYTES] [-r ANSWER_BYTES] tcp IPV4 PORT | unix PATH
 *
 * Of each SIZE_BYTES the last ANSWER_BYTES are sent back: enough for the load to count what
 * arrived, and to notice a byte that was lost or invented before it. The others are dropped in
 * the kernel, uncopied (MSG_TRUNC, which TCP has), so that this end is not what a proxy before
 * it waits for; a Unix socket's are read.
 *
 * Level-triggered epoll, one thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"

#define ANSWER_BYTES_MAX 4096u
#define DROPPED_BYTES_MAX (1024u * 1024u)
#define EVENTS_MAX 256

struct connection {
    int fd;
    uint64_t position; /* in the message that is arriving */
    unsigned char answer[ANSWER_BYTES_MAX];
};

struct server {
    struct endpoint endpoint;
    uint64_t size_bytes;
    uint64_t answer_bytes;
    int listen_fd;
    int epoll_fd;
    unsigned char dropped[DROPPED_BYTES_MAX];
};

static void watch(struct server *server, int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        die_errno("epoll_ctl");
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
    watch(server, fd, connection);
}

/* The next piece of a message, either of what is dropped or of what is answered. */
static ssize_t receive_piece(struct server *server, struct connection *connection)
{
    uint64_t dropped_bytes = server->size_bytes - server->answer_bytes;
    if (connection->position >= dropped_bytes)
        return recv(connection->fd, connection->answer + (connection->position - dropped_bytes),
                    (size_t)(server->size_bytes - connection->position), 0);
    uint64_t left = dropped_bytes - connection->position;
    size_t length = left < DROPPED_BYTES_MAX ? (size_t)left : DROPPED_BYTES_MAX;
    return recv(connection->fd, server->dropped, length,
                server->endpoint.path ? 0 : MSG_TRUNC);
}

static bool answer(const struct server *server, const struct connection *connection)
{
    ssize_t length = (ssize_t)server->answer_bytes;
    return send(connection->fd, connection->answer, (size_t)length, MSG_NOSIGNAL) == length;
}

static void readable(struct server *server, struct connection *connection)
{
    ssize_t length = receive_piece(server, connection);
    if (length < 0 && errno == EAGAIN)
        return;
    bool is_open = length > 0;
    if (is_open)
        connection->position += (uint64_t)length;
    if (is_open && connection->position == server->size_bytes) {
        connection->position = 0;
        is_open = answer(server, connection);
    }
    if (is_open)
        return;
    close(connection->fd);
    free(connection);
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
                readable(server, events[i].data.ptr);
            else
                accept_one(server);
    }
}

static void parse(struct server *server, int argc, char **argv)
{
    int option;
    server->size_bytes = 1024u * 1024u;
    server->answer_bytes = 8;
    while ((option = getopt(argc, argv, "+s:r:")) != -1) {
        switch (option) {
        case 's': server->size_bytes = positive(optarg, 's'); break;
        case 'r': server->answer_bytes = positive(optarg, 'r'); break;
        default: die("see the top of sink.c for the options");
        }
    }
    if (server->answer_bytes > ANSWER_BYTES_MAX || server->answer_bytes > server->size_bytes)
        die("an answer has at most %u bytes, and no more than the message", ANSWER_BYTES_MAX);
    endpoint_parse(&server->endpoint, argc, argv, optind);
}

int main(int argc, char **argv)
{
    static struct server server;
    die_with_parent();
    raise_descriptor_limit();
    parse(&server, argc, argv);
    server.listen_fd = endpoint_listen(&server.endpoint, SOCK_NONBLOCK);
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll_fd < 0)
        die_errno("epoll_create1");
    watch(&server, server.listen_fd, NULL);
    serve(&server);
}
