// A process's place among those that train together: the store through which they find each other
// and the backends that their collectives run on.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <unordered_map>
#include <vector>

#include "activity.h"
#include "collectiveFailure.h"
#include "environment.h"

namespace moco {

class Group {
 public:
  Group(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
        std::chrono::milliseconds timeout, std::shared_ptr<Activity> activity);
  ~Group();

  // Over Gloo, bound to "host:ADDRESS" or "interface:NAME"; blocks until all have connected.
  void connect(const std::string& address, std::chrono::milliseconds patience);
  void useForCuda(const c10::intrusive_ptr<c10d::Backend>& backend);

  c10d::Backend& backendFor(const at::Tensor& tensor);

  using Start = std::function<c10::intrusive_ptr<c10d::Work>()>;
  // Starts a collective and waits for it: on a CPU until it is done, elsewhere the stream waits.
  // Throws CollectiveFailure.
  void run(const char* name, const Start& start);
  void wait(const char* name, c10d::Work& work, Activity::Clock::time_point since);
  // What became of a collective that broke, after asking the others through the store.
  CollectiveFailure failure(const char* name, const std::string& reason,
                            Activity::Clock::time_point since);

  // Ends what is in flight with an error; the group cannot be used afterwards.
  void abort();

  const int rank;
  const int size;
  const std::chrono::milliseconds timeout;
  const c10::intrusive_ptr<c10d::Store> store;
  const std::shared_ptr<Activity> activity;
  const c10::intrusive_ptr<c10d::ProcessGroup> group;

 private:
  bool aborted = false;
  std::function<void()> closeConnections;
};

// What of this an environment holds.
struct Distributed {
  std::unordered_map<int64_t, c10::intrusive_ptr<c10d::Store>> stores;
  std::unordered_map<int64_t, std::shared_ptr<Group>> groups;
  int64_t next = 0;

  static Distributed& of(napi_env env);
  std::shared_ptr<Group> groupAt(int64_t handle);
  c10::intrusive_ptr<c10d::Store> storeAt(int64_t handle);
};

}  // namespace moco
