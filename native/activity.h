// What a process does among those that train together, for messages and for a thread that watches.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>

namespace moco {

class Activity {
 public:
  using Clock = std::chrono::steady_clock;

  // The step of training, or -1 before the first; JavaScript says it.
  std::atomic<int64_t> step{-1};

  struct Collective {
    std::string name;  // the one that runs, or ran last: "gradients", "batch norm", "keys", ...
    bool running = false;
    Clock::time_point since;
  };

  void begin(const char* name) {
    std::lock_guard<std::mutex> lock(mutex);
    collective = {name, true, Clock::now()};
  }
  void end() {
    std::lock_guard<std::mutex> lock(mutex);
    collective.running = false;
    collective.since = Clock::now();
  }
  Collective current() {
    std::lock_guard<std::mutex> lock(mutex);
    return collective;
  }

  // Another thread found that no collective can end any more: those that wait throw this reason.
  void giveUp(const std::string& reason) {
    std::lock_guard<std::mutex> lock(mutex);
    verdict = reason;
    hopeless.store(true);
  }
  std::atomic<bool> hopeless{false};
  std::string reason() {
    std::lock_guard<std::mutex> lock(mutex);
    return verdict;
  }

 private:
  std::mutex mutex;
  Collective collective;
  std::string verdict;
};

}  // namespace moco
