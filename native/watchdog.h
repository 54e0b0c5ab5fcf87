// Watches over the processes that train together, from threads of its own: the main thread may wait
// for ever in a collective for a peer that is dead.
//
// Each process beats: it writes a count into the store now and then, and what it is at. Each looks
// at the beat of the next one in the ring of ranks, so that the store's load grows with the number
// of ranks, not with its square. Who finds a beat that has stopped writes the verdict into the
// store, once for all; all look for a verdict at each beat, so they name the same culprit.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "activity.h"

namespace moco {

// Exit code of a process that noticed that another one had died or hung; lib/distributed/launch
// knows it too. "Temporary failure" in sysexits.h: trying again is what helps.
constexpr int kPeerFailed = 75;

struct Verdict {
  int rank = -1;  // at fault, or -1 where it is not known
  std::string what;
};

// The keys of a generation's processes in the store.
class WatchKeys {
 public:
  explicit WatchKeys(std::string generation) : prefix("watchdog/" + std::move(generation) + "/") {}
  std::string beat(int rank) const { return prefix + "beat/" + std::to_string(rank); }
  std::string verdict() const { return prefix + "verdict"; }

 private:
  std::string prefix;
};

// Writes a verdict unless there is one. To what is said the place is added where the culprit was
// seen last.
void accuse(c10d::Store& store, const WatchKeys& keys, int rank, const std::string& what);
std::optional<Verdict> readVerdict(c10d::Store& store, const WatchKeys& keys);

class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    std::string host;
    uint16_t port = 0;
    std::string generation;
    int rank = 0;
    int size = 1;
    bool hostsStore = false;  // in this process: it must outlive the others
    std::string storeOwner;   // whose end it is when the store is gone, for messages
    std::chrono::milliseconds limit{30000};
    // Until a step has shown how long this main thread is silent in a sound training.
    std::chrono::milliseconds firstPatience{600000};
  };

  Watchdog(Options options, std::shared_ptr<Activity> activity);

  // The main thread is alive: it runs JavaScript.
  void turn() { turns.fetch_add(1, std::memory_order_relaxed); }

  // This process has done its part: from now on nobody waits for it. Returns once the others can
  // know, or soon.
  void stop();

  struct Costs {
    int64_t rounds = 0;
    double cpuSeconds = 0;
  };
  Costs costs();

  // The two threads keep the watchdog alive.
  static void run(const std::shared_ptr<Watchdog>& watchdog);

 private:
  void beat();
  void time();
  void round(c10d::Store& store);
  void lookAtNeighbour(c10d::Store& store);
  void lookAtMainThread(c10d::Store& store);
  void sayDone(c10d::Store& store);
  bool sleep(std::chrono::milliseconds duration);
  [[noreturn]] void conclude(const std::string& what);
  std::string place();

  const Options options;
  const WatchKeys keys;
  const std::shared_ptr<Activity> activity;
  const std::chrono::milliseconds interval;
  std::atomic<uint64_t> turns{0};

  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  bool done = false;  // the beating thread has ended
  Clock::time_point lastRound = Clock::now();
  Costs cost;
  std::atomic<bool> concluded{false};

  // Of the beating thread alone.
  int64_t beats = 0;
  int neighbour;
  std::string neighbourBeat;
  Clock::time_point neighbourChanged = Clock::now();
  uint64_t seenTurns = 0;
  Activity::Clock::time_point seenCollective;
  Clock::time_point progressed = Clock::now();
  Clock::duration longestSilence{0};
  int64_t firstStep = -1;
};

}  // namespace moco
