#include "threadPool.h"

#include <utility>

namespace moco::image {

ThreadPool::ThreadPool(int count) {
  threads.reserve(static_cast<size_t>(count));
  try {
    for (int i = 0; i < count; ++i) threads.emplace_back([this] { loop(); });
  } catch (...) {
    close();
    throw;
  }
}

ThreadPool::~ThreadPool() { close(); }

void ThreadPool::submit(std::shared_ptr<Work> work) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!closing && work->items > 0) {
      queue.push_back(std::move(work));
    } else {
      work->cancelled = work->items > 0;
    }
  }
  if (work) {
    work->finished();
  } else {
    wake.notify_all();
  }
}

void ThreadPool::cancelQueued() {
  std::vector<std::shared_ptr<Work>> ended;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const std::shared_ptr<Work>& work : queue) {
      work->cancelled = true;
      work->remaining -= work->items - work->next;
      work->next = work->items;
      // With items under way, the thread that ends the last one finishes the work.
      if (work->remaining == 0) ended.push_back(work);
    }
    queue.clear();
  }
  for (const std::shared_ptr<Work>& work : ended) work->finished();
}

void ThreadPool::close() {
  std::deque<std::shared_ptr<Work>> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    closing = true;
    dropped.swap(queue);
  }
  wake.notify_all();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  // No thread is left: what was not run never will be.
  for (const std::shared_ptr<Work>& work : dropped) {
    work->cancelled = true;
    work->finished();
  }
}

void ThreadPool::loop() {
  Workshop workshop;
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    wake.wait(lock, [this] { return closing || !queue.empty(); });
    if (closing) return;
    const std::shared_ptr<Work> work = queue.front();
    const size_t item = work->next++;
    if (work->next == work->items) queue.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      work->run(item, workshop);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure && !work->failure) work->failure = failure;
    if (--work->remaining == 0) {
      lock.unlock();
      work->finished();
      lock.lock();
    }
  }
}

}  // namespace moco::image
