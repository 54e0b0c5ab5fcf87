// Stores, process groups and their collectives for JavaScript.
#include <c10/util/Logging.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "backendFactory.h"
#include "processGroup.h"
#include "promise.h"

namespace moco {

Distributed& Distributed::of(napi_env env) { return *Environment::of(env).distributed; }

std::shared_ptr<Group> Distributed::groupAt(int64_t handle) {
  const auto found = groups.find(handle);
  if (found == groups.end()) throw std::invalid_argument("the process group is closed");
  return found->second;
}

c10::intrusive_ptr<c10d::Store> Distributed::storeAt(int64_t handle) {
  const auto found = stores.find(handle);
  if (found == stores.end()) throw std::invalid_argument("the store is closed");
  return found->second;
}

namespace {

using Milliseconds = std::chrono::milliseconds;

// --- Stores ----------------------------------------------------------------------------------

// openStore(host, port, serve, timeoutMs) -> promise of [store, port]. Port 0: any that is free.
napi_value openStore(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    const std::string host = toString(env, arguments[0]);
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(toInt(env, arguments[1]));
    options.isServer = toBool(env, arguments[2]);
    options.timeout = Milliseconds(toInt(env, arguments[3]));
    options.waitWorkers = false;
    auto store = std::make_shared<c10::intrusive_ptr<c10d::TCPStore>>();
    return promise(
        env, "moco rendezvous",
        [=] { *store = c10::make_intrusive<c10d::TCPStore>(host, options); },
        [=](napi_env env) {
          Distributed& distributed = Distributed::of(env);
          const int64_t handle = distributed.next++;
          distributed.stores.emplace(handle, *store);
          return fromInts(env, {handle, (*store)->getPort()});
        });
  });
}

// prefixStore(store, prefix) -> store whose keys begin with the prefix
napi_value prefixStore(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Distributed& distributed = Distributed::of(env);
    const auto store = distributed.storeAt(toInt(env, arguments[0]));
    const int64_t handle = distributed.next++;
    distributed.stores.emplace(
        handle, c10::make_intrusive<c10d::PrefixStore>(toString(env, arguments[1]), store));
    return fromInt(env, handle);
  });
}

napi_value closeStore(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Distributed::of(env).stores.erase(toInt(env, arguments[0]));
    return nullptr;
  });
}

template <typename Body>
napi_value onStore(napi_env env, napi_callback_info info, Body&& body) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    const auto store = Distributed::of(env).storeAt(toInt(env, arguments[0]));
    return body(*store, toString(env, arguments[1]), arguments[2]);
  });
}

napi_value storeSet(napi_env env, napi_callback_info info) {
  return onStore(env, info,
                 [&](c10d::Store& store, const std::string& key, napi_value value) -> napi_value {
                   store.set(key, toString(env, value));
                   return nullptr;
                 });
}

// storeGet(store, key) -> the value, or null where there is none; does not wait for one.
napi_value storeGet(napi_env env, napi_callback_info info) {
  return onStore(env, info, [&](c10d::Store& store, const std::string& key, napi_value) {
    if (store.check({key})) return fromString(env, store.get_to_str(key));
    napi_value null;
    napi_get_null(env, &null);
    return null;
  });
}

// storeAdd(store, key, amount) -> the sum
napi_value storeAdd(napi_env env, napi_callback_info info) {
  return onStore(env, info, [&](c10d::Store& store, const std::string& key, napi_value amount) {
    return fromInt(env, store.add(key, toInt(env, amount)));
  });
}

// storeDelete(store, key) -> whether it was there
napi_value storeDelete(napi_env env, napi_callback_info info) {
  return onStore(env, info, [&](c10d::Store& store, const std::string& key, napi_value) {
    return fromBool(env, store.deleteKey(key));
  });
}

// --- Process groups --------------------------------------------------------------------------

BackendFactory toFactory(napi_env env, napi_value value) {
  if (isNullish(env, value)) return nullptr;
  bool ours = false;
  void* factory = nullptr;
  if (napi_check_object_type_tag(env, value, &kBackendFactoryTag, &ours) != napi_ok || !ours ||
      napi_get_value_external(env, value, &factory) != napi_ok) {
    throw std::invalid_argument("expected a backend that an addon of this package made");
  }
  return reinterpret_cast<BackendFactory>(factory);
}

// createGroup(store, rank, size, connectTimeoutMs, timeoutMs, address, factory) -> promise of a
// group, once all ranks have connected. `address`: "host:ADDRESS" or "interface:NAME" to bind to.
// `factory`: makes the backend for CUDA's tensors; null: none.
napi_value createGroup(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<7> arguments(env, info);
    const Milliseconds patience(toInt(env, arguments[3]));
    const auto timeout = toInt(env, arguments[4]);
    const auto group = std::make_shared<Group>(
        Distributed::of(env).storeAt(toInt(env, arguments[0])),
        static_cast<int>(toInt(env, arguments[1])), static_cast<int>(toInt(env, arguments[2])),
        Milliseconds(timeout), Environment::of(env).activity);
    const std::string address = toString(env, arguments[5]);
    const BackendFactory factory = toFactory(env, arguments[6]);
    return promise(
        env, "moco rendezvous",
        [=] {
          group->connect(address, patience);
          if (factory == nullptr) return;
          const auto store = c10::make_intrusive<c10d::PrefixStore>("cuda", group->store);
          group->useForCuda(factory(store, group->rank, group->size, timeout));
        },
        [=](napi_env env) {
          Distributed& distributed = Distributed::of(env);
          const int64_t handle = distributed.next++;
          distributed.groups.emplace(handle, group);
          return fromInt(env, handle);
        });
  });
}

napi_value closeGroup(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Distributed::of(env).groups.erase(toInt(env, arguments[0]));
    return nullptr;
  });
}

// What Gloo and NCCL can carry whatever its type is: the bytes of a tensor that is dense in memory.
at::Tensor bytesOf(const at::Tensor& tensor) {
  return tensor.detach().reshape({-1}).view(at::kByte);
}

c10d::ReduceOp toReduction(const std::string& name) {
  if (name == "sum") return c10d::ReduceOp::SUM;
  if (name == "max") return c10d::ReduceOp::MAX;
  if (name == "min") return c10d::ReduceOp::MIN;
  throw std::invalid_argument("unknown reduction " + name);
}

// Throws where the tensors of the ranks differ in type or shape, of which Gloo and NCCL make
// nonsense or a hang. Costs a small collective between CPUs.
void requireSame(Group& group, const std::string& name, const at::Tensor& tensor) {
  constexpr int64_t kFacts = 10;  // type, dimensions, the first of their lengths
  at::Tensor mine = at::zeros({kFacts}, at::kLong);
  auto* facts = mine.data_ptr<int64_t>();
  facts[0] = static_cast<int64_t>(tensor.scalar_type());
  facts[1] = tensor.dim();
  for (int64_t i = 0; i < std::min<int64_t>(tensor.dim(), kFacts - 2); i++) {
    facts[2 + i] = tensor.size(i);
  }
  at::Tensor run = at::empty({group.size * kFacts}, at::kLong);
  group.run(name.c_str(), [&] { return group.backendFor(mine)._allgather_base(run, mine); });
  const at::Tensor all = run.view({group.size, kFacts});
  const auto told = [&](int rank) {
    const at::Tensor row = all[rank];
    const auto* of = row.data_ptr<int64_t>();
    const int64_t shown = std::min(of[1], kFacts - 2);
    return "rank " + std::to_string(rank) + " has " +
           c10::toString(static_cast<at::ScalarType>(of[0])) + " " +
           c10::str(c10::IntArrayRef(of + 2, shown));
  };
  for (int rank = 1; rank < group.size; rank++) {
    if (at::equal(all[rank], all[0])) continue;
    throw std::invalid_argument("the collective \"" + name +
                                "\" needs the same type and shape on all ranks: " + told(0) + ", " +
                                told(rank));
  }
}

// allReduce(group, slot, reduction, name, check): in place
napi_value allReduce(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<5> arguments(env, info);
    const auto group = Distributed::of(env).groupAt(toInt(env, arguments[0]));
    const std::string name = toString(env, arguments[3]);
    const at::NoGradGuard noGrad;
    const at::Tensor tensor = Environment::of(env).tensorAt(toInt(env, arguments[1])).detach();
    c10d::AllreduceOptions options;
    options.reduceOp = toReduction(toString(env, arguments[2]));
    if (toBool(env, arguments[4])) requireSame(*group, name, tensor);
    const at::Tensor dense = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
    // Gloo wants one run of memory, in any order of dimensions that is the same for all.
    std::vector<at::Tensor> tensors{dense.as_strided({dense.numel()}, {1})};
    group->run(name.c_str(), [&] { return group->backendFor(tensor).allreduce(tensors, options); });
    if (!dense.is_same(tensor)) at::Tensor(tensor).copy_(dense);
    return nullptr;
  });
}

// allGather(group, slot, name, check) -> slot of [size * N, ...] for [N, ...], [size] for []
napi_value allGather(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto group = Distributed::of(env).groupAt(toInt(env, arguments[0]));
    const std::string name = toString(env, arguments[2]);
    const at::NoGradGuard noGrad;
    at::Tensor mine = environment.tensorAt(toInt(env, arguments[1])).detach().contiguous();
    if (toBool(env, arguments[3])) requireSame(*group, name, mine);
    std::vector<int64_t> shape = mine.dim() == 0 ? std::vector<int64_t>{1} : mine.sizes().vec();
    shape[0] *= group->size;
    at::Tensor all = at::empty(shape, mine.options());
    if (mine.numel() > 0) {
      at::Tensor from = bytesOf(mine), to = bytesOf(all);
      group->run(name.c_str(), [&] { return group->backendFor(mine)._allgather_base(to, from); });
    }
    return fromInt(env, environment.add(all));
  });
}

// broadcast(group, slots, from, name, check): in place, several at once
napi_value broadcast(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<5> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto group = Distributed::of(env).groupAt(toInt(env, arguments[0]));
    const std::string name = toString(env, arguments[3]);
    const bool check = toBool(env, arguments[4]);
    c10d::BroadcastOptions options;
    options.rootRank = toInt(env, arguments[2]);
    const at::NoGradGuard noGrad;
    for (const int64_t slot : toInts(env, arguments[1])) {
      const at::Tensor tensor = environment.tensorAt(slot).detach();
      if (check) requireSame(*group, name, tensor);
      if (tensor.numel() == 0) continue;
      const at::Tensor dense = tensor.contiguous();
      std::vector<at::Tensor> bytes{bytesOf(dense)};
      group->run(name.c_str(), [&] { return group->backendFor(tensor).broadcast(bytes, options); });
      if (!dense.is_same(tensor)) at::Tensor(tensor).copy_(dense);
    }
    return nullptr;
  });
}

// barrier(group, name): returns once all ranks have called it
napi_value barrier(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const auto group = Distributed::of(env).groupAt(toInt(env, arguments[0]));
    std::vector<at::Tensor> token{at::zeros({1})};
    group->run(toString(env, arguments[1]).c_str(),
               [&] { return group->backendFor(token[0]).allreduce(token); });
    return nullptr;
  });
}

// --- What a process does, for messages -------------------------------------------------------

napi_value setStep(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment::of(env).activity->step = toInt(env, arguments[0]);
    return nullptr;
  });
}

// activity() -> [step, name of the collective that runs or ran last, whether it runs]
napi_value activity(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    Activity& activity = *Environment::of(env).activity;
    const auto current = activity.current();
    napi_value result;
    napi_create_array_with_length(env, 3, &result);
    napi_set_element(env, result, 0, fromInt(env, activity.step));
    napi_set_element(env, result, 1, fromString(env, current.name));
    napi_set_element(env, result, 2, fromBool(env, current.running));
    return result;
  });
}

// setCollectiveError(makeError): what a collective that fails throws is makeError(facts)
napi_value setCollectiveError(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    napi_ref& reference = Environment::of(env).collectiveError;
    if (reference != nullptr) napi_delete_reference(env, reference);
    napi_create_reference(env, arguments[0], 1, &reference);
    return nullptr;
  });
}

}  // namespace

void throwCollectiveFailure(napi_env env, const CollectiveFailure& failure) {
  napi_ref reference = Environment::of(env).collectiveError;
  napi_value makeError = nullptr, facts, receiver, error = nullptr;
  if (reference != nullptr) napi_get_reference_value(env, reference, &makeError);
  if (makeError == nullptr) {
    napi_throw_error(env, nullptr, failure.what());
    return;
  }
  napi_create_object(env, &facts);
  const auto put = [&](const char* name, napi_value value) {
    napi_set_named_property(env, facts, name, value);
  };
  put("reason", fromString(env, failure.what()));
  put("rank", fromInt(env, failure.rank));
  put("size", fromInt(env, failure.size));
  put("step", fromInt(env, failure.step));
  put("collective", fromString(env, failure.collective));
  put("seconds", fromDouble(env, failure.seconds));
  put("timedOut", fromBool(env, failure.timedOut));
  put("storeLost", fromBool(env, failure.storeLost));
  put("silent", fromInts(env, std::vector<int64_t>(failure.silent.begin(), failure.silent.end())));
  napi_get_undefined(env, &receiver);
  if (napi_call_function(env, receiver, makeError, 1, &facts, &error) == napi_ok) {
    napi_throw(env, error);
  }
}

void registerDistributed(napi_env env, napi_value exports) {
  // Reads TORCH_CPP_LOG_LEVEL, which PyTorch does as Python imports it.
  c10::initLogging();
  Environment::of(env).distributed = std::make_shared<Distributed>();
  define(env, exports, "openStore", openStore);
  define(env, exports, "prefixStore", prefixStore);
  define(env, exports, "closeStore", closeStore);
  define(env, exports, "storeSet", storeSet);
  define(env, exports, "storeGet", storeGet);
  define(env, exports, "storeAdd", storeAdd);
  define(env, exports, "storeDelete", storeDelete);
  define(env, exports, "createGroup", createGroup);
  define(env, exports, "closeGroup", closeGroup);
  define(env, exports, "allReduce", allReduce);
  define(env, exports, "allGather", allGather);
  define(env, exports, "broadcast", broadcast);
  define(env, exports, "barrier", barrier);
  define(env, exports, "setStep", setStep);
  define(env, exports, "activity", activity);
  define(env, exports, "setCollectiveError", setCollectiveError);
}

}  // namespace moco
