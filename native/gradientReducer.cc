#include "gradientReducer.h"

#include <deque>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace moco {
namespace {

using Clock = Activity::Clock;

constexpr const char* kName = "gradients";
// Small, so that the first all-reduce begins early: the gradients of the last layers come first.
constexpr int64_t kFirstBucketBytes = c10d::kDefaultFirstBucketBytes;
// After so many a new Reducer takes over: a few megabytes of notes for a thousand parameters.
constexpr int64_t kBackwardsOfAReducer = 256;
// Buckets that are on their way while the next is filled.
constexpr size_t kInFlight = 3;

// Starts a bucket's all-reduce, and keeps it so that one that fails can be told from other errors.
class AveragingHook : public c10d::CppCommHookInterface<std::shared_ptr<BucketWork>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    if (state_->works.empty()) {
      state_->since = Clock::now();
      state_->group->activity->begin(kName);
    }
    std::vector<at::Tensor> tensors{bucket.getBufferRef()};
    // Before the sum, which may not fit into float16.
    tensors[0].div_(state_->group->size);
    state_->works.push_back(state_->group->backendFor(tensors[0]).allreduce(tensors));
    state_->sawLast = bucket.isLast();
    return state_->works.back()->getFuture();
  }
};

at::Tensor flat(const at::Tensor& tensor) { return tensor.as_strided({tensor.numel()}, {1}); }

}  // namespace

GradientReducer::GradientReducer(std::shared_ptr<Group> group, std::vector<at::Tensor> parameters,
                                 int64_t bucketBytes)
    : group(std::move(group)),
      parameters(std::move(parameters)),
      bucketBytes(bucketBytes),
      buckets(std::make_shared<BucketWork>()) {
  buckets->group = this->group;
  c10d::verify_params_across_processes(this->group->group, this->parameters, std::nullopt);
  makeReducer();
}

void GradientReducer::makeReducer() {
  if (reducer) reducer->remove_autograd_hooks();
  auto assignment = std::get<0>(c10d::compute_bucket_assignment_by_size(
      this->parameters, {static_cast<size_t>(std::min(kFirstBucketBytes, bucketBytes)),
                         static_cast<size_t>(bucketBytes)}));
  // Backward comes to the last parameters first. The buckets stay as they are: where more than two
  // ranks add up, the sum's rounding depends on a number's place in its bucket, and a run that goes
  // on has to round as one that was not stopped. So the Reducer is never asked to order them by
  // what its first backward saw.
  std::reverse(assignment.begin(), assignment.end());
  reducer = std::make_unique<c10d::Reducer>(
      this->parameters, std::move(assignment), this->group->group,
      std::vector<bool>(this->parameters.size(), false), bucketBytes,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
      std::unordered_map<size_t, std::string>{}, std::min(kFirstBucketBytes, bucketBytes),
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      std::vector<int64_t>{});
  reducer->register_comm_hook(std::make_unique<AveragingHook>(buckets));
}

GradientReducer::~GradientReducer() {
  if (reducer) reducer->remove_autograd_hooks();
}

void GradientReducer::prepare() {
  // A Reducer that does not order its buckets anew keeps noting what each backward saw, for ever.
  if (++backwards % kBackwardsOfAReducer == 0) makeReducer();
  buckets->works.clear();
  buckets->sawLast = false;
  reducer->prepare_for_backward({});
  prepared = true;
}

void GradientReducer::finishBackward() {
  if (!prepared) return;
  prepared = false;
  group->activity->end();
  buckets->works.clear();
  if (buckets->sawLast) return;
  std::vector<int64_t> missing;
  for (size_t i = 0; i < parameters.size(); i++) {
    if (!parameters[i].grad().defined()) missing.push_back(static_cast<int64_t>(i));
  }
  throw std::runtime_error(
      "gradients were not averaged: backward did not reach the parameters numbered " +
      c10::str(c10::IntArrayRef(missing)) + "; leave out those that the loss does not depend on");
}

void GradientReducer::explainBackward() {
  if (!prepared) return;
  prepared = false;
  for (const auto& work : buckets->works) {
    // Gloo tells the future first, which ends backward, and the work itself a moment later: it may
    // not know of its failure yet.
    const auto future = work->getFuture();
    if (!future->completed() || !future->hasError()) continue;
    try {
      std::rethrow_exception(future->exception_ptr());
    } catch (const c10::Error& error) {
      throw group->failure(kName, error.what_without_backtrace(), buckets->since);
    } catch (const std::exception& error) {
      throw group->failure(kName, error.what(), buckets->since);
    }
  }
}

void GradientReducer::average() {
  const at::NoGradGuard noGrad;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  const auto since = Clock::now();
  struct Bucket {
    std::vector<at::Tensor> parts;  // the gradients
    std::vector<at::Tensor> whole;  // one tensor
    c10::intrusive_ptr<c10d::Work> work;
  };
  std::deque<Bucket> inFlight;
  const auto finishOldest = [&] {
    Bucket& bucket = inFlight.front();
    if (bucket.whole[0].is_cpu()) {
      group->wait(kName, *bucket.work, since);
    } else {
      bucket.work->wait();
    }
    int64_t offset = 0;
    for (at::Tensor& part : bucket.parts) {
      flat(part).copy_(bucket.whole[0].narrow(0, offset, part.numel()));
      offset += part.numel();
    }
    inFlight.pop_front();
  };
  group->activity->begin(kName);
  if (!gradients.empty()) {
    const auto assignment = std::get<0>(
        c10d::compute_bucket_assignment_by_size(gradients, {static_cast<size_t>(bucketBytes)}));
    for (const auto& indices : assignment) {
      Bucket bucket;
      std::vector<at::Tensor> pieces;
      for (const size_t index : indices) {
        at::Tensor& gradient = gradients[index];
        if (!gradient.is_non_overlapping_and_dense()) {
          throw std::invalid_argument("a gradient that is not dense in memory cannot be averaged");
        }
        bucket.parts.push_back(gradient);
        pieces.push_back(flat(gradient));
      }
      bucket.whole = {at::cat(pieces).div_(group->size)};
      bucket.work = group->backendFor(bucket.whole[0]).allreduce(bucket.whole);
      inFlight.push_back(std::move(bucket));
      if (inFlight.size() >= kInFlight) finishOldest();
    }
  }
  while (!inFlight.empty()) finishOldest();
  group->activity->end();
}

void finishBackward(Environment& environment) {
  for (const auto& [handle, reducer] : environment.distributed->reducers) reducer->finishBackward();
}

void explainBackward(Environment& environment) {
  for (const auto& [handle, reducer] : environment.distributed->reducers) {
    reducer->explainBackward();
  }
}

namespace {

GradientReducer& reducerAt(napi_env env, napi_value handle) {
  auto& reducers = Distributed::of(env).reducers;
  const auto found = reducers.find(toInt(env, handle));
  if (found == reducers.end()) throw std::invalid_argument("the averager was disposed of");
  return *found->second;
}

// createReducer(group, slots of parameters, bucketBytes) -> reducer
napi_value createReducer(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    Environment& environment = Environment::of(env);
    Distributed& distributed = *environment.distributed;
    std::vector<at::Tensor> parameters;
    for (const int64_t slot : toInts(env, arguments[1])) {
      parameters.push_back(environment.tensorAt(slot));
    }
    const int64_t handle = distributed.next++;
    distributed.reducers.emplace(
        handle, std::make_shared<GradientReducer>(distributed.groupAt(toInt(env, arguments[0])),
                                                  std::move(parameters), toInt(env, arguments[2])));
    return fromInt(env, handle);
  });
}

napi_value prepareReducer(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    reducerAt(env, Arguments<1>(env, info)[0]).prepare();
    return nullptr;
  });
}

napi_value averageGradients(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    reducerAt(env, Arguments<1>(env, info)[0]).average();
    return nullptr;
  });
}

napi_value disposeReducer(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    Distributed::of(env).reducers.erase(toInt(env, Arguments<1>(env, info)[0]));
    return nullptr;
  });
}

}  // namespace

void registerReducer(napi_env env, napi_value exports) {
  define(env, exports, "createReducer", createReducer);
  define(env, exports, "prepareReducer", prepareReducer);
  define(env, exports, "averageGradients", averageGradients);
  define(env, exports, "disposeReducer", disposeReducer);
}

}  // namespace moco
