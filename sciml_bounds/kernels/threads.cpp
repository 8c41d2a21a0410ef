// The pool: workers wait for a loop, take ranges of it from a shared counter, and wait again.
//
// Threads are started on first use and live until the process ends, so the pool is never destroyed. A forked child has
// none of them; there, Python requests one thread.

#include "threads.hpp"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define SB_PAUSE() _mm_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define SB_PAUSE() [] { __asm__ __volatile__("yield"); }()
#else
#define SB_PAUSE() std::this_thread::yield()
#endif

namespace sb {
namespace {

// Ranges per thread, enough to balance cores of different speeds.
constexpr int64_t RANGES_PER_THREAD = 8;

// Polls before a thread goes to sleep (some 10 microseconds), as the loops of a solve follow each other closely.
constexpr int POLLS = 2000;

struct Loop {
    void (*task)(void *, int64_t, int64_t);
    void *context;
    int64_t count;
    int64_t range;
    std::atomic<int64_t> next{0};

    void work() {
        for (int64_t begin; (begin = next.fetch_add(range)) < count;) {
            const int64_t end = begin + range < count ? begin + range : count;
            task(context, begin, end);
        }
    }
};

class Pool {
  public:
    void run(Loop &loop, int helpers) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (; started_ < helpers; ++started_) std::thread([this, id = started_] { serve(id); }).detach();
            loop_ = &loop;
            helpers_ = helpers;
            round_.fetch_add(1);
        }
        wake_.notify_all();
        loop.work();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            loop_ = nullptr;  // workers that wake up from now on skip this loop
        }
        for (int polls = 0; working_.load() > 0; ++polls) polls < POLLS ? SB_PAUSE() : std::this_thread::yield();
    }

    std::mutex turn;  // held by the Python thread whose loop runs

  private:
    void serve(int id) {
        for (unsigned long seen = 0;;) {
            for (int polls = 0; polls < POLLS && round_.load() == seen; ++polls) SB_PAUSE();
            Loop *loop;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load() != seen; });
                seen = round_.load();
                loop = id < helpers_ ? loop_ : nullptr;
                if (loop != nullptr) working_.fetch_add(1);
            }
            if (loop == nullptr) continue;
            loop->work();
            working_.fetch_sub(1);
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    Loop *loop_ = nullptr;
    int helpers_ = 0;
    int started_ = 0;
    std::atomic<int> working_{0};
    std::atomic<unsigned long> round_{0};
};

Pool &pool() {
    static Pool *const found = new Pool;
    return *found;
}

}  // namespace

void run_on_threads(void (*task)(void *, int64_t, int64_t), void *context, int64_t count, int threads) {
    std::unique_lock<std::mutex> turn(pool().turn, std::try_to_lock);
    if (!turn.owns_lock()) {
        task(context, 0, count);
        return;
    }
    const int64_t ranges = threads * RANGES_PER_THREAD;
    Loop loop{task, context, count, (count + ranges - 1) / ranges};
    pool().run(loop, (count < threads ? static_cast<int>(count) : threads) - 1);
}

}  // namespace sb
