#include "processGroup.h"

#include <condition_variable>
#include <set>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace moco {
namespace {

using Clock = Activity::Clock;
using c10d::ProcessGroupGloo;

// How long those that saw a collective break wait to hear from the others, so that the error can
// name who is silent; and how much longer the store may take to answer.
constexpr auto kRollCall = std::chrono::seconds(3);
constexpr auto kStorePatience = std::chrono::seconds(2);
// How often a wait looks whether a watching thread has given up.
constexpr auto kSlice = std::chrono::milliseconds(200);

// libtorch can wait for Gloo's operations to end, but not end them. Their connections are a
// protected member, of which a derived class may take the address.
struct Connections : ProcessGroupGloo {
  static auto member() { return &Connections::contexts_; }
};

// The ranks that told through the store that they saw a collective break.
struct RollCall {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  bool storeLost = false;
  std::set<int> answered;
};

void callRoll(RollCall& roll, c10d::Store& store, int rank, int size, const std::string& what) {
  bool lost = false;
  std::set<int> answered;
  try {
    store.set("failed/" + std::to_string(rank), what);
    const auto end = Clock::now() + kRollCall;
    while (static_cast<int>(answered.size()) < size && Clock::now() < end) {
      for (int other = 0; other < size; other++) {
        if (store.check({"failed/" + std::to_string(other)})) answered.insert(other);
      }
      if (static_cast<int>(answered.size()) < size) std::this_thread::sleep_for(kSlice / 4);
    }
  } catch (const std::exception&) {
    lost = true;
  }
  std::lock_guard<std::mutex> lock(roll.mutex);
  roll.storeLost = lost;
  roll.answered = std::move(answered);
  roll.done = true;
  roll.changed.notify_all();
}

}  // namespace

Group::Group(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
             std::chrono::milliseconds timeout, std::shared_ptr<Activity> activity)
    : rank(rank),
      size(size),
      timeout(timeout),
      store(std::move(store)),
      activity(std::move(activity)),
      group(c10::make_intrusive<c10d::ProcessGroup>(this->store, rank, size)) {}

Group::~Group() { abort(); }

void Group::connect(const std::string& address, std::chrono::milliseconds patience) {
  auto options = ProcessGroupGloo::Options::create(patience);
  const size_t colon = address.find(':');
  const std::string name = address.substr(colon + 1);
  options->devices.push_back(address.substr(0, colon) == "interface"
                                 ? ProcessGroupGloo::createDeviceForInterface(name)
                                 : ProcessGroupGloo::createDeviceForHostname(name));
  const auto gloo = c10::make_intrusive<ProcessGroupGloo>(store, rank, size, options);
  gloo->setTimeout(timeout);
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  closeConnections = [raw = gloo.get()] {
    for (const auto& context : raw->*Connections::member()) context->closeConnections();
  };
}

void Group::useForCuda(const c10::intrusive_ptr<c10d::Backend>& backend) {
  group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
}

c10d::Backend& Group::backendFor(const at::Tensor& tensor) {
  if (aborted) throw std::runtime_error("the process group is closed");
  return *group->getBackend(tensor.device().type());
}

void Group::run(const char* name, const Start& start) {
  const auto since = Clock::now();
  activity->begin(name);
  c10::intrusive_ptr<c10d::Work> work;
  try {
    work = start();
  } catch (const c10::DistError& error) {
    throw failure(name, error.what_without_backtrace(), since);
  }
  wait(name, *work, since);
  activity->end();
}

void Group::wait(const char* name, c10d::Work& work, Clock::time_point since) {
  for (;;) {
    try {
      work.wait(kSlice);
      return;
    } catch (const std::exception& error) {
      if (work.isCompleted()) {
        const auto* torchError = dynamic_cast<const c10::Error*>(&error);
        throw failure(name, torchError ? torchError->what_without_backtrace() : error.what(),
                      since);
      }
      // Only the slice is over.
      if (activity->hopeless) throw failure(name, activity->reason(), since);
    }
  }
}

CollectiveFailure Group::failure(const char* name, const std::string& reason,
                                 Clock::time_point since) {
  CollectiveFailure failure(reason);
  failure.rank = rank;
  failure.size = size;
  failure.step = activity->step;
  failure.collective = name;
  failure.seconds = std::chrono::duration<double>(Clock::now() - since).count();
  failure.timedOut = Clock::now() - since >= timeout;
  // Peers that wait for this process see their connections close, and need not wait any longer.
  abort();
  auto roll = std::make_shared<RollCall>();
  // A thread, as a store whose process is stopped never answers.
  std::thread([roll, store = store, rank = rank, size = size,
               what = failure.collective + " at step " + std::to_string(failure.step)] {
    callRoll(*roll, *store, rank, size, what);
  }).detach();
  std::unique_lock<std::mutex> lock(roll->mutex);
  roll->changed.wait_for(lock, kRollCall + kStorePatience, [&] { return roll->done; });
  failure.storeLost = !roll->done || roll->storeLost;
  for (int other = 0; other < size && !failure.storeLost; other++) {
    if (roll->answered.count(other) == 0) failure.silent.push_back(other);
  }
  return failure;
}

void Group::abort() {
  if (aborted) return;
  aborted = true;
  if (closeConnections) closeConnections();
}

}  // namespace moco
