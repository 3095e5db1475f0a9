/* epoll_lifetime.c - how a readiness engine begins, and how it ends. */
#include "epoll.h"
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { DESCRIPTORS_AT_OPEN = 256 };

void ul_epoll_abandon(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    if (readiness->epoll_fd >= 0)
        close(readiness->epoll_fd);
    readiness->epoll_fd = -1;
}

void ul_epoll_close(struct ul_engine *engine) {
    struct ul_readiness *readiness = engine->state;
    ul_relay_close_all(engine);
    ul_epoll_abandon(engine);
    ul_scratch_close(&readiness->scratch);
    ul_inbox_close(&readiness->inbox);
    free(readiness->descriptors);
    free(readiness);
}

static int open_readiness(struct ul_engine *engine, const struct ul_config *config) {
    struct ul_readiness *readiness = engine->state;
    readiness->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (readiness->epoll_fd < 0)
        return -errno;
    readiness->descriptors = calloc(DESCRIPTORS_AT_OPEN, sizeof(*readiness->descriptors));
    if (!readiness->descriptors)
        return -ENOMEM;
    readiness->descriptor_count = DESCRIPTORS_AT_OPEN;
    ul_epoll_wait_probe(readiness);
    ul_inbox_prepare(&readiness->inbox, config);
    int error = ul_epoll_add_wake(engine);
    return error ? error : ul_scratch_open(&readiness->scratch, config);
}

int ul_epoll_open(struct ul_engine *engine, const struct ul_config *config) {
    struct ul_readiness *readiness = calloc(1, sizeof(*readiness));
    if (!readiness)
        return -ENOMEM;
    readiness->epoll_fd = -1;
    engine->state = readiness;
    engine->backend = &UL_EPOLL_BACKEND;
    int error = open_readiness(engine, config);
    if (error)
        ul_epoll_close(engine);
    return error;
}
