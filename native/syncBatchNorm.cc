// Batch normalisation over the batches of all ranks, as one operation of the graph: its forward and
// its backward each have one collective.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "processGroup.h"

namespace moco {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kName = "batch norm";

struct GroupHolder : torch::CustomClassHolder {
  explicit GroupHolder(std::shared_ptr<Group> group) : group(std::move(group)) {}
  std::shared_ptr<Group> group;
};

// What batch normalisation needs of all values of a channel.
struct Statistics {
  at::Tensor mean;
  at::Tensor
      spread;  // on a CPU the variance; on a GPU, as its kernels want it, 1 / sqrt(variance + eps)
  at::Tensor count;  // of values per channel, over all ranks; one element
};

// [channels] as it broadcasts over x
at::Tensor alongChannels(const at::Tensor& values, const at::Tensor& x) {
  std::vector<int64_t> shape(x.dim(), 1);
  shape[1] = -1;
  return values.reshape(shape);
}

at::ScalarType statisticsType(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Each rank's row of `mine` -> [ranks, length]
at::Tensor gather(Group& group, const at::Tensor& mine) {
  at::Tensor from = mine.contiguous();
  at::Tensor all = at::empty({group.size * from.numel()}, from.options());
  group.run(kName, [&] { return group.backendFor(from)._allgather_base(all, from); });
  return all.view({group.size, from.numel()});
}

at::Tensor sum(Group& group, at::Tensor mine) {
  std::vector<at::Tensor> tensors{mine.contiguous()};
  group.run(kName, [&] { return group.backendFor(tensors[0]).allreduce(tensors); });
  return tensors[0];
}

// Counts, means and sums of squares of the parts give those of the whole (Chan, Golub and LeVeque,
// 1979) without the cancellation of E[x^2] - E[x]^2. In float64, in the same order on all ranks.
Statistics gatherOnCpu(Group& group, const at::Tensor& x, const at::Tensor& runningMean,
                       const at::Tensor& runningVar, double momentum) {
  const int64_t channels = x.size(1);
  const int64_t count = x.numel() / std::max<int64_t>(channels, 1);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  at::Tensor mine = at::zeros({2 * channels + 1}, options);
  if (count > 0) {
    const auto [mean, variance] = at::batch_norm_update_stats(x, {}, {}, 0);
    mine.narrow(0, 0, channels).copy_(mean);
    mine.narrow(0, channels, channels).copy_(variance);
    mine[2 * channels].fill_(static_cast<double>(count));
  }
  const at::Tensor all = gather(group, mine);
  const at::Tensor means = all.narrow(1, 0, channels);
  const at::Tensor variances = all.narrow(1, channels, channels);
  const at::Tensor counts = all.narrow(1, 2 * channels, 1);
  const at::Tensor total = counts.sum().reshape({1});
  const double values = total.item<double>();
  if (values < 2) {
    throw std::invalid_argument(
        "training needs several values per channel, and the batches of all ranks have " +
        std::to_string(static_cast<int64_t>(values)));
  }
  const at::Tensor mean = (means * counts).sum(0) / total;
  const at::Tensor squares = ((variances + (means - mean).square()) * counts).sum(0);
  if (runningMean.defined()) {
    at::Tensor(runningMean).mul_(1 - momentum).add_(mean, momentum);
    at::Tensor(runningVar).mul_(1 - momentum).add_(squares / (total - 1), momentum);
  }
  const auto type = statisticsType(x);
  return {mean.to(type), (squares / total).to(type), total};
}

Statistics gatherOnGpu(Group& group, const at::Tensor& x, const at::Tensor& runningMean,
                       const at::Tensor& runningVar, double momentum, double eps) {
  const int64_t channels = x.size(1);
  const auto [mean, invStd] = at::batch_norm_stats(x, eps);
  const at::Tensor count = at::full({1}, x.numel() / channels, mean.options());
  const at::Tensor all = gather(group, at::cat({mean, invStd, count}));
  const at::Tensor counts = all.select(1, 2 * channels).contiguous();
  const auto [wholeMean, wholeInvStd] = at::batch_norm_gather_stats_with_counts(
      x, all.narrow(1, 0, channels).contiguous(), all.narrow(1, channels, channels).contiguous(),
      runningMean, runningVar, momentum, eps, counts);
  return {wholeMean, wholeInvStd, counts.sum().reshape({1})};
}

at::Tensor normalizeOnCpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const Statistics& statistics, double eps) {
  // Evaluation's kernel: it takes the statistics as they are given.
  return std::get<0>(
      at::native_batch_norm(x, weight, bias, statistics.mean, statistics.spread, false, 0, eps));
}

struct Gradients {
  at::Tensor x, weight, bias;
};

Gradients backwardOnCpu(Group& group, const at::Tensor& givenGradient, const at::Tensor& givenX,
                        const at::Tensor& weight, const Statistics& statistics, double eps) {
  const int64_t channels = givenX.size(1);
  const auto type = statisticsType(givenX);
  // Half precision has too few digits for the differences below.
  const at::Tensor x = givenX.to(type), gradient = givenGradient.to(type);
  const at::Tensor invStd = (statistics.spread + eps).rsqrt();
  at::Tensor forX = at::empty_like(x);
  at::Tensor forWeight = at::zeros({channels}, invStd.options());
  at::Tensor forBias = forWeight;
  const at::Tensor scaleBy = weight.defined() ? weight.to(type) : weight;
  if (x.numel() > 0) {
    // Again evaluation's kernel: gradient * scale, and the sums over this rank's gradient * xHat
    // and gradient, where xHat = (x - mean) / std.
    std::tie(forX, forWeight, forBias) =
        at::native_batch_norm_backward(gradient, x, scaleBy, statistics.mean, statistics.spread, {},
                                       {}, false, eps, {true, true, true});
  }
  const at::Tensor sums = sum(group, at::cat({forWeight, forBias}).to(at::kDouble));
  const at::Tensor means = (sums / statistics.count).to(type);
  // x's gradient is scale * (gradient - mean(gradient) - xHat * mean(gradient * xHat)), which is
  // gradient * scale + x * slope + constant.
  const at::Tensor scale = scaleBy.defined() ? invStd * scaleBy : invStd;
  const at::Tensor slope = -scale * invStd * means.narrow(0, 0, channels);
  const at::Tensor constant =
      -scale * means.narrow(0, channels, channels) - slope * statistics.mean;
  forX.addcmul_(x, alongChannels(slope, x)).add_(alongChannels(constant, x));
  return {forX.to(givenX.scalar_type()), forWeight, forBias};
}

Gradients backwardOnGpu(Group& group, const at::Tensor& gradient, const at::Tensor& x,
                        const at::Tensor& weight, const Statistics& statistics) {
  const auto [sumGradient, sumProduct, forWeight, forBias] =
      at::batch_norm_backward_reduce(gradient, x, statistics.mean, statistics.spread, weight, true,
                                     weight.defined(), weight.defined());
  const int64_t channels = x.size(1);
  const at::Tensor sums = sum(group, at::cat({sumGradient, sumProduct}));
  const at::Tensor forX = at::batch_norm_backward_elemt(
      gradient, x, statistics.mean, statistics.spread, weight, sums.narrow(0, 0, channels),
      sums.narrow(0, channels, channels), statistics.count.to(at::kInt));
  return {forX, forWeight, forBias};
}

class SyncBatchNorm : public torch::autograd::Function<SyncBatchNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const std::optional<at::Tensor>& givenWeight,
                            const std::optional<at::Tensor>& givenBias,
                            const at::Tensor& runningMean, const at::Tensor& runningVar,
                            double momentum, double eps,
                            const c10::intrusive_ptr<GroupHolder>& holder) {
    const at::Tensor weight = givenWeight.value_or(at::Tensor());
    const at::Tensor bias = givenBias.value_or(at::Tensor());
    Group& group = *holder->group;
    const at::Tensor x = input.contiguous(input.suggest_memory_format());
    const bool cpu = x.is_cpu();
    const Statistics statistics =
        cpu ? gatherOnCpu(group, x, runningMean, runningVar, momentum)
            : gatherOnGpu(group, x, runningMean, runningVar, momentum, eps);
    context->save_for_backward({x, weight, statistics.mean, statistics.spread, statistics.count});
    context->saved_data["eps"] = eps;
    context->saved_data["group"] = c10::IValue::make_capsule(holder);
    if (x.numel() == 0) return at::empty_like(x);
    return cpu ? normalizeOnCpu(x, weight, bias, statistics, eps)
               : at::batch_norm_elemt(x, weight, bias, statistics.mean, statistics.spread, eps);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    if (at::GradMode::is_enabled()) {
      throw std::invalid_argument("synchronised batch normalisation has no second derivative");
    }
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const Statistics statistics{saved[2], saved[3], saved[4]};
    const auto holder =
        c10::static_intrusive_pointer_cast<GroupHolder>(context->saved_data["group"].toCapsule());
    const at::Tensor gradient = gradients[0].contiguous(x.suggest_memory_format());
    const Gradients result = x.is_cpu()
                                 ? backwardOnCpu(*holder->group, gradient, x, weight, statistics,
                                                 context->saved_data["eps"].toDouble())
                                 : backwardOnGpu(*holder->group, gradient, x, weight, statistics);
    const auto ifAffine = [&](const at::Tensor& tensor) {
      return weight.defined() ? tensor.to(weight.scalar_type()) : at::Tensor();
    };
    return {result.x, ifAffine(result.weight), ifAffine(result.bias), {}, {}, {}, {}, {}};
  }
};

// syncBatchNorm(group, x, weight, bias, runningMean, runningVar, momentum, eps) -> slot; weight and
// bias are -1 where there are none.
napi_value syncBatchNorm(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<8> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto tensor = [&](size_t i) -> at::Tensor& {
      return environment.tensorAt(toInt(env, arguments[i]));
    };
    const auto ifAny = [&](size_t i) {
      return toInt(env, arguments[i]) < 0 ? std::nullopt : std::optional<at::Tensor>(tensor(i));
    };
    const auto holder =
        c10::make_intrusive<GroupHolder>(Distributed::of(env).groupAt(toInt(env, arguments[0])));
    const at::Tensor normalized =
        SyncBatchNorm::apply(tensor(1), ifAny(2), ifAny(3), tensor(4), tensor(5),
                             toDouble(env, arguments[6]), toDouble(env, arguments[7]), holder);
    return fromInt(env, environment.add(normalized));
  });
}

}  // namespace

void registerSyncBatchNorm(napi_env env, napi_value exports) {
  define(env, exports, "syncBatchNorm", syncBatchNorm);
}

}  // namespace moco
