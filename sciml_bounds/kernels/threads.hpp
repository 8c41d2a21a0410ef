// A thread pool for parallel loops.
#pragma once

#include "array.hpp"

namespace sb {

// Run task(context, begin, end) for consecutive ranges that cover 0 .. count, on up to `threads` threads including the
// calling one. A loop that starts while the pool is busy runs on the calling thread alone.
void run_on_threads(void (*task)(void *, std::int64_t, std::int64_t), void *context, std::int64_t count, int threads);

// Call body(i) for i = 0 .. count - 1, in any order and on several threads.
template <class Body>
SB_INLINE void parallel(std::int64_t count, int threads, Body &&body) {
    if (threads <= 1 || count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) body(i);
        return;
    }
    auto task = [](void *context, std::int64_t begin, std::int64_t end) {
        Body &shared = *static_cast<Body *>(context);
        for (std::int64_t i = begin; i < end; ++i) shared(i);
    };
    run_on_threads(task, const_cast<void *>(static_cast<const void *>(&body)), count, threads);
}

}  // namespace sb
