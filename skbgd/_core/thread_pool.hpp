/* A fork-join thread pool.
 *
 * `run` divides work into one chunk per thread. The thread that calls it leads; the workers
 * are threads that Python starts and that call `run_worker`. Each thread processes its own
 * chunk first, then chunks that no thread has taken. A thread that gets no CPU therefore
 * delays the others by at most one chunk. Results depend on the chunks, not on the threads
 * that process them.
 *
 * A step on a small batch takes microseconds. Waiting threads therefore spin for 50 us
 * before they sleep: on a busy machine, the thread they wait for may need their CPU. If
 * another process takes the CPU of a thread within a chunk, all threads wait for that
 * chunk. The leader therefore tries now and then whether it is faster alone.
 */
#ifndef SKBGD_THREAD_POOL_HPP
#define SKBGD_THREAD_POOL_HPP
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

#include "flush_denormals.hpp"

namespace skbgd {

using Clock = std::chrono::steady_clock;

inline double seconds()
{
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

/* Tell the processor that this thread spins. */
inline void spin_pause()
{
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ __volatile__("yield" ::: "memory");
#endif
}

/* Threads wait until a condition holds; call `notify` after it has become true. */
class Event {
  public:
    template <class Condition> void wait(const Condition &holds)
    {
        const auto start = Clock::now();
        do {
            for (int i = 0; i < 16; i++) {
                if (holds())
                    return;
                spin_pause();
            }
        } while (Clock::now() - start < std::chrono::microseconds(50));
        std::unique_lock<std::mutex> lock(mutex);
        n_sleeping++;
        changed.wait(lock, holds);
        n_sleeping--;
    }

    void notify()
    {
        if (n_sleeping > 0) {
            std::lock_guard<std::mutex> lock(mutex);
            changed.notify_all();
        }
    }

  private:
    std::atomic<int> n_sleeping{0};
    std::mutex mutex;
    std::condition_variable changed;
};

/* Selects the mode of each run of a pool: parallel, or sequential, by the leader alone.

   Where runs are short (more than 1000 per second), waiting for a preempted thread is long
   in comparison. The selector measures one window of at least 4 ms in parallel and one
   alone, and uses the faster mode in the windows after. It measures again after 200 windows
   in parallel or 12 alone: other processes come and go. Long runs are always parallel: on
   many CPUs, trying them alone costs more than it can gain. */
class ModeSelector {
  public:
    bool sequential = false; /* the mode of the next run */

    /* Times are in seconds. */
    explicit ModeSelector(double now) : window_start(now) {}

    /* To be called before each run. */
    void update(double now)
    {
        const double time = now - window_start;
        if (n_runs++ < 4 || time < 0.004)
            return;
        const double rate = n_runs / time;
        double &average = runs_per_second[sequential];
        average = average > 0 ? (average + rate) / 2 : rate;
        if (window > 0 || rate > 1000)
            window = (window + 1) % (sequential ? 12 : 200);
        sequential = window == 1 || (window > 1 && runs_per_second[1] > runs_per_second[0]);
        n_runs = 0;
        window_start = now;
    }

  private:
    int window = 0, n_runs = 0;         /* n_runs: in this window */
    double runs_per_second[2] = {0, 0}; /* parallel, sequential; moving averages */
    double window_start;
};

/* Elements of the panel, each thread's memory for packed parts of matrices: 32 KB in
   float, 64 KB in double. */
constexpr ptrdiff_t PANEL_SIZE = 1 << 13;

class ThreadPool {
  public:
    const int n_threads;
    std::atomic<bool> interrupted{false}; /* by Ctrl-C: the call in progress ends early */

    explicit ThreadPool(int n)
        : n_threads(n), chunks(new Chunk[n]), panels(new double[size_t(n) * PANEL_SIZE + 8])
    {
    }

    /* Begin a call of the core; returns false if another call is in progress. */
    bool enter()
    {
        if (in_use.exchange(true))
            return false;
        interrupted = false;
        return true;
    }
    void leave() { in_use = false; }

    /* Call body(chunk, thread) for every chunk; returns when all chunks are finished. */
    template <class Body> void run(const Body &body)
    {
        if (n_threads > 1)
            mode.update(seconds());
        if (n_threads == 1 || mode.sequential) {
            for (int chunk = 0; chunk < n_threads; chunk++)
                body(chunk, 0);
            return;
        }
        context = &body;
        call_body = [](const void *context, int chunk, int thread) {
            (*static_cast<const Body *>(context))(chunk, thread);
        };
        n_unfinished = n_threads;
        phase++;
        work_available.notify();
        process_chunks(0, phase);
        all_finished.wait([this] { return n_unfinished == 0; });
    }

    /* The sum of body(chunk, thread) over all chunks, always added in the same order. */
    template <class Body> double sum(const Body &body)
    {
        double total = 0;
        run([&](int chunk, int thread) { chunks[chunk].sum = body(chunk, thread); });
        for (int chunk = 0; chunk < n_threads; chunk++)
            total += chunks[chunk].sum;
        return total;
    }

    /* The loop of a worker. Returns after `stop`, at once if there are enough workers. */
    void run_worker()
    {
        const FlushDenormals flush;
        const int thread = 1 + n_workers++;
        unsigned seen = 0;
        while (thread < n_threads) {
            work_available.wait([&] { return phase != seen || stopped; });
            if (stopped)
                break;
            seen = phase;
            process_chunks(thread, seen);
        }
        n_returned++;
        all_returned.notify();
    }

    /* Stop the workers; returns when all that have started have left `run_worker`. A worker
       that starts later leaves at once. */
    void stop()
    {
        stopped = true;
        work_available.notify();
        all_returned.wait([this] { return n_returned == n_workers; });
    }

    /* The panel of a thread, aligned to 64 bytes. */
    void *panel(int thread) const
    {
        const auto start = reinterpret_cast<uintptr_t>(panels.get() + thread * PANEL_SIZE);
        return reinterpret_cast<void *>((start + 63) / 64 * 64);
    }

  private:
    struct Chunk {
        std::atomic<unsigned> taken{0}; /* the last phase in which a thread took it */
        double sum = 0;
        char padding[48]; /* no two chunks share a cache line */
    };
    std::unique_ptr<Chunk[]> chunks;
    std::unique_ptr<double[]> panels;
    Event work_available, all_finished, all_returned;
    std::atomic<unsigned> phase{0}; /* number of the parallel run */
    std::atomic<int> n_unfinished{0}, n_workers{0}, n_returned{0};
    std::atomic<bool> stopped{false}, in_use{false};
    ModeSelector mode{seconds()};
    const void *context = nullptr;
    void (*call_body)(const void *context, int chunk, int thread) = nullptr;

    void process_chunks(int thread, unsigned current)
    {
        for (int i = 0; i < n_threads; i++) {
            const int chunk = (thread + i) % n_threads;
            /* Fails too if this phase has ended: then all of its chunks were taken. */
            unsigned previous = current - 1;
            if (!chunks[chunk].taken.compare_exchange_strong(previous, current))
                continue;
            call_body(context, chunk, thread);
            if (--n_unfinished == 0)
                all_finished.notify();
        }
    }
};

} // namespace skbgd
#endif
