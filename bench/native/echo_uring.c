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
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"

/* Named here because liburing 2.3 does not know them; both are kernel ABI. */
#define PBUF_RING_INC 2u
#define CQE_BUFFER_MORE (1u << 4)

#define RING_ENTRIES 1024u
#define BUFFERS_MAX 16u
#define GROUP 0

/* What a token's low bits say; the rest is the connection's address. */
enum operation { ACCEPT = 1, RECEIVE = 2, SEND = 3 };
#define OPERATION_MASK 3u

/* struct io_uring_buf_reg, whose `flags` was padding in liburing 2.3. */
struct buffer_registration {
    uint64_t ring_address;
    uint32_t entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

struct buffer {
    size_t filled_bytes;    /* where the kernel puts the next piece */
    unsigned pieces_queued; /* not yet sent back */
    bool kernel_is_done;    /* will not write to it before it is released */
};

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
    struct io_uring_buf_ring *buffer_ring;
    unsigned char *memory;
    unsigned buffer_count;
    size_t buffer_bytes;
    struct buffer buffers[BUFFERS_MAX];
    struct connection *starved; /* their recv ended for want of a buffer; still is_receiving */
};

static struct io_uring_sqe *next_sqe(struct server *server)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);
    if (!sqe && io_uring_submit(&server->ring) >= 0)
        sqe = io_uring_get_sqe(&server->ring);
    if (!sqe)
        die("the submission queue stays full");
    return sqe;
}

static void set_token(struct io_uring_sqe *sqe, enum operation operation, void *owner)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)owner | operation);
}

static void start_accept(struct server *server)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_multishot_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    set_token(sqe, ACCEPT, NULL);
}

static void start_receive(struct server *server, struct connection *connection)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    set_token(sqe, RECEIVE, connection);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    connection->is_receiving = true;
}

static void start_send(struct server *server, struct connection *connection)
{
    const struct piece *piece = &connection->pieces[connection->first];
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_send(sqe, connection->fd, piece->data, piece->length,
                       MSG_NOSIGNAL | MSG_WAITALL);
    set_token(sqe, SEND, connection);
    connection->is_sending = true;
}

/* ---- buffers -------------------------------------------------------------------- */

static void give_to_kernel(struct server *server, unsigned index)
{
    server->buffers[index] = (struct buffer){0};
    io_uring_buf_ring_add(server->buffer_ring, server->memory + index * server->buffer_bytes,
                          (unsigned)server->buffer_bytes, (unsigned short)index,
                          io_uring_buf_ring_mask(server->buffer_count), 0);
    io_uring_buf_ring_advance(server->buffer_ring, 1);
}

static void release_if_unused(struct server *server, unsigned index)
{
    struct buffer *buffer = &server->buffers[index];
    if (!buffer->kernel_is_done || buffer->pieces_queued > 0)
        return;
    give_to_kernel(server, index);
    struct connection *starved = server->starved;
    server->starved = NULL;
    while (starved) {
        struct connection *next = starved->next_starved;
        start_receive(server, starved);
        starved = next;
    }
}

static bool register_buffers(struct server *server, unsigned count, size_t bytes, unsigned flags)
{
    struct buffer_registration registration = {
        .ring_address = (uint64_t)(uintptr_t)server->buffer_ring,
        .entries = count,
        .group = GROUP,
        .flags = (uint16_t)flags,
    };
    server->buffer_count = count;
    server->buffer_bytes = bytes;
    return io_uring_register_buf_ring(&server->ring, (struct io_uring_buf_reg *)&registration,
                                      0) == 0;
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die_errno("mmap");
    return memory;
}

static void set_up_buffers(struct server *server)
{
    server->buffer_ring = map(BUFFERS_MAX * sizeof(struct io_uring_buf));
    io_uring_buf_ring_init(server->buffer_ring);
    if (!register_buffers(server, 4, 1024u * 1024u, PBUF_RING_INC) &&
        !register_buffers(server, BUFFERS_MAX, 256u * 1024u, 0))
        die("no ring of provided buffers: wants kernel 5.19");
    server->memory = map(server->buffer_count * server->buffer_bytes);
    for (unsigned i = 0; i < server->buffer_count; i++)
        give_to_kernel(server, i);
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
static bool extend_last(struct connection *connection, unsigned char *data, size_t length)
{
    if (connection->count < (connection->is_sending ? 2u : 1u))
        return false;
    struct piece *last = &connection->pieces[connection->first + connection->count - 1];
    if (last->data + last->length != data)
        return false;
    last->length += length;
    return true;
}

static void queue_piece(struct server *server, struct connection *connection, unsigned index,
                        size_t length)
{
    struct buffer *buffer = &server->buffers[index];
    unsigned char *data =
        server->memory + index * server->buffer_bytes + buffer->filled_bytes;
    buffer->filled_bytes += length;
    if (buffer->filled_bytes > length && extend_last(connection, data, length))
        return;
    make_room(connection);
    connection->pieces[connection->first + connection->count++] =
        (struct piece){.data = data, .length = length, .buffer = index};
    buffer->pieces_queued++;
}

static void drop_first_piece(struct server *server, struct connection *connection)
{
    unsigned index = connection->pieces[connection->first].buffer;
    connection->count--;
    connection->first = connection->count ? connection->first + 1 : 0;
    server->buffers[index].pieces_queued--;
    release_if_unused(server, index);
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
    unsigned index = flags >> IORING_CQE_BUFFER_SHIFT;
    queue_piece(server, connection, index, length);
    if (!(flags & CQE_BUFFER_MORE))
        server->buffers[index].kernel_is_done = true;
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

static void set_up_ring(struct io_uring *ring)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 16u * RING_ENTRIES,
    };
    int result = io_uring_queue_init_params(RING_ENTRIES, ring, &parameters);
    if (result < 0)
        die("io_uring_setup: %s (wants kernel 6.1, and to be allowed)", strerror(-result));
    io_uring_register_ring_fd(ring); /* saves a look-up an enter; a refusal does not matter */
}

int main(int argc, char **argv)
{
    static struct server server;
    die_with_parent();
    raise_descriptor_limit();
    endpoint_parse(&server.endpoint, argc, argv, 1);
    set_up_ring(&server.ring);
    set_up_buffers(&server);
    server.listen_fd = endpoint_listen(&server.endpoint, 0);
    start_accept(&server);
    serve(&server);
}
