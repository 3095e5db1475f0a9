/* The bytes as they are, over TCP, Unix and UDP sockets; see channel.h. */
#define _GNU_SOURCE
#include "channel.h"

#include <sys/socket.h>

const bool channel_short_means_empty = true;

void channel_open(struct channel *channel, const struct endpoint *endpoint)
{
    channel->fd = endpoint_connect(endpoint);
}

ssize_t channel_send(struct channel *channel, const unsigned char *data, size_t length)
{
    return send(channel->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t channel_receive(struct channel *channel, unsigned char *memory, size_t length)
{
    return recv(channel->fd, memory, length, MSG_DONTWAIT);
}
