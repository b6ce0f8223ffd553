/* A place where the threads of a crew wait for each other, without the operating system.
 *
 * Steps on small batches take microseconds, so the threads spin; one that waits for long,
 * because others have no core to run on, gives its own away. `barrier_stop` lets all
 * leave. Without gcc's or clang's atomics BARRIER_WORKS is 0: one thread only.
 */
#ifndef SKBGD_BARRIER_H
#define SKBGD_BARRIER_H

typedef struct {
    int n_threads, arrived, stopped;
    unsigned round;
} Barrier;

#if defined(__GNUC__) && !defined(_WIN32)
#include <sched.h>
#define BARRIER_WORKS 1
#if defined(__x86_64__) || defined(__i386__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define SPIN_PAUSE() __asm__ __volatile__("yield" ::: "memory")
#else
#define SPIN_PAUSE() __asm__ __volatile__("" ::: "memory")
#endif

/* Returns 1 when all have come, 0 when the barrier was stopped. */
static int barrier_wait(Barrier *barrier)
{
    unsigned round;
    if (barrier->n_threads == 1)
        return 1;
    round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == barrier->n_threads) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
        return 1;
    }
    for (int spins = 0; __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round;) {
        if (__atomic_load_n(&barrier->stopped, __ATOMIC_ACQUIRE))
            return 0;
        if (spins < 2000) {
            spins++;
            SPIN_PAUSE();
        } else {
            sched_yield();
        }
    }
    return 1;
}

static void barrier_stop(Barrier *barrier)
{
    __atomic_store_n(&barrier->stopped, 1, __ATOMIC_RELEASE);
}
#else
#define BARRIER_WORKS 0
static int barrier_wait(Barrier *barrier)
{
    return 1;
}
static void barrier_stop(Barrier *barrier)
{
}
#endif
#endif
