/* The limit for a relay: a TCP proxy on io_uring, without any Python.
 *
 *     relay_uring tcp IPV4 PORT | unix PATH  tcp UPSTREAM_IPV4 PORT | unix PATH
 *
 * Each client gets a connection of its own to the upstream. One thread, one enter a turn,
 * multishot accept and recv, one shared pool of receive buffers (pool.h). What a turn brought
 * for a connection is sent at the turn's end from where the kernel put it, as one send, which
 * the socket takes at once or not (MSG_DONTWAIT), and which is answered only if it did not
 * take everything: a turn ends for what was received, and for nothing else. So no send is in
 * flight between two turns, and every buffer comes home.
 *
 * What a socket does not take is copied out of the pool and sent when there is room; meanwhile
 * its partner is not read. So a slow peer holds up nobody, and no more memory than came before
 * its partner's recv was cancelled. End of file is carried on as end of file once everything
 * before it has been sent; a broken connection breaks its partner.
 *
 * Wants kernel 6.1 (DEFER_TASKRUN); says so and ends where that is denied.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blocks.h"
#include "endpoint.h"
#include "pool.h"

#define PIECES_MAX 8u
#define VECTORS_MAX 1024u

/* What a token's low bits say; the rest is the side's address. NOTHING: nobody waits. */
enum operation { NOTHING = 0, ACCEPT = 1, CONNECT = 2, RECEIVE = 3, SEND = 4, SEND_KEPT = 5 };
#define OPERATION_MASK 7u

struct piece {
    unsigned char *data;
    uint32_t length;
    uint32_t buffer;
};

/* One of the two connections of a pair; the other one is its partner. */
struct side {
    struct side *partner;
    int fd;
    bool is_receiving;
    bool is_stopping;    /* its recv is being cancelled */
    bool is_connecting;
    bool is_sending;     /* the first block */
    bool has_ended;      /* end of file came */
    bool is_shut;        /* and end of file was sent */
    bool is_broken;
    bool is_listed;      /* in server->touched */
    uint8_t count;       /* of pieces that the turn brought for this side */
    struct piece pieces[PIECES_MAX];
    struct blocks kept;  /* what the socket did not take at once */
};

/* What a vectored send names until it has been submitted. */
struct vector {
    struct msghdr message;
    struct iovec parts[PIECES_MAX];
};

struct list {
    struct side **sides;
    size_t count, capacity;
};

struct server {
    struct io_uring ring;
    struct pool pool;
    struct endpoint endpoint, upstream;
    struct sockaddr_storage upstream_address;
    socklen_t upstream_length;
    int listen_fd;
    struct list touched;   /* in this turn: something may have to be sent, shut or closed */
    struct list sent;      /* their pieces are, unless an answer says no */
    struct list starved;   /* their recv ended for want of a buffer; still is_receiving */
    struct vector vectors[VECTORS_MAX];
    unsigned vector_count;
    bool is_unfinished; /* something is to be done as soon as what was submitted is sent */
};

static void list_add(struct list *list, struct side *side)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->sides = realloc(list->sides, list->capacity * sizeof(struct side *));
        if (!list->sides)
            die("out of memory");
    }
    list->sides[list->count++] = side;
}

static void touch(struct server *server, struct side *side)
{
    if (side->is_listed)
        return;
    side->is_listed = true;
    list_add(&server->touched, side);
}

static uint64_t token_of(enum operation operation, void *owner)
{
    return (uint64_t)(uintptr_t)owner | operation;
}

/* Answered only if it fails. */
static void submit_silently(struct io_uring_sqe *sqe, uint64_t token)
{
    io_uring_sqe_set_data64(sqe, token);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void start_accept(struct server *server)
{
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_multishot_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, token_of(ACCEPT, NULL));
}

static void start_receive(struct server *server, struct side *side)
{
    ring_receive(&server->ring, side->fd, token_of(RECEIVE, side));
    side->is_receiving = true;
}

static void stop_receive(struct server *server, struct side *side)
{
    if (!side->is_receiving || side->is_stopping)
        return;
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_cancel64(sqe, token_of(RECEIVE, side), 0);
    submit_silently(sqe, token_of(NOTHING, NULL));
    side->is_stopping = true;
}

/* ---- the end of a pair ---------------------------------------------------------- */

static bool is_busy(const struct side *side)
{
    return side->is_receiving || side->is_connecting || side->is_sending || side->count > 0;
}

static void close_side(struct side *side)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (side->is_broken) /* the peer shall see it: RST, not FIN */
        setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(side->fd);
    blocks_free(&side->kept);
}

/* The pair's memory is that of its client's side, which is the first. */
static void close_if_finished(struct side *side)
{
    struct side *partner = side->partner;
    bool is_finished = side->is_broken || (side->is_shut && partner->is_shut);
    if (!is_finished || is_busy(side) || is_busy(partner) || side->is_listed ||
        partner->is_listed)
        return;
    close_side(side);
    close_side(partner);
    free(side < partner ? side : partner);
}

static void cancel_all(struct server *server, struct side *side)
{
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_cancel_fd(sqe, side->fd, IORING_ASYNC_CANCEL_ALL);
    submit_silently(sqe, token_of(NOTHING, NULL));
    side->is_broken = true;
    touch(server, side);
}

static void break_pair(struct server *server, struct side *side)
{
    if (side->is_broken)
        return;
    cancel_all(server, side);
    cancel_all(server, side->partner);
}

/* ---- pieces: sent at the end of the turn ---------------------------------------- */

static void drop_pieces(struct server *server, struct side *side)
{
    for (unsigned i = 0; i < side->count; i++)
        pool_release(&server->pool, side->pieces[i].buffer);
    side->count = 0;
}

/* A piece that continues the last one makes it longer. */
static bool extend_last(struct side *side, const unsigned char *data, size_t length,
                        unsigned buffer)
{
    if (side->count == 0)
        return false;
    struct piece *last = &side->pieces[side->count - 1];
    if (last->buffer != buffer || last->data + last->length != data)
        return false;
    last->length += (uint32_t)length;
    return true;
}

static void prepare_vector(struct server *server, struct side *side, struct io_uring_sqe *sqe)
{
    struct vector *vector = &server->vectors[server->vector_count++];
    memset(&vector->message, 0, sizeof(vector->message));
    vector->message.msg_iov = vector->parts;
    vector->message.msg_iovlen = side->count;
    for (unsigned i = 0; i < side->count; i++)
        vector->parts[i] = (struct iovec){side->pieces[i].data, side->pieces[i].length};
    io_uring_prep_sendmsg(sqe, side->fd, &vector->message,
                          MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
}

/* One send: of two, the first might be short while the second still finds room. With
 * MSG_WAITALL a short one counts as failed, and is answered. */
static void send_pieces(struct server *server, struct side *side)
{
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    if (side->count == 1)
        io_uring_prep_send(sqe, side->fd, side->pieces[0].data, side->pieces[0].length,
                           MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
    else
        prepare_vector(server, side, sqe);
    submit_silently(sqe, token_of(SEND, side));
    list_add(&server->sent, side);
}

/* ---- blocks: what the socket did not take --------------------------------------- */

static void send_block(struct server *server, struct side *side)
{
    const struct block *block = side->kept.first;
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_send(sqe, side->fd, block->data + block->sent, block->length - block->sent,
                       MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, token_of(SEND_KEPT, side));
    side->is_sending = true;
}

/* All pieces but their first `sent` bytes, which are gone. */
static void keep_pieces(struct server *server, struct side *side, size_t sent)
{
    for (unsigned i = 0; i < side->count; i++) {
        const struct piece *piece = &side->pieces[i];
        size_t gone = sent < piece->length ? sent : piece->length;
        sent -= gone;
        if (gone < piece->length)
            blocks_add(&side->kept, piece->data + gone, piece->length - gone);
    }
    drop_pieces(server, side);
    stop_receive(server, side->partner);
}

/* ---- a side's turn -------------------------------------------------------------- */

static void send_what_is_there(struct server *server, struct side *side)
{
    if (side->kept.first) {
        if (!side->is_sending)
            send_block(server, side);
    } else if (side->count > 0) {
        send_pieces(server, side);
        if (side->partner->has_ended || !side->partner->is_receiving)
            server->is_unfinished = true;
    }
}

/* All that came for this side has been sent: its partner's end of file, or more from it. */
static void drained(struct server *server, struct side *side)
{
    struct side *partner = side->partner;
    if (!partner->has_ended && !partner->is_receiving)
        start_receive(server, partner);
    if (!partner->has_ended || side->is_shut)
        return;
    side->is_shut = true;
    shutdown(side->fd, SHUT_WR); /* where the connection is lost, its own recv tells */
}

static void go_on(struct server *server, struct side *side)
{
    side->is_listed = false;
    if (side->is_broken)
        drop_pieces(server, side);
    else if (side->kept.first || side->count > 0)
        send_what_is_there(server, side);
    else
        drained(server, side);
    close_if_finished(side);
}

/* Everything that the turn brought goes out. */
static void send_all(struct server *server)
{
    struct list *touched = &server->touched;
    server->is_unfinished = false;
    for (size_t i = 0; i < touched->count; i++) {
        if (server->vector_count == VECTORS_MAX && io_uring_submit(&server->ring) >= 0)
            server->vector_count = 0;
        go_on(server, touched->sides[i]);
    }
    touched->count = 0;
    if (server->starved.count > 0)
        server->is_unfinished = true;
}

/* After the enter, and after what was short has been kept: the other pieces were sent. */
static void settle(struct server *server)
{
    for (size_t i = 0; i < server->sent.count; i++) {
        struct side *side = server->sent.sides[i];
        drop_pieces(server, side);
        if (side->partner->has_ended || !side->partner->is_receiving)
            touch(server, side);
    }
    server->sent.count = 0;
    for (size_t i = 0; i < server->starved.count; i++) {
        struct side *side = server->starved.sides[i];
        side->is_receiving = side->is_stopping = false;
        touch(server, side->partner); /* which starts it again */
    }
    server->starved.count = 0;
}

/* ---- completions ---------------------------------------------------------------- */

static void connect_upstream(struct server *server, struct side *side)
{
    side->fd = socket(server->upstream_address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (side->fd < 0)
        die_errno("socket");
    endpoint_set_nodelay(&server->upstream, side->fd);
    struct io_uring_sqe *sqe = ring_next(&server->ring);
    io_uring_prep_connect(sqe, side->fd, (const struct sockaddr *)&server->upstream_address,
                          server->upstream_length);
    io_uring_sqe_set_data64(sqe, token_of(CONNECT, side));
    side->is_connecting = true;
}

static void accept_completed(struct server *server, int result, unsigned flags)
{
    if (result < 0 && result != -ECONNABORTED)
        die("accept: %s", strerror(-result));
    if (!(flags & IORING_CQE_F_MORE))
        start_accept(server);
    if (result < 0)
        return;
    struct side *pair = calloc(2, sizeof(struct side));
    if (!pair)
        die("out of memory");
    pair[0].fd = result; /* TCP_NODELAY is the listening socket's */
    pair[0].partner = &pair[1];
    pair[1].partner = &pair[0];
    connect_upstream(server, &pair[1]);
}

static void connect_completed(struct server *server, struct side *side, int result)
{
    side->is_connecting = false;
    touch(server, side);
    touch(server, side->partner);
    if (result < 0)
        break_pair(server, side);
}

static void received(struct server *server, struct side *partner, size_t length, unsigned flags)
{
    unsigned index;
    unsigned char *data = pool_received(&server->pool, flags, length, &index);
    bool is_continued = extend_last(partner, data, length, index);
    if (partner->count == PIECES_MAX && !is_continued)
        keep_pieces(server, partner, 0);
    if (partner->kept.first)
        blocks_add(&partner->kept, data, length);
    if (partner->kept.first || is_continued)
        pool_release(&server->pool, index);
    else
        partner->pieces[partner->count++] =
            (struct piece){.data = data, .length = (uint32_t)length, .buffer = index};
}

static void receive_completed(struct server *server, struct side *side, int result,
                              unsigned flags)
{
    side->is_receiving = flags & IORING_CQE_F_MORE;
    if (!side->is_receiving)
        side->is_stopping = false;
    touch(server, side->partner);
    if (result > 0)
        received(server, side->partner, (size_t)result, flags);
    else if (result == 0)
        side->has_ended = true;
    else if (result != -ENOBUFS && result != -ECANCELED)
        break_pair(server, side);
    if (result != -ENOBUFS)
        return;
    side->is_receiving = true; /* as soon as buffers are back */
    list_add(&server->starved, side);
}

static void send_kept_completed(struct server *server, struct side *side, int result)
{
    side->is_sending = false;
    touch(server, side);
    if (result < 0)
        break_pair(server, side);
    else
        blocks_sent(&side->kept, (size_t)result);
}

/* An answer to a silent send: it took less than everything, or nothing. */
static void send_fell_short(struct server *server, struct side *side, int result)
{
    touch(server, side);
    keep_pieces(server, side, result > 0 ? (size_t)result : 0);
    if (result < 0 && result != -EAGAIN)
        break_pair(server, side);
}

static void completed(struct server *server, const struct io_uring_cqe *cqe)
{
    uint64_t token = io_uring_cqe_get_data64(cqe);
    struct side *side = (struct side *)(uintptr_t)(token & ~(uint64_t)OPERATION_MASK);
    switch ((enum operation)(token & OPERATION_MASK)) {
    case NOTHING: return; /* what was to be cancelled had ended */
    case SEND: return;    /* see look_for_short_sends */
    case ACCEPT: accept_completed(server, cqe->res, cqe->flags); return;
    case CONNECT: connect_completed(server, side, cqe->res); return;
    case RECEIVE: receive_completed(server, side, cqe->res, cqe->flags); return;
    case SEND_KEPT: send_kept_completed(server, side, cqe->res); return;
    }
}

/* ---- the turn ------------------------------------------------------------------- */

/* That no answer means "all sent" needs every submission taken and every answer seen. */
static void enter(struct server *server)
{
    int result = io_uring_submit_and_wait(&server->ring, server->is_unfinished ? 0 : 1);
    if (result < 0 && result != -EINTR)
        die("io_uring_enter: %s", strerror(-result));
    if (io_uring_sq_ready(&server->ring) > 0 || io_uring_cq_has_overflow(&server->ring))
        die("the queues are too small for so many connections");
    server->vector_count = 0;
}

/* Before any other answer of the turn: what is received then goes behind what is kept here. */
static void look_for_short_sends(struct server *server)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    io_uring_for_each_cqe(&server->ring, head, cqe)
        if ((cqe->user_data & OPERATION_MASK) == SEND)
            send_fell_short(server, (struct side *)(uintptr_t)(cqe->user_data - SEND), cqe->res);
}

static void serve(struct server *server)
{
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        enter(server);
        if (server->sent.count > 0)
            look_for_short_sends(server);
        settle(server);
        io_uring_for_each_cqe(&server->ring, head, cqe) {
            completed(server, cqe);
            seen++;
        }
        io_uring_cq_advance(&server->ring, seen);
        send_all(server);
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
    ring_set_up(&server.ring);
    pool_set_up(&server.pool, &server.ring, 2, 512u * 1024u);
    server.listen_fd = endpoint_listen(&server.endpoint, 0);
    endpoint_set_nodelay(&server.endpoint, server.listen_fd);
    start_accept(&server);
    serve(&server);
}
