/* The bytes inside TLS 1.3, by OpenSSL on the socket itself; see channel.h.
 *
 * The server is not authenticated: it is a child of the same benchmark, and what is compared
 * is every byte. Records are written one a call and read ahead, many a call, so that the load
 * costs less than the server that it measures.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

#define READ_AHEAD_BYTES (64u * 1024u)

/* A receive answers a record at most, however much has come. */
const bool channel_short_means_empty = false;

__attribute__((noreturn)) static void die_tls(const char *operation)
{
    char words[256];
    ERR_error_string_n(ERR_get_error(), words, sizeof(words));
    die("%s: %s", operation, words);
}

static SSL_CTX *make_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
        die_tls("SSL_CTX_new");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD_BYTES);
    return context;
}

static SSL_CTX *the_context(void)
{
    static SSL_CTX *context;
    if (!context) {
        context = make_context();
        signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    }
    return context;
}

void channel_open(struct channel *channel, const struct endpoint *endpoint)
{
    SSL *session = SSL_new(the_context());
    channel->fd = endpoint_connect(endpoint);
    channel->session = session;
    if (!session || !SSL_set_fd(session, channel->fd))
        die_tls("SSL_new");
    if (SSL_connect(session) != 1)
        die_tls("SSL_connect");
    if (fcntl(channel->fd, F_SETFL, O_NONBLOCK) < 0)
        die_errno("fcntl(O_NONBLOCK)");
}

/* What send() and recv() would have answered. */
static ssize_t answer(SSL *session, int result, const char *operation)
{
    switch (SSL_get_error(session, result)) {
    case SSL_ERROR_NONE:
        return result;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return -1;
    default:
        die_tls(operation);
    }
}

ssize_t channel_send(struct channel *channel, const unsigned char *data, size_t length)
{
    ERR_clear_error();
    return answer(channel->session, SSL_write(channel->session, data, (int)length), "SSL_write");
}

ssize_t channel_receive(struct channel *channel, unsigned char *memory, size_t length)
{
    ERR_clear_error();
    return answer(channel->session, SSL_read(channel->session, memory, (int)length), "SSL_read");
}
