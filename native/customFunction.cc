#include "customFunction.h"

#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <mutex>
#include <sstream>
#include <stdexcept>

namespace moco {

using torch::autograd::Edge;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using torch::autograd::VariableInfo;

namespace {

// A reference that is given back in JavaScript's thread, wherever its last holder dies.
std::shared_ptr<napi_ref> makeReference(napi_env env, napi_value value,
                                        std::shared_ptr<ReleaseQueue> releases) {
  napi_ref reference = nullptr;
  if (napi_create_reference(env, value, 1, &reference) != napi_ok) {
    throw std::runtime_error("JavaScript gave no reference");
  }
  return {new napi_ref(reference), [releases = std::move(releases)](napi_ref* held) {
            {
              const std::lock_guard<std::mutex> lock(releases->mutex);
              releases->pending.push_back(*held);
            }
            delete held;
          }};
}

std::string describe(c10::ScalarType type, const std::string& shape, const c10::Device& device) {
  std::ostringstream text;
  text << type << shape << " on " << device;
  return text.str();
}

std::string describe(const at::Tensor& tensor) {
  return describe(tensor.scalar_type(), c10::str(tensor.sizes()), tensor.device());
}

class CustomNode;

}  // namespace

// A backward that is running in JavaScript.
struct CustomCall {
  CustomNode& node;
  variable_list results;
  bool given = false;
};

namespace {

class CustomNode : public torch::autograd::Node {
 public:
  CustomNode(napi_env env, std::shared_ptr<CustomFunctions> functions, std::string function,
             napi_value context)
      : functions(std::move(functions)),
        env(env),
        function(std::move(function)),
        context(makeReference(env, context, this->functions->releases)) {}

  ~CustomNode() override {
    if (onDevice) functions->nodesOnDevices--;
  }

  std::string name() const override { return function + "Backward"; }

  // Once the outputs are known.
  void begin(const variable_list& outputs, const variable_list& toSave, bool fillIn) {
    fillsIn = fillIn;
    for (const at::Tensor& output : outputs) outputInfo.emplace_back(output);
    for (const at::Tensor& tensor : toSave) {
      // An output holds this node, so the node may not hold the output itself.
      saved.emplace_back(tensor, tensor.defined() && tensor.grad_fn().get() == this);
    }
    const auto device = this->device().type();
    onDevice = device != c10::kCPU && device != c10::kMeta;
    if (onDevice) functions->nodesOnDevices++;
  }

  variable_list apply(variable_list&& gradients) override {
    // Only this thread knows which pass it is in.
    std::vector<bool> needed(num_outputs());
    for (size_t i = 0; i < needed.size(); i++) needed[i] = task_should_compute_output(i);
    variable_list results;
    functions->thread.run([&] { results = callJavaScript(gradients, needed); });
    return results;
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    saved.clear();
    released = true;
  }

  variable_list unpackSaved() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (released) throw std::runtime_error(torch::autograd::ERR_BACKWARD_TWICE);
    variable_list tensors;
    for (const SavedVariable& each : saved) tensors.push_back(each.unpack(shared_from_this()));
    return tensors;
  }

  // What JavaScript gave for each input, -1 for nothing; throws where it cannot be a gradient.
  // Shapes that the input's expands to are summed and number types are cast by the engine.
  variable_list checked(Environment& environment, const std::vector<int64_t>& slots) const {
    variable_list results(num_outputs());
    for (size_t i = 0; i < results.size(); i++) {
      const Edge& edge = next_edge(i);
      if (slots.at(i) < 0 || !edge.is_valid()) continue;
      const at::Tensor& gradient = environment.tensorAt(slots[i]);
      const auto& input = edge.function->input_metadata(edge.input_nr);
      const auto type = c10::typeMetaToScalarType(input.dtype());
      std::string advice;
      if (!input.is_expandable_to_shape(gradient)) {
        advice = "give it the input's shape";
      } else if (c10::isComplexType(type) != c10::isComplexType(gradient.scalar_type()) ||
                 !torch::autograd::isDifferentiableType(gradient.scalar_type())) {
        advice = "give it the input's dtype with to()";
      } else if (gradient.device() != input.device() && gradient.dim() > 0) {
        advice = "move it to the input's device with to()";
      } else {
        results[i] = gradient;
        continue;
      }
      throw std::invalid_argument(
          "backward gave " + describe(gradient) + " as the gradient of input " + std::to_string(i) +
          ", which is " +
          describe(type, c10::str(C10_AS_INTARRAYREF_SLOW(input.shape_as_dim_vector())),
                   input.device()) +
          "; " + advice);
    }
    return results;
  }

 private:
  // In JavaScript's thread.
  variable_list callJavaScript(variable_list& gradients, const std::vector<bool>& needed) {
    Environment& environment = Environment::of(env);
    const HandleScope handles(env);
    // Of an operator that called the engine: its arguments lie there.
    const OuterStack stack(environment.stack);
    CustomCall call{*this, {}};
    const Running running(functions->running, call);

    napi_value arguments[4];
    napi_value backward;
    napi_value receiver;
    napi_get_undefined(env, &receiver);
    napi_get_reference_value(env, functions->backward, &backward);
    napi_get_reference_value(env, *context, &arguments[0]);
    arguments[1] = fromInt(env, static_cast<int64_t>(functions->running.size()) - 1);
    std::vector<int64_t> slots;
    {
      at::OptionalDeviceGuard device;
      for (size_t i = 0; i < gradients.size(); i++) {
        slots.push_back(environment.add(gradients[i].defined() || !fillsIn
                                            ? std::move(gradients[i])
                                            : outputInfo.at(i).zeros(device)));
      }
    }
    arguments[2] = fromInts(env, slots);
    napi_create_array_with_length(env, needed.size(), &arguments[3]);
    for (size_t i = 0; i < needed.size(); i++) {
      napi_set_element(env, arguments[3], static_cast<uint32_t>(i), fromBool(env, needed[i]));
    }
    napi_value nothing;
    if (napi_call_function(env, receiver, backward, 4, arguments, &nothing) != napi_ok) {
      throw JavaScriptFailure(env, functions->releases);
    }
    if (!call.given) throw std::logic_error(name() + " gave no gradients");
    return std::move(call.results);
  }

  struct HandleScope {
    napi_env env;
    napi_handle_scope scope = nullptr;
    explicit HandleScope(napi_env env) : env(env) { napi_open_handle_scope(env, &scope); }
    ~HandleScope() { napi_close_handle_scope(env, scope); }
  };

  struct OuterStack {
    c10::Stack& stack;
    c10::Stack outer;
    explicit OuterStack(c10::Stack& stack) : stack(stack) { stack.swap(outer); }
    ~OuterStack() { stack.swap(outer); }
  };

  struct Running {
    std::vector<CustomCall*>& calls;
    Running(std::vector<CustomCall*>& calls, CustomCall& call) : calls(calls) {
      calls.push_back(&call);
    }
    ~Running() { calls.pop_back(); }
  };

  const std::shared_ptr<CustomFunctions> functions;
  const napi_env env;
  const std::string function;
  const std::shared_ptr<napi_ref> context;
  std::vector<VariableInfo> outputInfo;
  std::vector<SavedVariable> saved;
  bool released = false;
  bool fillsIn = true;
  bool onDevice = false;
};

}  // namespace

JavaScriptFailure::JavaScriptFailure(napi_env env, std::shared_ptr<ReleaseQueue> releases) {
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) != napi_ok || thrown == nullptr) return;
  napi_value holder;  // as not every value can be referred to, and anything can be thrown
  napi_create_array_with_length(env, 1, &holder);
  napi_set_element(env, holder, 0, thrown);
  error = makeReference(env, holder, std::move(releases));
}

void JavaScriptFailure::throwIn(napi_env env) const {
  napi_value holder = nullptr;
  napi_value thrown = nullptr;
  if (error && napi_get_reference_value(env, *error, &holder) == napi_ok && holder != nullptr &&
      napi_get_element(env, holder, 0, &thrown) == napi_ok) {
    napi_throw(env, thrown);
  } else {
    napi_throw_error(env, nullptr, what());
  }
}

namespace {

// Slots as tensors; -1 is an undefined one.
variable_list tensorsAt(Environment& environment, const std::vector<int64_t>& slots) {
  variable_list tensors;
  for (const int64_t slot : slots) {
    tensors.push_back(slot < 0 ? at::Tensor() : environment.tensorAt(slot));
  }
  return tensors;
}

// differentiableInputs(slots) -> for each input that a gradient is asked for its version (it goes
// up with each change in place), -1 for others; null where nothing is recorded.
napi_value differentiableInputs(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    napi_value nothing;
    napi_get_null(env, &nothing);
    if (!at::GradMode::is_enabled()) return nothing;
    bool any = false;
    std::vector<int64_t> versions;
    for (const at::Tensor& tensor : tensorsAt(Environment::of(env), toInts(env, arguments[0]))) {
      const bool needed = tensor.defined() && tensor.requires_grad();
      any = any || needed;
      versions.push_back(needed ? static_cast<int64_t>(tensor._version()) : -1);
    }
    return any ? fromInts(env, versions) : nothing;
  });
}

// recordFunction(name, context, inputs, versions, outputs, saved, nonDifferentiable, fillIn) -> for
// each output the slot of the tensor that takes its place (where it was an input), or -1. From now
// on the outputs have a node, which calls the callback of setCustomBackward with `context`.
napi_value recordFunction(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<8> arguments(env, info);
    Environment& environment = Environment::of(env);
    environment.drainReleases(env);  // a loop of functions may end no scope
    const variable_list inputs = tensorsAt(environment, toInts(env, arguments[2]));
    const std::vector<int64_t> versions = toInts(env, arguments[3]);
    const variable_list outputs = tensorsAt(environment, toInts(env, arguments[4]));
    const variable_list saved = tensorsAt(environment, toInts(env, arguments[5]));
    std::unordered_set<at::TensorImpl*> nonDifferentiable;
    for (const at::Tensor& tensor : tensorsAt(environment, toInts(env, arguments[6]))) {
      nonDifferentiable.insert(tensor.unsafeGetTensorImpl());
    }
    // An input, or a view of what an input is or views, which needs a gradient because that does.
    const auto isOfInput = [&](const at::Tensor& tensor) {
      const bool isView = tensor.is_view() && !tensor.grad_fn();
      return std::any_of(inputs.begin(), inputs.end(), [&](const at::Tensor& each) {
        return each.is_same(tensor) ||
               (isView && each.defined() &&
                tensor._base().is_same(each.is_view() ? each._base() : each));
      });
    };
    for (size_t i = 0; i < inputs.size(); i++) {
      if (versions.at(i) >= 0 && static_cast<int64_t>(inputs[i]._version()) != versions[i]) {
        throw std::invalid_argument("forward changed input " + std::to_string(i) +
                                    " in place, and a gradient is asked for it; change a clone()");
      }
    }
    for (size_t i = 0; i < outputs.size(); i++) {
      if (outputs[i].requires_grad() && !isOfInput(outputs[i])) {
        throw std::invalid_argument("output " + std::to_string(i) +
                                    " belongs to another graph; give detach() of it, or make it an "
                                    "input of the function");
      }
    }

    const std::shared_ptr<CustomNode> node(
        new CustomNode(env, environment.customFunctions, toString(env, arguments[0]), arguments[1]),
        torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(inputs));
    variable_list given;
    for (const at::Tensor& input : inputs) {
      if (input.defined()) given.push_back(input);
    }
    const auto noForwardMode = [](const variable_list&, const variable_list&) -> variable_list {
      throw std::runtime_error("functions in JavaScript have no forward-mode derivative");
    };
    const auto wrapped = torch::autograd::_wrap_outputs(
        given, nonDifferentiable, {},
        std::vector<std::optional<at::Tensor>>(outputs.begin(), outputs.end()), node, noForwardMode,
        {}, [](const at::Tensor& tensor) { return tensor.view_as(tensor); }, false);
    variable_list results;
    std::vector<int64_t> slots;
    for (size_t i = 0; i < outputs.size(); i++) {
      results.push_back(*wrapped[i]);
      slots.push_back(results[i].is_same(outputs[i]) ? -1 : environment.add(results[i]));
    }
    node->begin(results, saved, toBool(env, arguments[7]));
    return fromInts(env, slots);
  });
}

CustomCall& callAt(napi_env env, napi_value handle) {
  return *Environment::of(env).customFunctions->running.at(static_cast<size_t>(toInt(env, handle)));
}

// savedTensors(call) -> slots of what recordFunction was given to save
napi_value savedTensors(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    std::vector<int64_t> slots;
    for (at::Tensor& tensor : callAt(env, arguments[0]).node.unpackSaved()) {
      slots.push_back(Environment::of(env).add(std::move(tensor)));
    }
    return fromInts(env, slots);
  });
}

// giveGradients(call, slots): the gradient of each input, -1 for none
napi_value giveGradients(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    CustomCall& call = callAt(env, arguments[0]);
    call.results = call.node.checked(Environment::of(env), toInts(env, arguments[1]));
    call.given = true;
    return nullptr;
  });
}

// setCustomBackward(callback): (context, call, slots of the outputs' gradients, for each input
// whether its gradient is asked for) => void, which calls giveGradients
napi_value setCustomBackward(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    napi_ref& backward = Environment::of(env).customFunctions->backward;
    if (backward != nullptr) napi_delete_reference(env, backward);
    napi_create_reference(env, arguments[0], 1, &backward);
    return nullptr;
  });
}

// runBackwardElsewhere(always) -> what it was. For tests: every backward pass in another thread.
napi_value runBackwardElsewhere(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    bool& always = Environment::of(env).customFunctions->alwaysElsewhere;
    const bool before = always;
    always = toBool(env, arguments[0]);
    return fromBool(env, before);
  });
}

}  // namespace

void registerCustomFunction(napi_env env, napi_value exports) {
  Environment& environment = Environment::of(env);
  environment.customFunctions = std::make_shared<CustomFunctions>(environment.releases);
  define(env, exports, "differentiableInputs", differentiableInputs);
  define(env, exports, "recordFunction", recordFunction);
  define(env, exports, "savedTensors", savedTensors);
  define(env, exports, "giveGradients", giveGradients);
  define(env, exports, "setCustomBackward", setCustomBackward);
  define(env, exports, "runBackwardElsewhere", runBackwardElsewhere);
}

}  // namespace moco
