/* What the loads have in common: warming up, the measured window, draining; and the line in
 * which they say what they found. */
#ifndef BENCH_WINDOW_H
#define BENCH_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "histogram.h"

/* -w WARMUP_MS -d DURATION_MS -p PID, for getopt(3). */
#define WINDOW_OPTIONS "w:d:p:"

enum phase { WARMING_UP, MEASURING, DRAINING };

struct window {
    uint64_t warmup_ns;
    uint64_t duration_ns;
    pid_t measured_pid; /* 0: none */
    clockid_t measured_clock;
    enum phase phase;
    uint64_t phase_ends_ns;
    uint64_t started_ns, ended_ns;        /* of the measured window */
    uint64_t measured_cpu_ns, own_cpu_ns; /* within it */
    struct histogram latencies;           /* of the operations that ended within it */
};

/* The defaults of its options. */
void window_set_up(struct window *window);

/* Whether this was one of WINDOW_OPTIONS. */
bool window_option(struct window *window, int option, const char *argument);

/* The warm-up begins. */
void window_begin(struct window *window);

/* The next phase, if it is time. False: draining took too long. Both ends of the window read the
 * measured process's CPU time too, so that time and count belong together. */
bool window_go_on(struct window *window, uint64_t now);

/* Until the phase ends, for epoll_wait(2). */
int window_wait_ms(const struct window *window, uint64_t now);

/* An operation ended; it counts within the measured window only. */
void window_record(struct window *window, uint64_t latency_ns);

/* One JSON line. */
void window_print(const struct window *window);

#endif
