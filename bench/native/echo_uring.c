/* The limit for a completion loop: a TCP and Unix echo server on io_uring, without any
 * Python.
 *
 *     echo_uring tcp IPV4 PORT | unix PATH
 *
 * One thread, one enter a turn; multishot accept and recv, one shared ring of receive
 * buffers. A received piece is sent back from where the kernel put it, one send in flight
 * a connection, and its buffer goes back to the ring when every piece of it has been sent.
 * Few large incremental buffers where the kernel has them (6.12), plain ones before.
 * Wants kernel 6.1 (DEFER_TASKRUN); says so and ends where that is denied.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"
#include "pool.h"

/* What a token's low bits say; the rest is the connection's address. */
enum operation { ACCEPT = 1, RECEIVE = 2, SEND = 3 };
#define OPERATION_MASK 3u

struct piece {
    unsigned char *data;
    size_t length;
    unsigned buffer;
};

struct connection {
    int fd;
    bool is_receiving;
    bool is_sending;
    bool has_ended; /* end of file, or broken: close after the last send */
    struct piece *pieces;
    unsigned first, count, capacity;
    struct connection *next_starved;
};

struct server {
    struct io_uring ring;
    struct endpoint endpoint;
    int listen_fd;
    struct pool pool;
    struct connection *starved; /* their recv ended for want of a buffer; still is_receiving */
};

static void set_token(struct io_uring_sqe *sqe, enum operation operation, void *owner)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)owner | operation);
}

static void start_accept(struct server *server)
{
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_multishot_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    set_token(sqe, ACCEPT, NULL);
}

static void start_receive(struct server *server, struct connection *connection)
{
    ring_receive(&server->ring, connection->fd, (uint64_t)(uintptr_t)connection | RECEIVE);
    connection->is_receiving = true;
}

static void start_send(struct server *server, struct connection *connection)
{
    const struct piece *piece = &connection->pieces[connection->first];
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_send(sqe, connection->fd, piece->data, piece->length,
                       MSG_NOSIGNAL | MSG_WAITALL);
    set_token(sqe, SEND, connection);
    connection->is_sending = true;
}

/* ---- the pieces of a connection ------------------------------------------------- */

static void make_room(struct connection *connection)
{
    if (connection->first + connection->count < connection->capacity)
        return;
    if (connection->first > 0) {
        memmove(connection->pieces, connection->pieces + connection->first,
                connection->count * sizeof(struct piece));
        connection->first = 0;
        return;
    }
    connection->capacity = connection->capacity ? 2 * connection->capacity : 4;
    connection->pieces =
        realloc(connection->pieces, connection->capacity * sizeof(struct piece));
    if (!connection->pieces)
        die("out of memory");
}

/* A piece that continues the last one makes it longer, unless that is in the kernel. */
static bool extend_last(struct connection *connection, unsigned char *data, size_t length,
                        unsigned buffer)
{
    if (connection->count < (connection->is_sending ? 2u : 1u))
        return false;
    struct piece *last = &connection->pieces[connection->first + connection->count - 1];
    if (last->buffer != buffer || last->data + last->length != data)
        return false;
    last->length += length;
    return true;
}

static void release(struct server *server, unsigned index)
{
    if (!pool_release(&server->pool, index))
        return;
    struct connection *starved = server->starved;
    server->starved = NULL;
    while (starved) {
        struct connection *next = starved->next_starved;
        start_receive(server, starved);
        starved = next;
    }
}

static void queue_piece(struct server *server, struct connection *connection, unsigned flags,
                        size_t length)
{
    unsigned index;
    unsigned char *data = pool_received(&server->pool, flags, length, &index);
    if (extend_last(connection, data, length, index)) {
        release(server, index);
        return;
    }
    make_room(connection);
    connection->pieces[connection->first + connection->count++] =
        (struct piece){.data = data, .length = length, .buffer = index};
}

static void drop_first_piece(struct server *server, struct connection *connection)
{
    unsigned index = connection->pieces[connection->first].buffer;
    connection->count--;
    connection->first = connection->count ? connection->first + 1 : 0;
    release(server, index);
}

/* ---- completions ---------------------------------------------------------------- */

static void close_if_finished(struct connection *connection)
{
    if (!connection->has_ended || connection->is_receiving || connection->is_sending)
        return;
    close(connection->fd);
    free(connection->pieces);
    free(connection);
}

static void accept_completed(struct server *server, int result, unsigned flags)
{
    if (result < 0 && result != -ECONNABORTED)
        die("accept: %s", strerror(-result));
    if (!(flags & IORING_CQE_F_MORE))
        start_accept(server);
    if (result < 0)
        return;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection)
        die("out of memory");
    connection->fd = result;
    endpoint_set_nodelay(&server->endpoint, result);
    start_receive(server, connection);
}

static void received(struct server *server, struct connection *connection, size_t length,
                     unsigned flags)
{
    queue_piece(server, connection, flags, length);
    if (connection->has_ended) /* a send failed meanwhile: nobody wants it */
        while (connection->count > 0)
            drop_first_piece(server, connection);
    else if (!connection->is_sending)
        start_send(server, connection);
}

static void receive_completed(struct server *server, struct connection *connection, int result,
                              unsigned flags)
{
    connection->is_receiving = flags & IORING_CQE_F_MORE;
    if (result > 0) {
        received(server, connection, (size_t)result, flags);
        if (!connection->is_receiving && !connection->has_ended)
            start_receive(server, connection);
    } else if (result == -ENOBUFS && !connection->has_ended) {
        connection->is_receiving = true; /* as soon as a buffer is back */
        connection->next_starved = server->starved;
        server->starved = connection;
    } else {
        connection->has_ended = true;
    }
    close_if_finished(connection);
}

static void send_completed(struct server *server, struct connection *connection, int result)
{
    bool failed = result < (int)connection->pieces[connection->first].length;
    connection->is_sending = false;
    drop_first_piece(server, connection);
    while (failed && connection->count > 0)
        drop_first_piece(server, connection);
    if (failed && !connection->has_ended) {
        connection->has_ended = true;
        shutdown(connection->fd, SHUT_RDWR); /* ends the recv, whose completion closes */
    }
    if (connection->count > 0)
        start_send(server, connection);
    close_if_finished(connection);
}

static void completed(struct server *server, const struct io_uring_cqe *cqe)
{
    uint64_t token = io_uring_cqe_get_data64(cqe);
    struct connection *connection =
        (struct connection *)(uintptr_t)(token & ~(uint64_t)OPERATION_MASK);
    switch ((enum operation)(token & OPERATION_MASK)) {
    case ACCEPT: accept_completed(server, cqe->res, cqe->flags); return;
    case RECEIVE: receive_completed(server, connection, cqe->res, cqe->flags); return;
    case SEND: send_completed(server, connection, cqe->res); return;
    }
}

static void serve(struct server *server)
{
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        int result = io_uring_submit_and_wait(&server->ring, 1);
        if (result < 0 && result != -EINTR)
            die("io_uring_enter: %s", strerror(-result));
        io_uring_for_each_cqe(&server->ring, head, cqe) {
            completed(server, cqe);
            seen++;
        }
        io_uring_cq_advance(&server->ring, seen);
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    die_with_parent();
    raise_descriptor_limit();
    endpoint_parse(&server.endpoint, argc, argv, 1);
    ring_set_up(&server.ring);
    pool_set_up(&server.pool, &server.ring, 4, 1024u * 1024u);
    server.listen_fd = endpoint_listen(&server.endpoint, 0);
    start_accept(&server);
    serve(&server);
}
