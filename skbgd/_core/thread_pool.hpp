/* The threads that compute together: one leads, the others take chunks of its work.
 *
 * The leader, thread 0, alone runs through a descent. What can be divided it divides into
 * as many chunks as there are threads, and each thread takes its own; whoever is done takes
 * those that nobody has begun. So a thread that has no core holds up the others by one chunk
 * at most, and the results are those of the chunks, whoever computed them.
 *
 * Steps on small batches take microseconds, so a thread that waits spins for a short while.
 * Then it sleeps: what it waits for may need its core, if the machine is busy. Where other
 * processes take a core away in the middle of a chunk, all wait for it. So the leader tries
 * now and then whether it is faster alone.
 */
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#if defined(__x86_64__) || defined(_M_X64)
#define SPIN_PAUSE() _mm_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define SPIN_PAUSE() __asm__ __volatile__("yield" ::: "memory")
#else
#define SPIN_PAUSE()
#endif

namespace skbgd {

/* Numbers below the smallest normal one cost a hundred times as much as others, and no sum
   here needs them: they are 0 as long as such an object lives, in this thread. */
class FlushDenormals {
  public:
    FlushDenormals() { begin(); }
    ~FlushDenormals() { end(); }
#if defined(__x86_64__) || defined(_M_X64)
    void begin() { _mm_setcsr((before = _mm_getcsr()) | 0x8040); } /* FTZ and DAZ */
    void end() { _mm_setcsr(before); }

  private:
    unsigned before;
#elif defined(__aarch64__) && defined(__GNUC__)
    void begin()
    {
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(before));
        __asm__ __volatile__("msr fpcr, %0" : : "r"(before | (1 << 24)));
    }
    void end() { __asm__ __volatile__("msr fpcr, %0" : : "r"(before)); }

  private:
    uint64_t before;
#else
    void begin() {}
    void end() {}
#endif
};

typedef std::chrono::steady_clock Clock;

/* A thread waits here until something holds; whoever made it hold rings. */
class Event {
  public:
    template <class Condition> void wait(const Condition &holds)
    {
        const auto start = Clock::now();
        do {
            for (int i = 0; i < 16; i++) {
                if (holds())
                    return;
                SPIN_PAUSE();
            }
        } while (Clock::now() - start < std::chrono::microseconds(50));
        std::unique_lock<std::mutex> lock(mutex);
        sleepers++;
        changed.wait(lock, holds);
        sleepers--;
    }

    void notify()
    {
        if (sleepers > 0) {
            std::lock_guard<std::mutex> lock(mutex);
            changed.notify_all();
        }
    }

  private:
    std::atomic<int> sleepers{0};
    std::mutex mutex;
    std::condition_variable changed;
};

enum { PANEL_SIZE = 1 << 13 }; /* elements of a thread's memory for packed matrices */

class ThreadPool {
  public:
    const int n_threads;
    std::atomic<bool> interrupted{false}; /* by Ctrl-C: what is under way is given up */

    explicit ThreadPool(int n)
        : n_threads(n), chunks(new Chunk[n]), panels(new double[(size_t)n * PANEL_SIZE + 8])
    {
    }

    /* body(chunk, thread) for every chunk, by whoever takes it; returns when all are done. */
    template <class Body> void run(const Body &body)
    {
        if (n_threads > 1)
            choose_mode();
        if (n_threads == 1 || alone) {
            for (int chunk = 0; chunk < n_threads; chunk++)
                body(chunk, 0);
            return;
        }
        context = &body;
        call = [](const void *given, int chunk, int thread) {
            (*(const Body *)given)(chunk, thread);
        };
        left = n_threads;
        phase++;
        work_available.notify();
        take_chunks(0, phase);
        all_done.wait([this] { return left == 0; });
    }

    /* The sum of body(chunk, thread) over all chunks, always in the same order. */
    template <class Body> double sum(const Body &body)
    {
        double total = 0;
        run([&](int chunk, int thread) { chunks[chunk].sum = body(chunk, thread); });
        for (int chunk = 0; chunk < n_threads; chunk++)
            total += chunks[chunk].sum;
        return total;
    }

    /* What the other threads do until `stop`. */
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
            take_chunks(thread, seen);
        }
        n_exited++;
        all_exited.notify();
    }

    /* Returns when all threads that have begun to help have left; one that begins later
       leaves at once. */
    void stop()
    {
        stopped = true;
        work_available.notify();
        all_exited.wait([this] { return n_exited == n_workers; });
    }

    /* The memory of a thread, aligned to 64 bytes. */
    void *panel(int thread) const
    {
        const uintptr_t start = (uintptr_t)(panels.get() + (ptrdiff_t)thread * PANEL_SIZE);
        return (void *)((start + 63) / 64 * 64);
    }

  private:
    struct Chunk {
        std::atomic<unsigned> taken{0}; /* in which phase last */
        double sum = 0;
        char padding[48]; /* so that no two have a cache line in common */
    };
    std::unique_ptr<Chunk[]> chunks;
    std::unique_ptr<double[]> panels;
    Event work_available, all_done, all_exited;
    std::atomic<unsigned> phase{0};
    std::atomic<int> left{0}, n_workers{0}, n_exited{0};
    std::atomic<bool> stopped{false};
    const void *context = nullptr;
    void (*call)(const void *body, int chunk, int thread) = nullptr;

    /* Where runs are short, for which waiting for a core is long, the leader measures one
       window of time with the others and one alone. Then it spends many in the faster of
       these two ways, fewer of them alone: other processes come and go. */
    bool alone = false;
    int window = 0, n_runs = 0; /* in this window */
    double runs_per_second[2] = {0, 0}; /* with others, alone; of late */
    Clock::time_point begin = Clock::now();

    void choose_mode()
    {
        const std::chrono::duration<double> time = Clock::now() - begin;
        if (n_runs++ < 4 || time.count() < 0.004)
            return;
        const double rate = n_runs / time.count();
        double &average = runs_per_second[alone];
        average = average > 0 ? (average + rate) / 2 : rate;
        if (window > 0 || rate > 1000)
            window = (window + 1) % (alone ? 12 : 200);
        alone = window == 1 || (window > 1 && runs_per_second[1] > runs_per_second[0]);
        n_runs = 0;
        begin = Clock::now();
    }

    void take_chunks(int thread, unsigned now)
    {
        for (int i = 0; i < n_threads; i++) {
            const int chunk = (thread + i) % n_threads;
            /* Fails too if this phase is over: then all of its chunks were taken. */
            unsigned before = now - 1;
            if (!chunks[chunk].taken.compare_exchange_strong(before, now))
                continue;
            call(context, chunk, thread);
            if (--left == 0)
                all_done.notify();
        }
    }
};

} // namespace skbgd
