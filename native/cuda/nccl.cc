// c10d's backend for GPUs, handed to the first addon, which makes process groups, as a function
// behind a tagged external: neither addon then needs the other's symbols.
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "../backendFactory.h"
#include "cudaAddon.h"

namespace moco {
namespace {

c10::intrusive_ptr<c10d::Backend> createNccl(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                             int size, int64_t timeoutMs) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeoutMs);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}

// ncclFactory() -> external for createProcessGroup
napi_value ncclFactory(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    napi_value external;
    const BackendFactory factory = createNccl;
    napi_create_external(env, reinterpret_cast<void*>(factory), nullptr, nullptr, &external);
    napi_type_tag_object(env, external, &kBackendFactoryTag);
    return external;
  });
}

// ncclVersion() -> "2.28.9"
napi_value ncclVersion(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value { return fromString(env, c10d::getNcclVersion()); });
}

}  // namespace

void registerNccl(napi_env env, napi_value exports) {
  define(env, exports, "ncclFactory", ncclFactory);
  define(env, exports, "ncclVersion", ncclVersion);
}

}  // namespace moco
