/* ring.c - the life of one io_uring, and the one system call that drives it.
 *
 * Facts, and what follows from them:
 *
 *   One enter a turn. io_uring_enter submits, lets the kernel run its deferred completions
 *   (GETEVENTS; with DEFER_TASKRUN they run nowhere else) and waits with a timeout
 *   (EXT_ARG) in one call. liburing's wait functions go back to sleep where an enter was
 *   interrupted by a signal after it had submitted; so the tail is published here and
 *   io_uring_enter2 is called directly. It returns without a completion after a signal and
 *   at the timeout, and either way the turn ends.
 *
 *   A ring with SINGLE_ISSUER belongs to the thread that enables it, not to its creator.
 *   So it is created disabled, and the first turn enables it. Another thread gets EEXIST.
 *
 *   The registered descriptor is an index in a table of the thread, not of the process.
 *   It is used, and taken back, only by the thread that registered it.
 *
 *   Without SUBMIT_ALL (older than 5.18) a submission stops behind an SQE that failed. The rest stays
 *   staged and goes with the next enter, so nothing depends on the flag.
 */
#include "uring.h"

#include <sys/syscall.h>
#include <unistd.h>

/* Create. ------------------------------------------------------------------------------- */

static uint32_t setup_flags(uint32_t features) {
    uint32_t flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    if (features & UL_FEATURE_SINGLE_ISSUER)
        flags |= IORING_SETUP_SINGLE_ISSUER;
    if (features & UL_FEATURE_DEFER_TASKRUN)
        flags |= IORING_SETUP_DEFER_TASKRUN;
    if (features & UL_FEATURE_COOP_TASKRUN)
        flags |= IORING_SETUP_COOP_TASKRUN;
    if (features & (UL_FEATURE_DEFER_TASKRUN | UL_FEATURE_COOP_TASKRUN))
        flags |= IORING_SETUP_TASKRUN_FLAG;
    return flags | IORING_SETUP_SUBMIT_ALL;
}

static int create(struct ul_uring *uring, const struct ul_config *config, uint32_t flags) {
    struct io_uring_params params = {.flags = flags, .cq_entries = config->cq_entries};
    return io_uring_queue_init_params(config->sq_entries, &uring->ring, &params);
}

/* The SQE at place n of the ring is always n, where there is an index array at all. */
static void fill_index_array(struct io_uring_sq *queue) {
    if (!queue->array)
        return;
    for (uint32_t index = 0; index < queue->ring_entries; index++)
        queue->array[index] = index;
}

int ul_ring_open(struct ul_uring *uring, const struct ul_config *config) {
    uint32_t flags = setup_flags(uring->features);
    int error = create(uring, config, flags);
    if (error == -EINVAL)
        error = create(uring, config, flags & ~(uint32_t)IORING_SETUP_SUBMIT_ALL);
    if (error)
        return error;
    if (~uring->ring.features & UL_KERNEL_FEATURES_NEEDED) {
        io_uring_queue_exit(&uring->ring);
        return -EOPNOTSUPP;
    }
    error = uring->features & UL_FEATURE_RESTRICTED_RING ? ul_ring_restrict(uring) : 0;
    if (error) {
        io_uring_queue_exit(&uring->ring);
        return error;
    }
    io_uring_ring_dontfork(&uring->ring);
    fill_index_array(&uring->ring.sq);
    uring->enter_fd = uring->ring.ring_fd;
    uring->enter_flags = IORING_ENTER_GETEVENTS;
    /* A loop that waits is idle; it must not be accounted as waiting for a disk. */
    if (uring->ring.features & IORING_FEAT_NO_IOWAIT)
        uring->enter_flags |= IORING_ENTER_NO_IOWAIT;
    return 0;
}

/* Threads. ------------------------------------------------------------------------------ */

/* A thread's table has 16 places: a loop that finds none does without, and says so. */
static void register_descriptor(struct ul_uring *uring) {
    struct io_uring_rsrc_update update = {.offset = UINT32_MAX,
                                          .data = (uint64_t)uring->ring.ring_fd};
    int count = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_RING_FDS,
                                  &update, 1);
    if (count != 1) {
        uring->features &= ~(uint32_t)UL_FEATURE_REGISTERED_RING;
        uring->engine->shared.features = uring->features;
        return;
    }
    uring->is_registered = true;
    uring->enter_fd = (int)update.offset;
    uring->enter_flags |= IORING_ENTER_REGISTERED_RING;
}

/* In another thread than the one that registered it; the place in its table is freed when
 * that thread ends. */
static void use_plain_descriptor(struct ul_uring *uring) {
    uring->is_registered = false;
    uring->enter_fd = uring->ring.ring_fd;
    uring->enter_flags &= ~IORING_ENTER_REGISTERED_RING;
}

/* By its number: glibc has gettid() since 2.30, and wheels are built with 2.28. */
static pid_t this_thread(void) {
    return (pid_t)syscall(SYS_gettid);
}

int ul_ring_enable(struct ul_uring *uring) {
    int error = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                                  NULL, 0);
    if (error < 0)
        return error;
    uring->is_enabled = true;
    uring->thread = pthread_self();
    uring->thread_id = this_thread();
    if (uring->features & UL_FEATURE_REGISTERED_RING)
        register_descriptor(uring);
    return 0;
}

/* pthread_self() costs nothing, but its value is given again after a thread has ended. Then
 * the kernel still answers EEXIST, only later. */
bool ul_ring_is_ours(struct ul_uring *uring) {
    if (!uring->is_enabled || pthread_equal(uring->thread, pthread_self()))
        return true;
    if (uring->features & UL_FEATURE_SINGLE_ISSUER)
        return false;
    uring->thread = pthread_self();
    uring->thread_id = this_thread();
    use_plain_descriptor(uring);
    return true;
}

/* Enter. -------------------------------------------------------------------------------- */

static int enter(struct ul_uring *uring, uint32_t submit, uint32_t wait_count,
                 int64_t timeout_ns) {
    struct __kernel_timespec time;
    struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&time};
    bool has_timeout = wait_count && timeout_ns >= 0;
    uring->engine->shared.counters.enters++;
    if (!has_timeout)
        return io_uring_enter2((unsigned)uring->enter_fd, submit, wait_count,
                               uring->enter_flags, NULL, 0);
    time.tv_sec = timeout_ns / UL_NS_PER_S;
    time.tv_nsec = timeout_ns % UL_NS_PER_S;
    return io_uring_enter2((unsigned)uring->enter_fd, submit, wait_count,
                           uring->enter_flags | IORING_ENTER_EXT_ARG, (void *)&argument,
                           sizeof(argument));
}

int ul_ring_enter(struct ul_uring *uring, uint32_t wait_count, int64_t timeout_ns) {
    int submitted;
    io_uring_smp_store_release(uring->ring.sq.ktail, uring->ring.sq.sqe_tail);
    submitted = enter(uring, ul_ring_staged(uring), wait_count, timeout_ns);
    if (submitted > 0)
        uring->engine->shared.counters.submissions += (uint32_t)submitted;
    return submitted;
}

int ul_ring_wait(struct ul_uring *uring, int64_t timeout_ns) {
    return enter(uring, 0, 1, timeout_ns);
}

struct io_uring_sqe *ul_ring_make_room(struct ul_uring *uring) {
    struct io_uring_sq *queue = &uring->ring.sq;
    ul_ring_enter(uring, 0, 0);
    if (ul_ring_staged(uring) >= queue->ring_entries)
        return NULL;
    uring->requests++;
    return &queue->sqes[queue->sqe_tail++ & queue->ring_mask];
}

/* Close. -------------------------------------------------------------------------------- */

void ul_ring_close(struct ul_uring *uring) {
    struct io_uring_rsrc_update update = {.offset = (uint32_t)uring->enter_fd};
    if (uring->is_registered && pthread_equal(uring->thread, pthread_self()))
        io_uring_register((unsigned)uring->ring.ring_fd, IORING_UNREGISTER_RING_FDS, &update, 1);
    io_uring_queue_exit(&uring->ring);
}
