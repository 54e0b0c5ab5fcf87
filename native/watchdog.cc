#include "watchdog.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace moco {
namespace {

using std::chrono::milliseconds;

// Beats in the time after which silence is a verdict.
constexpr int kBeatsInLimit = 15;
constexpr milliseconds kLongestInterval{2000};
constexpr milliseconds kShortestInterval{50};
// How long the main thread may take to end by itself once no collective can end any more.
// A collective that broke asks first, for some seconds, who is still there.
constexpr milliseconds kLastWords{7000};
// How long a process that has the store waits for the others to be done with it.
constexpr milliseconds kFarewell{5000};
// A main thread counts as hanging when it is silent so many times as long as ever in this training.
constexpr int kPatience = 10;
constexpr const char* kDone = "done";

long secondsOf(Watchdog::Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

std::string placeOf(int64_t step, const std::string& collective, bool running) {
  const std::string where = step < 0 ? "before the first step" : "at step " + std::to_string(step);
  if (collective.empty()) return where;
  return where + (running ? ", in the collective \"" : ", after the collective \"") + collective +
         "\"";
}

// A beat: its count, the step, whether a collective runs, its name.
std::string placeInBeat(const std::string& beat) {
  const size_t step = beat.find('\n'), running = beat.find('\n', step + 1),
               name = beat.find('\n', running + 1);
  if (name == std::string::npos) return "";
  return placeOf(std::strtoll(beat.c_str() + step + 1, nullptr, 10), beat.substr(name + 1),
                 beat[running + 1] == '1');
}

double threadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

void accuse(c10d::Store& store, const WatchKeys& keys, int rank, const std::string& what) {
  std::string seen;
  if (rank >= 0 && store.check({keys.beat(rank)}))
    seen = placeInBeat(store.get_to_str(keys.beat(rank)));
  const std::string sentence = seen.empty() ? what : what + " (last seen " + seen + ")";
  static_cast<c10d::Store&>(store).compareSet(keys.verdict(), std::string(),
                                              std::to_string(rank) + "\n" + sentence);
}

std::optional<Verdict> readVerdict(c10d::Store& store, const WatchKeys& keys) {
  if (!store.check({keys.verdict()})) return std::nullopt;
  const std::string text = store.get_to_str(keys.verdict());
  const size_t end = text.find('\n');
  if (end == std::string::npos) return std::nullopt;
  return Verdict{std::atoi(text.c_str()), text.substr(end + 1)};
}

Watchdog::Watchdog(Options given, std::shared_ptr<Activity> watched)
    : options(std::move(given)),
      keys(options.generation),
      activity(std::move(watched)),
      interval(std::clamp(options.limit / kBeatsInLimit, kShortestInterval, kLongestInterval)),
      neighbour((options.rank + 1) % options.size) {}

void Watchdog::run(const std::shared_ptr<Watchdog>& watchdog) {
  // Detached: a thread that waits for a store whose machine is gone cannot be joined.
  std::thread([watchdog] { watchdog->beat(); }).detach();
  std::thread([watchdog] { watchdog->time(); }).detach();
}

bool Watchdog::sleep(milliseconds duration) {
  std::unique_lock<std::mutex> lock(mutex);
  return !changed.wait_for(lock, duration, [this] { return stopping; });
}

void Watchdog::beat() {
  try {
    c10d::TCPStoreOptions storeOptions;
    storeOptions.port = options.port;
    storeOptions.waitWorkers = false;
    storeOptions.timeout = options.limit;
    // A connection of its own: the main thread may wait in the other one.
    const auto store = c10::make_intrusive<c10d::TCPStore>(options.host, storeOptions);
    do {
      round(*store);
    } while (sleep(interval));
    sayDone(*store);
  } catch (const std::exception&) {
    bool ending = false;
    {
      std::lock_guard<std::mutex> lock(mutex);
      ending = stopping;
    }
    const std::string where = options.host + ":" + std::to_string(options.port);
    if (!ending)
      conclude("the store at " + where + " is gone: " + options.storeOwner + " has ended");
  }
  std::lock_guard<std::mutex> lock(mutex);
  done = true;
  changed.notify_all();
}

// Notices that the other thread's round does not come to its end: where a cable is cut, nothing
// answers, and nothing says so either.
void Watchdog::time() {
  auto woke = Clock::now();
  while (sleep(interval)) {
    const auto now = Clock::now();
    std::unique_lock<std::mutex> lock(mutex);
    // This process itself was stopped for a while, as Slurm's suspended jobs are: begin anew.
    if (now - woke > options.limit / 2) lastRound = now;
    woke = now;
    const auto silent = now - lastRound;
    lock.unlock();
    if (silent <= options.limit || done) continue;
    conclude("the store at " + options.host + ":" + std::to_string(options.port) +
             " has not answered for " + std::to_string(secondsOf(silent)) +
             " s: the network between this machine and it is cut, or " + options.storeOwner +
             " hangs");
  }
}

void Watchdog::round(c10d::Store& store) {
  const double before = threadSeconds();
  const auto collective = activity->current();
  store.set(keys.beat(options.rank), std::to_string(++beats) + "\n" +
                                         std::to_string(activity->step) + "\n" +
                                         (collective.running ? "1" : "0") + "\n" + collective.name);
  if (const auto verdict = readVerdict(store, keys)) conclude(verdict->what);
  lookAtNeighbour(store);
  lookAtMainThread(store);
  std::lock_guard<std::mutex> lock(mutex);
  lastRound = Clock::now();
  cost.rounds++;
  cost.cpuSeconds += threadSeconds() - before;
}

void Watchdog::lookAtNeighbour(c10d::Store& store) {
  if (neighbour == options.rank) return;
  std::string beat;
  if (store.check({keys.beat(neighbour)})) beat = store.get_to_str(keys.beat(neighbour));
  const auto now = Clock::now();
  Clock::duration ownSilence;
  {
    std::lock_guard<std::mutex> lock(mutex);
    ownSilence = now - lastRound;
  }
  if (beat == kDone) {
    neighbour = (neighbour + 1) % options.size;
    beat.clear();
  } else if (beat == neighbourBeat && ownSilence < options.limit / 2) {
    const auto silent = now - neighbourChanged;
    if (silent <= options.limit) return;
    accuse(store, keys, neighbour,
           "rank " + std::to_string(neighbour) + " has given no sign of life for " +
               std::to_string(secondsOf(silent)) +
               " s: its process was stopped, its machine is down, or the network to it is cut");
    if (const auto verdict = readVerdict(store, keys)) conclude(verdict->what);
  }
  neighbourBeat = beat;
  neighbourChanged = now;
}

// This process's own main thread may hang although the process lives. It is silent now and then in
// a sound training too, as long as one operator takes: only the training itself tells how long.
void Watchdog::lookAtMainThread(c10d::Store& store) {
  const auto now = Clock::now();
  const auto collective = activity->current();
  const uint64_t made =
      turns.load(std::memory_order_relaxed) + activity->calls.load(std::memory_order_relaxed);
  const int64_t step = activity->step;
  if (firstStep < 0) firstStep = step;
  const auto silence = now - progressed;
  // In a collective it waits for others: they are to blame, or the collective's own timeout.
  if (made != seenTurns || collective.since != seenCollective || collective.running) {
    longestSilence = std::max(longestSilence, silence);
    seenTurns = made;
    seenCollective = collective.since;
    progressed = now;
    return;
  }
  const bool experienced = firstStep >= 0 && step > firstStep;
  const Clock::duration patience =
      experienced ? std::max<Clock::duration>(options.limit, longestSilence * kPatience)
                  : std::max<Clock::duration>(options.limit, options.firstPatience);
  if (silence <= patience) return;
  accuse(store, keys, options.rank,
         "rank " + std::to_string(options.rank) + " hangs: its main thread has done nothing for " +
             std::to_string(secondsOf(silence)) + " s");
  if (const auto verdict = readVerdict(store, keys)) conclude(verdict->what);
}

void Watchdog::sayDone(c10d::Store& store) {
  store.set(keys.beat(options.rank), std::string(kDone));
  if (!options.hostsStore) return;
  // The store ends with this process: the others have to be done with it first.
  const auto end = Clock::now() + kFarewell;
  for (int other = 0; other < options.size && Clock::now() < end;) {
    if (store.check({keys.beat(other)}) && store.get_to_str(keys.beat(other)) == kDone) {
      other++;
    } else {
      std::this_thread::sleep_for(kShortestInterval);
    }
  }
}

void Watchdog::stop() {
  std::unique_lock<std::mutex> lock(mutex);
  stopping = true;
  changed.notify_all();
  const milliseconds patience = options.hostsStore ? kFarewell : milliseconds(1000);
  changed.wait_for(lock, patience, [this] { return done; });
}

Watchdog::Costs Watchdog::costs() {
  std::lock_guard<std::mutex> lock(mutex);
  return cost;
}

std::string Watchdog::place() {
  const auto collective = activity->current();
  return "rank " + std::to_string(options.rank) + " of " + std::to_string(options.size) + ", " +
         placeOf(activity->step, collective.name, collective.running);
}

// The training cannot go on. The main thread hears of it in the collective in which it waits, and
// gets the time to end by itself; one that cannot, or waits elsewhere, is ended from here.
void Watchdog::conclude(const std::string& what) {
  if (concluded.exchange(true)) {
    for (;;) std::this_thread::sleep_for(kLastWords);  // the other thread does it
  }
  const std::string where = place();
  activity->giveUp(what);
  std::this_thread::sleep_for(kLastWords);
  const std::string sentence =
      "error: " + where + ": " + what + ". This process ends; go on from the last checkpoint\n";
  for (size_t at = 0; at < sentence.size();) {
    const ssize_t written = ::write(STDERR_FILENO, sentence.data() + at, sentence.size() - at);
    if (written <= 0) break;
    at += static_cast<size_t>(written);
  }
  ::_exit(kPeerFailed);
}

}  // namespace moco
