/* border.c - chance, the record, and memory: what the parts of the border have in common.
 *
 * The engine is built with the linker's --wrap for each function by which it asks the kernel, so its
 * sources are the ones that are shipped, and every call goes through a function of these files.
 * Everything is decided by one generator of numbers. No more is done than a kernel may do: it may
 * move less, say EINTR, be out of buffers and memory, fail an operation, let a cancel come too
 * late, post completions in another order.
 *
 * The state is static: the border is one for the process, and for one thread.
 */
#include "border_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { FAULTS_MAX = 1024 }; /* between two calls of ub_take_faults() */

bool ub_is_active;
struct ub_temper ub_temper;

static uint64_t number;
static uint64_t counts[UB_KIND_COUNT], total;
static int32_t allowed[UB_OPERATIONS][UB_ERRNOS_MAX];
static uint32_t allowed_count[UB_OPERATIONS];
static struct ub_fault faults[FAULTS_MAX];
static uint32_t fault_count;

static const char *const KIND_NAMES[UB_KIND_COUNT] = {
    [UB_KIND_ERROR] = "an error",
    [UB_KIND_NOT_NOW] = "not now",
    [UB_KIND_SHORT] = "less than could be",
    [UB_KIND_NO_BUFFER] = "no receive buffer",
    [UB_KIND_ENTER_REFUSED] = "an enter that was refused",
    [UB_KIND_ENTER_PARTIAL] = "an enter that took a part",
    [UB_KIND_WAIT_INTERRUPTED] = "a wait that was interrupted",
    [UB_KIND_CANCEL_LOST] = "a cancel that found nothing",
    [UB_KIND_COMPLETION_LATE] = "completions that came late",
    [UB_KIND_COMPLETIONS_SWAPPED] = "completions in another order",
    [UB_KIND_MULTISHOT_ENDED] = "a multishot that ended",
    [UB_KIND_POLL_MISLED] = "a poll that misled",
    [UB_KIND_FEW_REPORTS] = "fewer reports than there are",
    [UB_KIND_NAMELESS] = "a connection without names",
};

/* Chance. ------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_number(void) {
    uint64_t mixed = (number += UINT64_C(0x9E3779B97F4A7C15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ (mixed >> 31);
}

uint32_t ub_between(uint32_t low, uint32_t high) {
    return low + (uint32_t)(next_number() % ((uint64_t)high - low + 1));
}

bool ub_happens(uint32_t in_thousand, enum ub_kind kind) {
    if (!ub_is_active || !in_thousand || next_number() % 1000 >= in_thousand)
        return false;
    counts[kind]++;
    total++;
    return true;
}

size_t ub_part_of(size_t size) {
    static const uint32_t LIMITS[] = {1, 20, 5000};
    uint32_t limit;
    if (size < 2 || !ub_happens(ub_temper.cuts, UB_KIND_SHORT))
        return size;
    limit = LIMITS[ub_between(0, 2)];
    return ub_between(1, limit < size ? limit : (uint32_t)(size - 1));
}

/* Errors. ------------------------------------------------------------------------------- */

static bool is_socket(int fd) {
    struct stat status;
    return !fstat(fd, &status) && S_ISSOCK(status.st_mode);
}

int ub_error_for(int32_t operation, int fd) {
    int32_t error;
    if (!ub_is_active || !allowed_count[operation] || fault_count == FAULTS_MAX ||
        !is_socket(fd) || !ub_happens(ub_temper.errors, UB_KIND_ERROR))
        return 0;
    error = allowed[operation][ub_between(0, allowed_count[operation] - 1)];
    faults[fault_count++] = (struct ub_fault){.fd = fd, .operation = operation, .error = error};
    return error;
}

bool ub_is_not_now(void) {
    return ub_happens(ub_temper.not_now, UB_KIND_NOT_NOW);
}

void ub_allow(int32_t operation, const int32_t *errnos, uint32_t count) {
    memcpy(allowed[operation], errnos, count * sizeof(*errnos));
    allowed_count[operation] = count;
}

uint32_t ub_take_faults(struct ub_fault *taken, uint32_t max) {
    uint32_t count = fault_count < max ? fault_count : max;
    memcpy(taken, faults, count * sizeof(*taken));
    memmove(faults, faults + count, (fault_count - count) * sizeof(*faults));
    fault_count -= count;
    return count;
}

/* A run. -------------------------------------------------------------------------------- */

void ub_begin(uint64_t seed, const struct ub_temper *temper) {
    number = seed;
    ub_temper = *temper;
    fault_count = 0;
    memset(counts, 0, sizeof(counts));
    total = 0;
    ub_is_active = true;
}

void ub_end(void) {
    ub_is_active = false;
}

uint64_t ub_total(void) {
    return total;
}

uint64_t ub_count(uint32_t kind) {
    return counts[kind];
}

const char *ub_kind_name(uint32_t kind) {
    return kind < UB_KIND_COUNT ? KIND_NAMES[kind] : NULL;
}

/* Memory. ------------------------------------------------------------------------------- */

static int32_t allocations_left = -1; /* negative: no limit */
static bool has_memory_failed;

void ub_fail_memory(int32_t after) {
    allocations_left = after;
    has_memory_failed = false;
}

int32_t ub_has_memory_failed(void) {
    return has_memory_failed;
}

static bool is_memory_out(void) {
    if (allocations_left) {
        allocations_left -= allocations_left > 0;
        return false;
    }
    has_memory_failed = true;
    return true;
}

static int64_t held;

int64_t ub_memory_held(void) {
    return held;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *address, size_t size, int access, int flags, int fd, off_t offset);
int __real_munmap(void *memory, size_t size);

void *__wrap_malloc(size_t size) {
    void *memory = is_memory_out() ? NULL : __real_malloc(size);
    held += memory != NULL;
    return memory;
}

void *__wrap_calloc(size_t count, size_t size) {
    void *memory = is_memory_out() ? NULL : __real_calloc(count, size);
    held += memory != NULL;
    return memory;
}

void *__wrap_realloc(void *memory, size_t size) {
    void *moved = is_memory_out() ? NULL : __real_realloc(memory, size);
    held += !memory && moved;
    return moved;
}

void __wrap_free(void *memory) {
    held -= memory != NULL;
    __real_free(memory);
}

void *__wrap_mmap(void *address, size_t size, int access, int flags, int fd, off_t offset) {
    void *memory =
        is_memory_out() ? MAP_FAILED : __real_mmap(address, size, access, flags, fd, offset);
    held += memory != MAP_FAILED;
    return memory;
}

int __wrap_munmap(void *memory, size_t size) {
    int error = __real_munmap(memory, size);
    held -= !error;
    return error;
}
