/* How the load's bytes get to the server: as they are (channel_plain.c), or inside TLS
 * (channel_tls.c). The program `load` is linked with the one, `load_tls` with the other. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "endpoint.h"

struct channel {
    int fd;
    void *session; /* of TLS; NULL without */
};

/* Whether a receive that did not fill its memory has emptied the socket. */
extern const bool channel_short_means_empty;

/* Connects, and shakes hands where that is asked for; blocks until done. */
void channel_open(struct channel *channel, const struct endpoint *endpoint);

/* As send() and recv() with MSG_DONTWAIT: how many bytes, or -1 with errno, EAGAIN meaning that
 * an edge of epoll will tell when to go on. What could not be sent is offered again from the
 * same byte on, and never shortened. */
ssize_t channel_send(struct channel *channel, const unsigned char *data, size_t length);
ssize_t channel_receive(struct channel *channel, unsigned char *memory, size_t length);

#endif
