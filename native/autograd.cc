// Automatic differentiation: it has no schema in the dispatcher.
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include "customFunction.h"
#include "environment.h"

namespace moco {
namespace {

// An array of slots as tensors; -1 is an undefined tensor.
std::vector<at::Tensor> tensorsOf(napi_env env, napi_value slots) {
  Environment& environment = Environment::of(env);
  std::vector<at::Tensor> tensors;
  for (const int64_t slot : toInts(env, slots)) {
    tensors.push_back(slot < 0 ? at::Tensor() : environment.tensorAt(slot));
  }
  return tensors;
}

// backward(outputs, gradients, retainGraph, createGraph)
napi_value backward(napi_env env, napi_callback_info info) {
  return guardedPass(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto outputs = tensorsOf(env, arguments[0]);
    const auto gradients = tensorsOf(env, arguments[1]);
    const bool retainGraph = toBool(env, arguments[2]);
    const bool createGraph = toBool(env, arguments[3]);
    try {
      runBackwardPass(environment, [&] {
        torch::autograd::backward(outputs, gradients, retainGraph, createGraph);
      });
    } catch (const CollectiveFailure&) {
      throw;
    } catch (...) {
      explainBackward(environment);
      throw;
    }
    finishBackward(environment);
    return nullptr;
  });
}

// grad(outputs, inputs, gradients, retainGraph, createGraph, allowUnused) -> slots (-1: unused)
napi_value grad(napi_env env, napi_callback_info info) {
  return guardedPass(env, [&]() -> napi_value {
    const Arguments<6> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto outputs = tensorsOf(env, arguments[0]);
    const auto inputs = tensorsOf(env, arguments[1]);
    const auto givenGradients = tensorsOf(env, arguments[2]);
    const bool retainGraph = toBool(env, arguments[3]);
    const bool createGraph = toBool(env, arguments[4]);
    const bool allowUnused = toBool(env, arguments[5]);
    std::vector<at::Tensor> gradients;
    runBackwardPass(environment, [&] {
      gradients = torch::autograd::grad(outputs, inputs, givenGradients, retainGraph, createGraph,
                                        allowUnused);
    });
    std::vector<int64_t> slots;
    for (const at::Tensor& gradient : gradients) slots.push_back(environment.add(gradient));
    return fromInts(env, slots);
  });
}

// gradOf(slot, known) -> slot of the gradient: `known` when that slot already holds it, -1 for
// none.
napi_value gradOf(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment& environment = Environment::of(env);
    const at::Tensor& gradient = environment.tensorAt(toInt(env, arguments[0])).grad();
    const int64_t known = toInt(env, arguments[1]);
    if (!gradient.defined()) return fromInt(env, -1);
    if (known >= 0 && environment.tensorAt(known).is_same(gradient)) return fromInt(env, known);
    return fromInt(env, environment.add(gradient));
  });
}

// setGrad(slot, gradient): -1 removes it.
napi_value setGrad(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment& environment = Environment::of(env);
    const int64_t gradient = toInt(env, arguments[1]);
    environment.tensorAt(toInt(env, arguments[0])).mutable_grad() =
        gradient < 0 ? at::Tensor() : environment.tensorAt(gradient);
    return nullptr;
  });
}

napi_value requiresGrad(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromBool(env, tensor.requires_grad()); });
}

napi_value setRequiresGrad(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment::of(env)
        .tensorAt(toInt(env, arguments[0]))
        .set_requires_grad(toBool(env, arguments[1]));
    return nullptr;
  });
}

napi_value isLeaf(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromBool(env, tensor.is_leaf()); });
}

// gradFn(slot) -> the name of the function that made the tensor, or null.
napi_value gradFn(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const auto& node = Environment::of(env).tensorAt(toInt(env, arguments[0])).grad_fn();
    napi_value null;
    napi_get_null(env, &null);
    return node ? fromString(env, node->name()) : null;
  });
}

// setGradEnabled(flag) -> what it was.
napi_value setGradEnabled(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const bool before = at::GradMode::is_enabled();
    at::GradMode::set_enabled(toBool(env, arguments[0]));
    return fromBool(env, before);
  });
}

napi_value isGradEnabled(napi_env env, napi_callback_info) {
  return fromBool(env, at::GradMode::is_enabled());
}

// pushInferenceMode(flag), popInferenceMode(): a guard that JavaScript opens and closes in pairs.
napi_value pushInferenceMode(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment::of(env).inferenceModes.push_back(
        std::make_unique<c10::InferenceMode>(toBool(env, arguments[0])));
    return nullptr;
  });
}

napi_value popInferenceMode(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    auto& modes = Environment::of(env).inferenceModes;
    if (modes.empty()) throw std::logic_error("no inference mode is open");
    modes.pop_back();
    return nullptr;
  });
}

// setAutocast(deviceType, enabled, dtype) -> [enabled, dtype] before. Entering (enabled from
// outside any autocast) and leaving are counted by enterAutocast/leaveAutocast, as the cache of
// cast weights lives until the outermost one ends.
napi_value setAutocast(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    const auto type = static_cast<c10::DeviceType>(toInt(env, arguments[0]));
    napi_value before;
    napi_create_array_with_length(env, 2, &before);
    napi_set_element(env, before, 0, fromBool(env, at::autocast::is_autocast_enabled(type)));
    napi_set_element(env, before, 1,
                     fromInt(env, static_cast<int64_t>(at::autocast::get_autocast_dtype(type))));
    const auto dtype = static_cast<at::ScalarType>(toInt(env, arguments[2]));
    at::autocast::set_autocast_enabled(type, toBool(env, arguments[1]));
    at::autocast::set_autocast_dtype(type, dtype);
    return before;
  });
}

napi_value enterAutocast(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    at::autocast::increment_nesting();
    return nullptr;
  });
}

napi_value leaveAutocast(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    return nullptr;
  });
}

}  // namespace

void registerAutograd(napi_env env, napi_value exports) {
  define(env, exports, "backward", backward);
  define(env, exports, "grad", grad);
  define(env, exports, "gradOf", gradOf);
  define(env, exports, "setGrad", setGrad);
  define(env, exports, "requiresGrad", requiresGrad);
  define(env, exports, "setRequiresGrad", setRequiresGrad);
  define(env, exports, "isLeaf", isLeaf);
  define(env, exports, "gradFn", gradFn);
  define(env, exports, "setGradEnabled", setGradEnabled);
  define(env, exports, "isGradEnabled", isGradEnabled);
  define(env, exports, "pushInferenceMode", pushInferenceMode);
  define(env, exports, "popInferenceMode", popInferenceMode);
  define(env, exports, "setAutocast", setAutocast);
  define(env, exports, "enterAutocast", enterAutocast);
  define(env, exports, "leaveAutocast", leaveAutocast);
}

}  // namespace moco
