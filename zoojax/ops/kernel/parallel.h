// Runs groups of members on XLA's threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

// XLA's threads flush denormals to zero, others may not; results must not depend on the thread.
class FlushDenormals {
#if defined(__SSE__)
  unsigned before_ = __builtin_ia32_stmxcsr();

 public:
  FlushDenormals() { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }
#elif defined(__aarch64__)
  uint64_t before_;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (1ull << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }
#endif
};

// One per thread, reused: padding that the backward pass reads as zero is never written. Null if
// there is not enough memory.
template <class Workspace>
Workspace* workspace() {
  thread_local std::unique_ptr<Workspace> space;
  if (!space) space.reset(new (std::nothrow) Workspace());
  return space.get();
}

// Groups are processed by any free thread; the results do not depend on which one. A thread that
// cannot allocate a workspace skips its groups, which is reported as an error.
template <class Workspace, class Run>
ffi::Error for_each_group(int groups, int threads, ffi::ThreadPool& pool, const Run& run) {
  struct Shared {
    std::atomic<int> next{0};
    std::atomic<bool> no_memory{false};
    int done = 0;
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto shared = std::make_shared<Shared>();
  const Run* body = &run;  // valid while groups remain
  auto work = [shared, body, groups] {
    FlushDenormals flush;
    for (int g; (g = shared->next++) < groups;) {
      if (Workspace* space = workspace<Workspace>())
        (*body)(g, *space);
      else
        shared->no_memory = true;
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->done == groups) shared->finished.notify_all();
    }
  };
  const int helpers = std::min(threads, groups) - 1;
  for (int i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == groups; });
  if (shared->no_memory)
    return {ffi::ErrorCode::kResourceExhausted,
            "zoojax: no memory for " + std::to_string(sizeof(Workspace)) + " bytes a thread"};
  return ffi::Error::Success();
}
