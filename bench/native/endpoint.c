/* What the benchmark programs share; endpoint.h says what each function does. */
#define _GNU_SOURCE
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096

union address {
    struct sockaddr any;
    struct sockaddr_in ip;
    struct sockaddr_un local;
};

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void die_errno(const char *operation)
{
    die("%s: %s", operation, strerror(errno));
}

void die_with_parent(void)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        die_errno("prctl(PR_SET_PDEATHSIG)");
    const char *parent = getenv("BENCH_PARENT_PID");
    if (parent && getppid() != (pid_t)atoi(parent)) /* it ended before we asked */
        exit(1);
}

void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die_errno("getrlimit(RLIMIT_NOFILE)");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        die_errno("setrlimit(RLIMIT_NOFILE)");
}

int endpoint_parse(struct endpoint *endpoint, int argc, char **argv, int first)
{
    memset(endpoint, 0, sizeof(*endpoint));
    endpoint->is_datagram = argc > first && strcmp(argv[first], "udp") == 0;
    if (argc >= first + 3 && (endpoint->is_datagram || strcmp(argv[first], "tcp") == 0)) {
        endpoint->host = argv[first + 1];
        endpoint->port = (uint16_t)atoi(argv[first + 2]);
        return first + 3;
    }
    if (argc >= first + 2 && strcmp(argv[first], "unix") == 0) {
        endpoint->path = argv[first + 1];
        return first + 2;
    }
    die("usage: %s tcp IPV4 PORT | unix PATH | udp IPV4 PORT", argv[0]);
}

static socklen_t address_of(const struct endpoint *endpoint, union address *address)
{
    memset(address, 0, sizeof(*address));
    if (endpoint->path) {
        if (strlen(endpoint->path) >= sizeof(address->local.sun_path))
            die("the path of the Unix socket is too long: %s", endpoint->path);
        address->local.sun_family = AF_UNIX;
        strcpy(address->local.sun_path, endpoint->path);
        return sizeof(address->local);
    }
    address->ip.sin_family = AF_INET;
    address->ip.sin_port = htons(endpoint->port);
    if (inet_pton(AF_INET, endpoint->host, &address->ip.sin_addr) != 1)
        die("not an IPv4 address: %s", endpoint->host);
    return sizeof(address->ip);
}

socklen_t endpoint_address(const struct endpoint *endpoint, struct sockaddr_storage *storage)
{
    union address address;
    socklen_t length = address_of(endpoint, &address);
    memcpy(storage, &address, length);
    return length;
}

static void announce(const struct endpoint *endpoint, int fd)
{
    union address address;
    socklen_t length = sizeof(address);
    if (endpoint->path) {
        printf("{\"address\": [\"unix\", \"%s\"]}\n", endpoint->path);
    } else {
        if (getsockname(fd, &address.any, &length) < 0)
            die_errno("getsockname");
        printf("{\"address\": [\"tcp\", \"%s\", \"%u\"]}\n", endpoint->host,
               (unsigned)ntohs(address.ip.sin_port));
    }
    fflush(stdout);
}

int endpoint_listen(const struct endpoint *endpoint, int socket_flags)
{
    union address address;
    socklen_t length = address_of(endpoint, &address);
    int yes = 1;
    if (endpoint->is_datagram)
        die("this server echoes streams only");
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
    if (fd < 0)
        die_errno("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
        die_errno("setsockopt(SO_REUSEADDR)");
    if (bind(fd, &address.any, length) < 0)
        die_errno("bind");
    if (listen(fd, LISTEN_BACKLOG) < 0)
        die_errno("listen");
    announce(endpoint, fd);
    return fd;
}

int endpoint_connect(const struct endpoint *endpoint)
{
    union address address;
    socklen_t length = address_of(endpoint, &address);
    int type = endpoint->is_datagram ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die_errno("socket");
    if (connect(fd, &address.any, length) < 0)
        die_errno("connect");
    endpoint_set_nodelay(endpoint, fd);
    return fd;
}

void endpoint_set_nodelay(const struct endpoint *endpoint, int fd)
{
    int yes = 1;
    if (endpoint->path || endpoint->is_datagram)
        return;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) < 0)
        die_errno("setsockopt(TCP_NODELAY)");
}

uint64_t positive(const char *text, char option)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (value == 0 || *end != '\0')
        die("-%c wants a whole number above 0, not %s", option, text);
    return value;
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
