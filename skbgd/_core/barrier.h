/* A place where the threads of a team wait for each other.
 *
 * Steps on small batches take microseconds, so a thread spins for a short while. Then it
 * sleeps: what it waits for may need its core, if the machine is busy. `stop` lets all
 * leave that wait, and come later.
 */
#ifndef SKBGD_BARRIER_H
#define SKBGD_BARRIER_H
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#define SPIN_PAUSE() _mm_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define SPIN_PAUSE() __asm__ __volatile__("yield" ::: "memory")
#else
#define SPIN_PAUSE()
#endif

namespace skbgd {

class Barrier {
  public:
    int n_threads = 1;

    /* Returns true when all have come, false when the barrier was stopped. */
    bool wait()
    {
        if (n_threads == 1)
            return true;
        const unsigned mine = round.load();
        if (arrived.fetch_add(1) + 1 == n_threads) {
            arrived = 0;
            round = mine + 1;
            wake();
            return true;
        }
        const auto start = std::chrono::steady_clock::now();
        const std::chrono::microseconds patience(spin);
        do {
            for (int i = 0; i < 16; i++) {
                if (round != mine)
                    return true;
                if (stopped)
                    return round != mine; /* all may have come just before */
                SPIN_PAUSE();
            }
        } while (std::chrono::steady_clock::now() - start < patience);
        std::unique_lock<std::mutex> lock(mutex);
        sleepers++;
        changed.wait(lock, [&] { return round != mine || stopped; });
        sleepers--;
        return round != mine;
    }

    void stop()
    {
        stopped = true;
        wake();
    }

    bool is_stopped() const { return stopped; }

    /* The next of the numbers 0, step, 2 step, ...: whoever is free takes it. */
    ptrdiff_t claim(ptrdiff_t step) { return claimed.fetch_add(step); }

  private:
    enum { spin = 20 }; /* microseconds */
    std::atomic<int> arrived{0}, sleepers{0};
    std::atomic<unsigned> round{0};
    std::atomic<bool> stopped{false};
    std::atomic<ptrdiff_t> claimed{0};
    std::mutex mutex;
    std::condition_variable changed;

    void wake()
    {
        if (sleepers > 0) {
            std::lock_guard<std::mutex> lock(mutex);
            changed.notify_all();
        }
    }
};

struct TeamState {
    Barrier *barrier;
    double *sums; /* one number per thread, 64 bytes apart: no cache line is shared */
};

} // namespace skbgd
#endif
