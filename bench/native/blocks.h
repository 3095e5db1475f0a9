/* Bytes that a socket did not take at once, copied and in order, for the relays. */
#ifndef BENCH_BLOCKS_H
#define BENCH_BLOCKS_H

#include <stddef.h>

struct block {
    struct block *next;
    size_t length, sent;
    unsigned char data[];
};

struct blocks {
    struct block *first, *last;
};

void blocks_add(struct blocks *blocks, const unsigned char *data, size_t length);

/* So many bytes of the first block have been sent, all of it perhaps. */
void blocks_sent(struct blocks *blocks, size_t length);

void blocks_free(struct blocks *blocks);

#endif
