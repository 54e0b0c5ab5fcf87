// The addon's own threads for image work, apart from libtorch's and from libuv's.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "prepare.h"

namespace moco::image {

// Items that threads take one by one. `finished` is called once, on the thread that ran the last
// item or on the one that closes the pool; it must not throw.
class Work {
 public:
  explicit Work(size_t items) : items(items), remaining(items) {}
  virtual ~Work() = default;
  // Exceptions are caught and kept; the other items still run.
  virtual void run(size_t item, Workshop& workshop) = 0;
  virtual void finished() = 0;

  const size_t items;
  // The first exception, or null. Set before `finished` is called.
  std::exception_ptr failure;
  bool cancelled = false;

 private:
  friend class ThreadPool;
  // Both are guarded by the pool's mutex.
  size_t next = 0;
  size_t remaining;
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Work with no items, or given to a closed pool, is finished at once.
  void submit(std::shared_ptr<Work> work);

  // Takes the items back that no thread has begun; their work is finished as cancelled.
  void cancelQueued();

  // Lets running items end, cancels the rest and joins the threads. Idempotent.
  void close();

 private:
  void loop();

  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::shared_ptr<Work>> queue;
  bool closing = false;
  std::vector<std::thread> threads;
};

}  // namespace moco::image
