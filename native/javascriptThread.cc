#include "javascriptThread.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <stdexcept>
#include <utility>

namespace moco {
namespace {

class ContextGuard {
 public:
  explicit ContextGuard(const ThreadContext& context)
      : modes(context.modes), device(context.device), streams(context.streams) {}

 private:
  const at::ThreadLocalStateGuard modes;
  const c10::OptionalDeviceGuard device;
  const c10::MultiStreamGuard streams;
};

}  // namespace

ThreadContext::ThreadContext() {
  const auto type = at::getAccelerator();
  if (!type) return;
  const c10::impl::VirtualGuardImpl guard(*type);
  const c10::DeviceIndex count = guard.deviceCount();
  if (count == 0) return;
  device = guard.getDevice();
  for (c10::DeviceIndex i = 0; i < count; i++) {
    streams.push_back(guard.getStream(c10::Device(*type, i)));
  }
}

void JavaScriptThread::run(const Work& work) {
  if (std::this_thread::get_id() == id) {
    work();
    return;
  }
  Request request{work, ThreadContext(), nullptr};
  std::unique_lock<std::mutex> lock(mutex);
  if (serving == 0) {
    throw std::runtime_error(
        "JavaScript's thread does not serve this backward pass: it has ended with an error, or "
        "another operator began it; use backward() or grad()");
  }
  requests.push_back(&request);
  changed.notify_all();
  for (;;) {
    changed.wait(lock, [&] { return request.done || request.errand != nullptr; });
    if (request.done) break;
    const Work& errand = *std::exchange(request.errand, nullptr);
    lock.unlock();
    errand();  // throws nothing
    lock.lock();
    *request.errandDone = true;
    changed.notify_all();
  }
  lock.unlock();
  if (request.error) std::rethrow_exception(request.error);
}

class JavaScriptThread::Serving {
 public:
  explicit Serving(JavaScriptThread& thread) : thread(thread) {
    const std::lock_guard<std::mutex> lock(thread.mutex);
    thread.serving++;
  }

  ~Serving() {
    const std::lock_guard<std::mutex> lock(thread.mutex);
    if (--thread.serving > 0) return;
    // Where one node has failed the pass is over, and the nodes of other threads are not called any
    // more.
    for (Request* request : thread.requests) {
      request->error =
          std::make_exception_ptr(std::runtime_error("the backward pass ended with an error"));
      request->done = true;
    }
    thread.requests.clear();
    thread.changed.notify_all();
  }

 private:
  JavaScriptThread& thread;
};

void JavaScriptThread::runElsewhere(const Work& pass) {
  std::exception_ptr error;
  const ThreadContext context;
  const Work work = [&] {
    try {
      const ContextGuard guard(context);
      pass();
    } catch (...) {
      error = std::current_exception();
    }
  };
  bool done = false;
  const Serving serving(*this);
  if (answered != nullptr) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      answered->errandDone = &done;
      answered->errand = &work;
      changed.notify_all();
    }
    serveUntil(done);
  } else {
    std::thread thread([&] {
      at::init_num_threads();  // OpenMP counts for each thread by itself
      work();
      const std::lock_guard<std::mutex> lock(mutex);
      done = true;
      changed.notify_all();
    });
    serveUntil(done);
    thread.join();
  }
  if (error) std::rethrow_exception(error);
}

void JavaScriptThread::serveUntil(const bool& done) {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    changed.wait(lock, [&] { return done || !requests.empty(); });
    if (done) return;
    Request& request = *requests.front();
    requests.pop_front();
    lock.unlock();
    answer(request);
    lock.lock();
    request.done = true;
    changed.notify_all();
  }
}

void JavaScriptThread::answer(Request& request) {
  Request* const outer = std::exchange(answered, &request);
  try {
    const ContextGuard guard(request.context);
    request.work();
  } catch (...) {
    request.error = std::current_exception();
  }
  answered = outer;
}

}  // namespace moco
