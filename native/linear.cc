// Linear layers of float32 on the CPU by oneDNN's matrix product in place of MKL's, which libtorch
// takes for them: on an AMD processor MKL has no kernel of its own for AVX-512, and is half as fast.
//
// It is aten::linear itself that is overridden, so whatever calls it, and whatever observes it, goes
// on as before. What does not qualify goes libtorch's own way.
#include "linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear_native.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>

namespace moco {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// libtorch's choice of kernels is one for the process, and so is this.
std::atomic<bool> enabled{false};

// Multiplications below which setting up oneDNN's product costs more than it gains.
constexpr int64_t kLeastWork = 1 << 20;

using Pointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                             c10::string_view, c10::List<std::optional<at::Scalar>>,
                             std::optional<c10::string_view>);

// mkldnn::_linear_pointwise, which takes ordinary tensors; libtorch has it where it has oneDNN.
const std::optional<c10::TypedOperatorHandle<Pointwise>>& oneDnn() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<Pointwise>> {
    const auto handle =
        c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!handle) return std::nullopt;
    return handle->typed<Pointwise>();
  }();
  return found;
}

// x wᵀ + bias
at::Tensor product(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias) {
  return oneDnn()->call(x, w, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// gᵀ x of g [n, out] and x [n, in]: oneDNN's product takes its first factor row by row, so one of the
// two is turned first; the narrower, which is sooner done.
at::Tensor weightGradient(const at::Tensor& g, const at::Tensor& x) {
  if (g.size(1) <= x.size(1)) return product(g.t().contiguous(), x.t(), {});
  return product(x.t().contiguous(), g.t(), {}).t();
}

class Linear : public torch::autograd::Function<Linear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value() && bias->defined();
    return product(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight = saved[1];
    const at::Tensor& g = gradients[0];
    if (!g.defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const at::Tensor rows = g.reshape({-1, g.size(-1)});
    const at::Tensor inputs = x.reshape({-1, x.size(-1)});
    // Gradients of gradients need operators that have one.
    const bool again = at::GradMode::is_enabled();
    at::Tensor dx;
    at::Tensor dWeight;
    at::Tensor dBias;
    if (context->needs_input_grad(0)) dx = again ? g.matmul(weight) : product(g, weight.t(), {});
    if (context->needs_input_grad(1)) {
      dWeight = again ? rows.t().mm(inputs) : weightGradient(rows, inputs);
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) dBias = rows.sum(0);
    return {dx, dWeight, dBias};
  }
};

bool isMatrix(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat && t.layout() == at::kStrided && !t.is_mkldnn();
}

bool qualifies(const at::Tensor& x, const at::Tensor& weight,
               const std::optional<at::Tensor>& bias) {
  if (!enabled.load(std::memory_order_relaxed) || !oneDnn()) return false;
  if (x.dim() < 2 || weight.dim() != 2 || x.size(-1) != weight.size(1)) return false;
  if (!isMatrix(x) || !isMatrix(weight) || !weight.is_cpu()) return false;
  if (bias.has_value() && bias->defined() && (!isMatrix(*bias) || bias->dim() != 1 || bias->size(0) != weight.size(0) || !bias->is_contiguous())) return false;
  return x.numel() * weight.size(0) >= kLeastWork;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias) {
  if (!qualifies(x, weight, bias)) return at::native::linear(x, weight, bias);
  if (at::GradMode::is_enabled() &&
      (x.requires_grad() || weight.requires_grad() || (bias.has_value() && bias->requires_grad()))) {
    return Linear::apply(x, weight, bias);
  }
  return product(x, weight, bias);
}

TORCH_LIBRARY_IMPL(aten, CPU, library) { library.impl("linear", linear); }
TORCH_LIBRARY_IMPL(aten, AutogradCPU, library) { library.impl("linear", linear); }

}  // namespace

void setOneDnnLinear(bool on) { enabled = on; }

}  // namespace moco
