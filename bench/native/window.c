/* The phases of a load; window.h says what each function does. */
#define _GNU_SOURCE
#include "window.h"

#include <inttypes.h>
#include <stdio.h>

#include "endpoint.h"

#define NS_PER_MS 1000000u
#define DRAIN_LIMIT_NS 5000000000u

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec value;
    if (clock_gettime(clock, &value) < 0)
        die_errno("clock_gettime (the measured process is gone)");
    return (uint64_t)value.tv_sec * 1000000000u + (uint64_t)value.tv_nsec;
}

void window_set_up(struct window *window)
{
    window->warmup_ns = 200u * NS_PER_MS;
    window->duration_ns = 1000u * NS_PER_MS;
}

bool window_option(struct window *window, int option, const char *argument)
{
    switch (option) {
    case 'w': window->warmup_ns = positive(argument, 'w') * NS_PER_MS; return true;
    case 'd': window->duration_ns = positive(argument, 'd') * NS_PER_MS; return true;
    case 'p': window->measured_pid = (pid_t)positive(argument, 'p'); return true;
    default: return false;
    }
}

void window_begin(struct window *window)
{
    if (window->measured_pid &&
        clock_getcpuclockid(window->measured_pid, &window->measured_clock) != 0)
        die("there is no process %d to measure", (int)window->measured_pid);
    window->phase_ends_ns = now_ns() + window->warmup_ns;
}

static void read_cpu_clocks(struct window *window, bool ends)
{
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t measured = window->measured_pid ? clock_ns(window->measured_clock) : 0;
    window->own_cpu_ns = ends ? own - window->own_cpu_ns : own;
    window->measured_cpu_ns = ends ? measured - window->measured_cpu_ns : measured;
}

bool window_go_on(struct window *window, uint64_t now)
{
    if (now < window->phase_ends_ns)
        return true;
    switch (window->phase) {
    case WARMING_UP:
        window->phase = MEASURING;
        window->phase_ends_ns = now + window->duration_ns;
        window->started_ns = now;
        read_cpu_clocks(window, false);
        return true;
    case MEASURING:
        window->phase = DRAINING;
        window->phase_ends_ns = now + DRAIN_LIMIT_NS;
        window->ended_ns = now;
        read_cpu_clocks(window, true);
        return true;
    case DRAINING:
        return false;
    }
    return false;
}

int window_wait_ms(const struct window *window, uint64_t now)
{
    uint64_t ends = window->phase_ends_ns;
    return now >= ends ? 0 : (int)((ends - now) / NS_PER_MS + 1u);
}

void window_record(struct window *window, uint64_t latency_ns)
{
    if (window->phase == MEASURING)
        histogram_record(&window->latencies, latency_ns);
}

void window_print(const struct window *window)
{
    const struct histogram *latencies = &window->latencies;
    printf("{\"operations\": %" PRIu64 ", \"seconds\": %.9f, \"measured_cpu_ns\": %" PRIu64
           ", \"load_cpu_ns\": %" PRIu64 ", \"latency_ns\": {\"p50\": %" PRIu64
           ", \"p99\": %" PRIu64 ", \"p99_9\": %" PRIu64 ", \"max\": %" PRIu64 "}}\n",
           latencies->count, (double)(window->ended_ns - window->started_ns) / 1e9,
           window->measured_cpu_ns, window->own_cpu_ns, histogram_at(latencies, 0.5),
           histogram_at(latencies, 0.99), histogram_at(latencies, 0.999), latencies->max_ns);
}
