// Autograd functions whose backward is JavaScript; see lib/torch/customFunction.ts.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "environment.h"
#include "javascriptThread.h"

namespace moco {

struct CustomCall;

// What an environment knows of its functions. Their nodes share it, as graphs may die in any
// thread, and after the environment.
struct CustomFunctions {
  explicit CustomFunctions(std::shared_ptr<ReleaseQueue> releases)
      : releases(std::move(releases)) {}

  // Whether a backward pass has to leave JavaScript's thread free.
  bool needThread() const {
    return nodesOnDevices.load(std::memory_order_relaxed) > 0 || alwaysElsewhere ||
           thread.isAnswering() || running.size() >= kNestedPasses;
  }

  // Passes within passes that the engine's own thread takes without calling others for help, which
  // could not reach JavaScript: its limit is 60.
  static constexpr size_t kNestedPasses = 32;

  std::shared_ptr<ReleaseQueue> releases;
  JavaScriptThread thread;
  // Nodes that the engine runs in a device's thread. Passes over other graphs take the same way
  // meanwhile, which costs them a thread.
  std::atomic<int64_t> nodesOnDevices{0};
  bool alwaysElsewhere = false;  // for tests on machines without a device
  napi_ref backward = nullptr;   // TypeScript's runBackward
  std::vector<CustomCall*> running;
};

// An error that JavaScript threw in a backward pass, on its way through libtorch.
class JavaScriptFailure : public std::exception {
 public:
  // Takes the exception that is pending in `env`.
  JavaScriptFailure(napi_env env, std::shared_ptr<ReleaseQueue> releases);
  const char* what() const noexcept override { return "JavaScript threw an error in backward"; }
  // Throws the same object again, in JavaScript's thread.
  void throwIn(napi_env env) const;

 private:
  std::shared_ptr<napi_ref> error;  // null where JavaScript was told to end
};

// As `guarded`, for what runs a backward pass: an error that JavaScript threw in it comes out as it
// was.
template <typename Body>
napi_value guardedPass(napi_env env, Body&& body) {
  return guarded(env, [&]() -> napi_value {
    try {
      return body();
    } catch (const JavaScriptFailure& failure) {
      failure.throwIn(env);
      return nullptr;
    }
  });
}

// Runs a backward pass in a callback from JavaScript: where nodes can call JavaScript.
template <typename Pass>
void runBackwardPass(Environment& environment, Pass&& pass) {
  CustomFunctions& functions = *environment.customFunctions;
  if (functions.needThread()) {
    functions.thread.runElsewhere(pass);
  } else {
    pass();
  }
}

}  // namespace moco
