// A pool of image threads and the promises of what they do.
#pragma once

#include <node_api.h>

#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include "image/threadPool.h"

namespace moco {

inline void checked(napi_status status, const char* what) {
  if (status != napi_ok) throw std::runtime_error(std::string("Node-API: ") + what);
}

// A pool and the way back to its JavaScript thread. Everything but the threads themselves and the
// counters is used on that thread only.
struct Pool {
  explicit Pool(int count) : threads(count) {}

  napi_env env = nullptr;
  napi_threadsafe_function done = nullptr;
  int inFlight = 0;
  bool closed = false;
  // Nanoseconds of thread time.
  std::array<std::atomic<uint64_t>, image::kStages> stageTimes{};
  std::atomic<uint64_t> images{0};
  std::atomic<uint64_t> views{0};
  image::ThreadPool threads;
};

// Throws std::invalid_argument for anything else, and for a closed pool.
Pool& openPoolOf(napi_env env, napi_value value);

// Work that settles a promise on the JavaScript thread.
class PromiseWork : public image::Work {
 public:
  PromiseWork(Pool& pool, size_t items) : Work(items), pool(pool) {}

  // Gives the work to the pool's threads. `kept` is what must stay alive until then: the pool's
  // own handle and the memory that the threads read.
  static napi_value submit(napi_env env, const std::shared_ptr<PromiseWork>& work, napi_value kept);

  void finished() final;

 protected:
  // Lets go of the memory that was written to, on the JavaScript thread, when no item runs any
  // more. The thread that ran the last one may hold the work itself a moment longer.
  virtual void release() {}
  // What the promise becomes, on the JavaScript thread.
  virtual napi_value resolution(napi_env env) = 0;
  // Adds what a thread's clock has counted to the pool's counters.
  void count(image::StageClock& clock, size_t views);

  Pool& pool;

 private:
  friend void settle(napi_env env, napi_value, void*, void* data);
  napi_deferred deferred = nullptr;
  napi_ref kept = nullptr;
  // The report to JavaScript owns the work.
  std::shared_ptr<PromiseWork> self;
};

void registerImagePool(napi_env env, napi_value exports);

}  // namespace moco
