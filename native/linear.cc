// Linear layers of float32 on the CPU by oneDNN's matrix product in place of MKL's, which libtorch
// takes for them: on an AMD processor MKL has no kernel of its own for AVX-512, and is half as
// fast.
//
// It is aten::linear itself that is overridden, so whatever calls it, and whatever observes it,
// goes on as before. What does not qualify goes libtorch's own way.
#include "linear.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear_native.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>

#include "environment.h"

namespace moco {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// libtorch's choice of kernels is one for the process, and so is this.
std::atomic<bool> enabled{false};
std::atomic<bool> chosen{false};

// Multiplications below which setting up oneDNN's product costs more than it gains.
constexpr int64_t kLeastWork = 1 << 20;
// Rows below which memory is what a layer waits for: MoCo's heads, which have one of an image and
// weights of 4096 columns. oneDNN gains a twentieth of ResNet-50's step there, and takes a tenth
// more memory.
constexpr int64_t kLeastRows = 128;

using Pointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                             c10::string_view, c10::List<std::optional<at::Scalar>>,
                             std::optional<c10::string_view>);

// mkldnn::_linear_pointwise, which takes ordinary tensors; libtorch has it where it has oneDNN.
const std::optional<c10::TypedOperatorHandle<Pointwise>>& oneDnn() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<Pointwise>> {
    const auto handle = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!handle) return std::nullopt;
    return handle->typed<Pointwise>();
  }();
  return found;
}

// x wᵀ + bias, then perhaps an activation ("none", "gelu")
at::Tensor product(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                   c10::string_view activation = "none") {
  return oneDnn()->call(x, w, bias, activation, c10::List<std::optional<at::Scalar>>(), "none");
}

// gᵀ x of g [n, out] and x [n, in]. oneDNN's product takes its first factor row by row, so g is
// turned over first, or else x and then the result: whichever is less to move. Rows that do not lie
// side by side it multiplies one number at a time.
at::Tensor weightGradient(const at::Tensor& g, const at::Tensor& x) {
  const int64_t rows = g.size(0);
  const int64_t out = g.size(1);
  const int64_t in = x.size(1);
  if (rows * out <= rows * in + in * out)
    return product(g.t().contiguous(), x.contiguous().t(), {});
  return product(x.t().contiguous(), g.contiguous().t(), {}).t();
}

class Linear : public torch::autograd::Function<Linear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    // What no gradient needs is not kept.
    context->save_for_backward(
        {weight.requires_grad() ? x : at::Tensor(), x.requires_grad() ? weight : at::Tensor()});
    context->saved_data["bias"] = bias.has_value() && bias->defined();
    return product(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight = saved[1];
    variable_list result(3);
    if (!gradients[0].defined()) return result;
    const at::Tensor g =
        gradients[0].layout() == at::kStrided ? gradients[0] : gradients[0].to_dense();
    const at::Tensor rows = g.reshape({-1, g.size(-1)});
    const bool again = at::GradMode::is_enabled();  // by operators that have a gradient themselves
    // First, as what it turns over is then free for the others.
    if (context->needs_input_grad(1)) {
      const at::Tensor inputs = x.reshape({-1, x.size(-1)});
      result[1] = again ? rows.t().mm(inputs) : weightGradient(rows, inputs);
    }
    if (context->needs_input_grad(0)) {
      result[0] = again ? g.matmul(weight) : product(g, weight.t(), {});
    }
    const bool hasBias = context->saved_data["bias"].toBool();
    if (hasBias && context->needs_input_grad(2)) result[2] = rows.sum(0);
    return result;
  }
};

bool isPlain(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat && t.layout() == at::kStrided && t.is_cpu();
}

// Whether rows or columns are numbers side by side that do not overlap others: oneDNN refuses some
// other strides, and multiplies the rest one number at a time.
bool isMatrix(const at::Tensor& t) {
  return t.is_contiguous() || (t.stride(1) == 1 && t.stride(0) >= t.size(1)) ||
         (t.stride(0) == 1 && t.stride(1) >= t.size(0));
}

bool qualifies(const at::Tensor& x, const at::Tensor& weight,
               const std::optional<at::Tensor>& bias) {
  if (!enabled.load(std::memory_order_relaxed) || !oneDnn()) return false;
  if (!isPlain(x) || !isPlain(weight) || x.dim() < 2 || weight.dim() != 2) return false;
  if (!isMatrix(weight)) return false;
  if (bias.has_value() && bias->defined() &&
      !(isPlain(*bias) && bias->is_contiguous() && bias->dim() == 1 &&
        bias->size(0) == weight.size(0))) {
    return false;
  }
  if (x.size(-1) != weight.size(1) || x.numel() == 0) return false;
  return x.numel() / x.size(-1) >= kLeastRows && x.numel() * weight.size(0) >= kLeastWork;
}

// Below autograd: nothing is recorded there, whatever requires a gradient.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias) {
  if (!qualifies(x, weight, bias)) return at::native::linear(x, weight, bias);
  return product(x, weight, bias);
}

at::Tensor differentiableLinear(const at::Tensor& x, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias) {
  if (!qualifies(x, weight, bias)) return at::native::linear(x, weight, bias);
  const bool isLearned =
      x.requires_grad() || weight.requires_grad() || (bias.has_value() && bias->requires_grad());
  if (isLearned && at::GradMode::is_enabled()) return Linear::apply(x, weight, bias);
  return product(x, weight, bias);
}

// linearGelu(x, weight, bias or -1) -> slot of gelu(x weightᵀ + bias) without a gradient, in one
// pass over memory; -1 where oneDNN is not what multiplies here
napi_value linearGelu(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    Environment& environment = Environment::of(env);
    const at::Tensor& x = environment.tensorAt(toInt(env, arguments[0]));
    const at::Tensor& weight = environment.tensorAt(toInt(env, arguments[1]));
    const int64_t slot = toInt(env, arguments[2]);
    std::optional<at::Tensor> bias;
    if (slot >= 0) bias = environment.tensorAt(slot);
    if (!qualifies(x, weight, bias) || at::autocast::is_autocast_enabled(at::kCPU)) {
      return fromInt(env, -1);
    }
    const at::NoGradGuard guard;
    return fromInt(env, environment.add(product(x, weight, bias, "gelu")));
  });
}

TORCH_LIBRARY_IMPL(aten, CPU, library) { library.impl("linear", linear); }
TORCH_LIBRARY_IMPL(aten, AutogradCPU, library) { library.impl("linear", differentiableLinear); }

}  // namespace

void setOneDnnLinear(bool on) {
  chosen = true;
  enabled = on;
}

void setOneDnnLinearDefault(bool on) {
  if (!chosen.exchange(true)) enabled = on;
}

void registerLinear(napi_env env, napi_value exports) {
  define(env, exports, "linearGelu", linearGelu);
}

}  // namespace moco
