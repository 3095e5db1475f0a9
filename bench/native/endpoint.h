/* What the benchmark's C programs share: giving up, dying with the parent,
 * addresses, time. Not a library: each function ends the process on failure,
 * because a benchmark without its server or its load has nothing left to do. */
#ifndef BENCH_ENDPOINT_H
#define BENCH_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* "tcp" HOST PORT, "unix" PATH, or "udp" HOST PORT (the load only). Port 0 lets the kernel
 * choose (servers only). */
struct endpoint {
    const char *host;
    uint16_t port;
    const char *path; /* NULL for TCP and UDP */
    bool is_datagram; /* UDP */
};

/* Print a line to stderr and exit with 1. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* As die(), with the text of errno. */
__attribute__((noreturn)) void die_errno(const char *operation);

/* Ask the kernel for SIGKILL when the parent ends, so that no crash of the
 * benchmark, kill -9 included, leaves a busy process behind. The parent names itself
 * in BENCH_PARENT_PID; without it (started by hand) the check for a lost race is left out. */
void die_with_parent(void);

/* As many descriptors as this process may ever have: the shell's usual limit is 1024. */
void raise_descriptor_limit(void);

/* Fill `endpoint` from the arguments at argv[first]. Returns the index of the first
 * argument that was not used. */
int endpoint_parse(struct endpoint *endpoint, int argc, char **argv, int first);

/* The socket address, for connect(2). Returns its length. */
socklen_t endpoint_address(const struct endpoint *endpoint, struct sockaddr_storage *address);

/* A listening stream socket. Prints one JSON line with the address, which the benchmark waits for. */
int endpoint_listen(const struct endpoint *endpoint, int socket_flags);

/* A connected, blocking socket with TCP_NODELAY set where it exists. */
int endpoint_connect(const struct endpoint *endpoint);

/* TCP_NODELAY; does nothing for a socket that is not TCP. */
void endpoint_set_nodelay(const struct endpoint *endpoint, int fd);

/* The argument of an option. */
uint64_t positive(const char *text, char option);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

#endif
