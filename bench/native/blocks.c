/* Bytes that are kept; blocks.h says what each function does. */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#include "endpoint.h"

void blocks_add(struct blocks *blocks, const unsigned char *data, size_t length)
{
    struct block *block = malloc(sizeof(*block) + length);
    if (!block)
        die("out of memory");
    *block = (struct block){.length = length};
    memcpy(block->data, data, length);
    if (blocks->first)
        blocks->last->next = block;
    else
        blocks->first = block;
    blocks->last = block;
}

void blocks_sent(struct blocks *blocks, size_t length)
{
    struct block *block = blocks->first;
    block->sent += length;
    if (block->sent < block->length)
        return;
    blocks->first = block->next;
    free(block);
}

void blocks_free(struct blocks *blocks)
{
    while (blocks->first)
        blocks_sent(blocks, blocks->first->length);
}
