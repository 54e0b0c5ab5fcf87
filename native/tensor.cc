// What has no schema: creation from JavaScript memory, access to storage, and metadata.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <unordered_set>

#include "environment.h"

namespace moco {
namespace {

struct Bytes {
  uint8_t* data;
  size_t length;
  napi_value arrayBuffer;
};

// The memory behind a TypedArray.
Bytes bytesOf(napi_env env, napi_value typedArray) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  napi_value arrayBuffer;
  size_t offset = 0;
  if (napi_get_typedarray_info(env, typedArray, &type, &length, &data, &arrayBuffer, &offset) !=
      napi_ok) {
    throw std::invalid_argument("expected a typed array");
  }
  static constexpr size_t kItemSize[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  return {static_cast<uint8_t*>(data), length * kItemSize[type], arrayBuffer};
}

size_t byteLength(c10::IntArrayRef shape, c10::ScalarType dtype) {
  size_t bytes = c10::elementSize(dtype);
  for (const int64_t size : shape) {
    if (size < 0) throw std::invalid_argument("a shape has no negative sizes");
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) {
      throw std::length_error("the shape's size in bytes overflows");
    }
  }
  return bytes;
}

// fromBytes(bytes, shape, dtype) -> slot of a tensor with a copy of the bytes.
napi_value fromBytes(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    const Bytes bytes = bytesOf(env, arguments[0]);
    const auto shape = toInts(env, arguments[1]);
    const auto dtype = static_cast<c10::ScalarType>(toInt(env, arguments[2]));
    if (byteLength(shape, dtype) != bytes.length) {
      throw std::invalid_argument(std::to_string(bytes.length) + " bytes given, the shape needs " +
                                  std::to_string(byteLength(shape, dtype)));
    }
    at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype));
    if (bytes.length > 0) std::memcpy(tensor.mutable_data_ptr(), bytes.data, bytes.length);
    return fromInt(env, Environment::of(env).add(std::move(tensor)));
  });
}

// share(typedArray, shape, dtype) -> slot of a tensor on the array's own memory.
napi_value share(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    Environment& environment = Environment::of(env);
    const Bytes bytes = bytesOf(env, arguments[0]);
    const auto shape = toInts(env, arguments[1]);
    const auto dtype = static_cast<c10::ScalarType>(toInt(env, arguments[2]));
    if (byteLength(shape, dtype) != bytes.length) {
      throw std::invalid_argument(std::to_string(bytes.length) + " bytes given, the shape needs " +
                                  std::to_string(byteLength(shape, dtype)));
    }
    if (reinterpret_cast<uintptr_t>(bytes.data) % c10::elementSize(dtype) != 0) {
      throw std::invalid_argument("the array is not aligned to its element size");
    }
    napi_ref reference = nullptr;
    napi_create_reference(env, bytes.arrayBuffer, 1, &reference);
    auto releases = environment.releases;
    const auto giveBack = [releases, reference](void*) {
      std::lock_guard<std::mutex> lock(releases->mutex);
      releases->pending.push_back(reference);
    };
    environment.drainReleases(env);
    return fromInt(env, environment.add(at::from_blob(bytes.data, shape, giveBack,
                                                      at::TensorOptions().dtype(dtype))));
  });
}

// copyOut(slot, typedArray): the elements in C order, without conversion.
napi_value copyOut(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const at::Tensor tensor =
        Environment::of(env).tensorAt(toInt(env, arguments[0])).detach().cpu().contiguous();
    const Bytes bytes = bytesOf(env, arguments[1]);
    if (bytes.length != tensor.nbytes()) throw std::length_error("the array has another size");
    if (bytes.length > 0) std::memcpy(bytes.data, tensor.const_data_ptr(), bytes.length);
    return nullptr;
  });
}

// sharedBytes(slot) -> ArrayBuffer over the elements of a contiguous CPU tensor; the storage
// lives for as long as the buffer does. Beyond 4 GiB, where Node.js would refuse after taking
// ownership, share parts of the tensor.
napi_value sharedBytes(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const at::Tensor& tensor = Environment::of(env).tensorAt(toInt(env, arguments[0]));
    if (!tensor.device().is_cpu()) throw std::invalid_argument("only CPU tensors share memory");
    if (!tensor.is_contiguous())
      throw std::invalid_argument("only contiguous tensors share memory");
    if (tensor.nbytes() > 0xffffffffu) {
      throw std::length_error("a tensor beyond 4 GiB cannot be shared whole; share parts of it");
    }
    napi_value result;
    if (tensor.nbytes() == 0) {
      napi_create_arraybuffer(env, 0, nullptr, &result);
      return result;
    }
    auto* holder = new at::Tensor(tensor.detach());
    const auto release = [](napi_env, void*, void* hint) { delete static_cast<at::Tensor*>(hint); };
    const napi_status status = napi_create_external_arraybuffer(
        env, holder->mutable_data_ptr(), holder->nbytes(), release, holder, &result);
    if (status != napi_ok) {
      delete holder;
      throw std::runtime_error("this Node.js does not allow external array buffers");
    }
    return result;
  });
}

napi_value shape(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromInts(env, tensor.sizes()); });
}

napi_value strides(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromInts(env, tensor.strides()); });
}

napi_value dtype(napi_env env, napi_callback_info info) {
  return onTensor(env, info, [&](const at::Tensor& tensor) {
    return fromInt(env, static_cast<int64_t>(tensor.scalar_type()));
  });
}

napi_value device(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromString(env, tensor.device().str()); });
}

napi_value numel(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromInt(env, tensor.numel()); });
}

napi_value isContiguous(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromBool(env, tensor.is_contiguous()); });
}

napi_value item(napi_env env, napi_callback_info info) {
  return onTensor(env, info,
                  [&](const at::Tensor& tensor) { return fromScalar(env, tensor.item()); });
}

// storage(slot) -> { id, bytes, offset }: two tensors share storage when their ids are equal;
// `offset` is in elements.
napi_value storage(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const at::Tensor& tensor = Environment::of(env).tensorAt(toInt(env, arguments[0]));
    napi_value result;
    napi_value id;
    napi_create_object(env, &result);
    napi_create_bigint_uint64(
        env, reinterpret_cast<uint64_t>(tensor.storage().unsafeGetStorageImpl()), &id);
    napi_set_named_property(env, result, "id", id);
    napi_set_named_property(env, result, "bytes",
                            fromInt(env, static_cast<int64_t>(tensor.storage().nbytes())));
    napi_set_named_property(env, result, "offset", fromInt(env, tensor.storage_offset()));
    return result;
  });
}

// setData(slot, other): the tensor takes the other's data, keeping its own identity.
napi_value setData(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment& environment = Environment::of(env);
    environment.tensorAt(toInt(env, arguments[0]))
        .set_data(environment.tensorAt(toInt(env, arguments[1])));
    return nullptr;
  });
}

// isExclusive(slot) -> whether nothing else, such as a view or a graph, holds the tensor or its
// memory
napi_value isExclusive(napi_env env, napi_callback_info info) {
  return onTensor(env, info, [&](const at::Tensor& tensor) {
    return fromBool(
        env, tensor.use_count() == 1 && tensor.has_storage() && tensor.storage().use_count() == 1);
  });
}

// memory() -> { tensors, bytes }: live slots, and the bytes of their distinct storages.
napi_value memory(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    Environment& environment = Environment::of(env);
    std::unordered_set<const c10::StorageImpl*> seen;
    int64_t bytes = 0;
    for (const at::Tensor& tensor : environment.tensors) {
      if (!tensor.defined() || !tensor.has_storage()) continue;
      if (seen.insert(tensor.storage().unsafeGetStorageImpl()).second) {
        bytes += static_cast<int64_t>(tensor.storage().nbytes());
      }
    }
    napi_value result;
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "tensors",
                            fromInt(env, static_cast<int64_t>(environment.liveTensors())));
    napi_set_named_property(env, result, "bytes", fromInt(env, bytes));
    return result;
  });
}

}  // namespace

void registerTensor(napi_env env, napi_value exports) {
  define(env, exports, "fromBytes", fromBytes);
  define(env, exports, "share", share);
  define(env, exports, "copyOut", copyOut);
  define(env, exports, "sharedBytes", sharedBytes);
  define(env, exports, "shape", shape);
  define(env, exports, "strides", strides);
  define(env, exports, "dtype", dtype);
  define(env, exports, "device", device);
  define(env, exports, "numel", numel);
  define(env, exports, "isContiguous", isContiguous);
  define(env, exports, "item", item);
  define(env, exports, "storage", storage);
  define(env, exports, "isExclusive", isExclusive);
  define(env, exports, "setData", setData);
  define(env, exports, "memory", memory);
}

}  // namespace moco
