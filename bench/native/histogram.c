/* Latencies counted in buckets of equal relative width; see histogram.h. */
#include "histogram.h"

#include <math.h>

/* Values below HISTOGRAM_STEPS have a bucket each; above, `shift` bits are given up. */
static unsigned bucket_of(uint64_t value_ns)
{
    if (value_ns < HISTOGRAM_STEPS)
        return (unsigned)value_ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value_ns) - HISTOGRAM_STEP_BITS;
    return (shift + 1u) * HISTOGRAM_STEPS + (unsigned)((value_ns >> shift) - HISTOGRAM_STEPS);
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1u;
    uint64_t low = (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

void histogram_record(struct histogram *histogram, uint64_t value_ns)
{
    histogram->count++;
    histogram->buckets[bucket_of(value_ns)]++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

uint64_t histogram_at(const struct histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)ceil(fraction * (double)histogram->count);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen >= wanted && seen > 0)
            return middle_of(bucket);
    }
    return 0;
}
