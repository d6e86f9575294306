// Work that the threads of XLA's pool share.

#ifndef T5TUNE_MODELS_SHARING_H_
#define T5TUNE_MODELS_SHARING_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace t5tune {

constexpr int kParts = 4;  // of the work, for each thread

// Does work 0, ..., count - 1 in parts, with the threads of the pool that are free. It waits
// only for parts that others have begun: all threads may be in here, and none free.
template <typename Work>
void Share(xla::ffi::ThreadPool& pool, int64_t count, Work work) {
  struct Progress {
    std::atomic<int64_t> next{0}, done{0};
  };
  int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  int64_t parts = std::min(count, threads * kParts);
  auto progress = std::make_shared<Progress>();
  auto run = [=] {
    for (int64_t part; (part = progress->next.fetch_add(1)) < parts;) {
      int64_t end = (part + 1) * count / parts;
      for (int64_t i = part * count / parts; i < end; ++i) work(i);
      progress->done.fetch_add(1);
    }
  };
  for (int64_t i = 1; i < std::min(threads, parts); ++i) pool.Schedule(decltype(run)(run));
  run();
  while (progress->done.load() < parts) std::this_thread::yield();
}

}  // namespace t5tune

#endif  // T5TUNE_MODELS_SHARING_H_
