/* Latencies in buckets that are 1/128 of their power of two wide (0.8 %), so that any
 * number of them costs the same memory and recording one costs a few instructions. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 7
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_STEP_BITS + 1u) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value_ns);

/* The smallest recorded value that `fraction` (0 to 1) of all do not exceed, to the
 * middle of its bucket; 0 when nothing was recorded. */
uint64_t histogram_at(const struct histogram *histogram, double fraction);

#endif
