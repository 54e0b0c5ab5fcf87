// Everything the addon knows lives here, one instance per Node-API environment (main thread and
// every worker thread), never in C++ globals.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/Stream.h>
#include <napi.h>

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "activity.h"
#include "collectiveFailure.h"

namespace moco {

struct CustomFunctions;
struct Distributed;

// JavaScript memory that a tensor borrows is given back on the JavaScript thread only; the
// tensor's deleter may run on any thread, so it queues the reference here.
struct ReleaseQueue {
  std::mutex mutex;
  std::vector<napi_ref> pending;
};

struct Operator {
  c10::OperatorHandle handle;
  // For each return: the index of the argument it is (in-place and out= variants), or -1.
  std::vector<int> aliasOf{};
  // Whether it returns one tensor and nothing else.
  bool returnsOne = false;
  // Layers of the dispatcher that a call without gradients need not pass.
  std::optional<c10::DispatchKeySet> layers{};
};

class Environment {
 public:
  static Environment& of(napi_env env);

  // Puts a tensor into the table; undefined tensors have the slot -1.
  int add(at::Tensor tensor);
  // Throws std::invalid_argument when the slot is not live.
  at::Tensor& tensorAt(int64_t slot);
  void release(int64_t slot);
  size_t liveTensors() const { return tensors.size() - freeSlots.size(); }
  void drainReleases(napi_env env);

  std::vector<at::Tensor> tensors;
  std::vector<int> freeSlots;
  std::vector<at::Generator> generators;
  // A deque, as a call holds on to its operator while JavaScript inside it may resolve others.
  std::deque<Operator> operators;
  std::unordered_map<std::string, int> operatorIds;
  std::vector<std::unique_ptr<c10::InferenceMode>> inferenceModes;
  std::vector<c10::Stream> streams;
  std::unordered_map<int64_t, c10::Event> events;
  int64_t nextEvent = 0;
  std::shared_ptr<ReleaseQueue> releases = std::make_shared<ReleaseQueue>();

  // Autograd functions in JavaScript; see customFunction.h.
  std::shared_ptr<CustomFunctions> customFunctions;

  // Process groups and what belongs to them, and what they do; see processGroup.h.
  std::shared_ptr<Distributed> distributed;
  std::shared_ptr<Activity> activity = std::make_shared<Activity>();
  napi_ref collectiveError = nullptr;  // makes JavaScript's error of a CollectiveFailure

  // Arguments of a call, written by JavaScript: a tag and its payload for each argument.
  double* arguments = nullptr;
  size_t argumentCapacity = 0;
  napi_ref argumentBuffer = nullptr;
  c10::Stack stack;
};

// Leaves the JavaScript error that `makeError` of setCollectiveError makes of it pending.
void throwCollectiveFailure(napi_env env, const CollectiveFailure& failure);

// Runs `body`, turning every C++ exception into a pending JavaScript error: one that escapes
// would end the process.
template <typename Body>
napi_value guarded(napi_env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (const CollectiveFailure& failure) {
    throwCollectiveFailure(env, failure);
  } catch (const c10::Error& error) {
    napi_throw_error(env, nullptr, error.what_without_backtrace());
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  } catch (...) {
    napi_throw_error(env, nullptr, "an unknown C++ exception");
  }
  return nullptr;
}

// Defines a property of `exports` as a plain Node-API function.
void define(napi_env env, napi_value exports, const char* name, napi_callback callback);

// The callback's arguments; missing ones are JavaScript's undefined.
template <size_t N>
struct Arguments {
  napi_value values[N == 0 ? 1 : N];
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = N;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  napi_value operator[](size_t i) const { return values[i]; }
};

int64_t toInt(napi_env env, napi_value value);
double toDouble(napi_env env, napi_value value);
bool toBool(napi_env env, napi_value value);
std::string toString(napi_env env, napi_value value);
bool isNullish(napi_env env, napi_value value);
std::vector<int64_t> toInts(napi_env env, napi_value array);

napi_value fromInt(napi_env env, int64_t value);
napi_value fromDouble(napi_env env, double value);
napi_value fromBool(napi_env env, bool value);
napi_value fromString(napi_env env, const std::string& value);
napi_value fromInts(napi_env env, c10::IntArrayRef values);
napi_value fromScalar(napi_env env, const c10::Scalar& value);

// Answers what `read` makes of the tensor whose slot is the first argument.
template <typename Read>
napi_value onTensor(napi_env env, napi_callback_info info, Read&& read) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    return read(Environment::of(env).tensorAt(toInt(env, arguments[0])));
  });
}

// Once in the process: the memory of small tensors is kept for the next ones.
void keepSmallBlocks();

void registerDispatch(napi_env env, napi_value exports);
void registerTensor(napi_env env, napi_value exports);
void registerAutograd(napi_env env, napi_value exports);
void registerCustomFunction(napi_env env, napi_value exports);
void registerRuntime(napi_env env, napi_value exports);
void registerStream(napi_env env, napi_value exports);
void registerFileRead(napi_env env, napi_value exports);
void registerImage(napi_env env, napi_value exports);
void registerDistributed(napi_env env, napi_value exports);
void registerWatchdog(napi_env env, napi_value exports);
void registerReducer(napi_env env, napi_value exports);
void registerSyncBatchNorm(napi_env env, napi_value exports);

// After a backward: throws where gradients that were to be averaged meanwhile were not.
void finishBackward(Environment& environment);
// After a backward that threw: throws CollectiveFailure where a collective of it was the reason.
void explainBackward(Environment& environment);

}  // namespace moco
