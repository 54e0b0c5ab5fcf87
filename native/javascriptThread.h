// The thread in which JavaScript runs, for the other threads of a backward pass that need it.
//
// The engine runs the nodes of a GPU's tensors in a thread of that GPU, and JavaScript can be
// called in its own thread only. So a backward pass that has nodes in JavaScript on a device does
// not keep JavaScript's thread busy: it is begun in a thread of its own, while JavaScript's thread
// answers requests until the pass is done.
//
// A backward pass inside such an answer is begun by the thread that asked, as that one may be the
// only one of its GPU: waiting for another thread's pass it could not run the nodes of the pass
// that it waits for.
//
// While a CUDA graph is recorded nothing changes: threads wait for each other on the host and ask
// nothing of the device, and all of them have the recording stream current. The recording was begun
// in JavaScript's thread in the mode that restrains this thread only (cuda/graph.cc); work that the
// others give the stream is recorded as that of GPU threads always is, and the allocator takes
// memory from the graph's pool by the stream, not by the thread. The recording also ends in
// JavaScript's thread, which that mode asks for.
#pragma once

#include <ATen/ThreadLocalState.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace moco {

// What an operator's work depends on besides its arguments: modes (gradients, autocast), the
// current device and the current stream of each device.
struct ThreadContext {
  // Of the calling thread.
  ThreadContext();

  at::ThreadLocalState modes;
  std::optional<c10::Device> device;
  std::vector<c10::Stream> streams;
};

class JavaScriptThread {
 public:
  using Work = std::function<void()>;

  // Runs `work` in JavaScript's thread, in the calling thread's context, and throws what it throws.
  // For any thread: others wait for it, and throw where JavaScript's thread serves no backward.
  void run(const Work& work);

  // For JavaScript's thread: runs a backward pass in another one, and serves the threads that want
  // JavaScript until it is done. Throws what it throws.
  void runElsewhere(const Work& pass);

  // For JavaScript's thread: whether it is answering another one.
  bool isAnswering() const { return answered != nullptr; }

 private:
  struct Request {
    const Work& work;
    ThreadContext context;
    std::exception_ptr error;
    bool done = false;
    const Work* errand = nullptr;  // what the thread that waits is to do meanwhile
    bool* errandDone = nullptr;
  };

  // As long as one is there, others' requests are answered.
  class Serving;

  void serveUntil(const bool& done);
  void answer(Request& request);

  const std::thread::id id = std::this_thread::get_id();
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Request*> requests;
  int serving = 0;
  Request* answered = nullptr;  // JavaScript's thread only
};

}  // namespace moco
