// The second addon: what needs CUDA's own types, and so its headers. Everything else reaches a GPU
// through the dispatcher and c10's device-neutral interfaces, from the first addon. This one links
// against no library: libtorch_cuda and the CUDA runtime are in the process before it is loaded.
#include "cudaAddon.h"

// `guarded` names it; collectives run in the first addon, so none fails in here.
void moco::throwCollectiveFailure(napi_env env, const CollectiveFailure& failure) {
  napi_throw_error(env, nullptr, failure.what());
}

NAPI_MODULE_INIT() {
  auto* environment = new moco::CudaEnvironment();
  napi_set_instance_data(
      env, environment,
      [](napi_env, void* data, void*) { delete static_cast<moco::CudaEnvironment*>(data); },
      nullptr);
  moco::registerGraph(env, exports);
  moco::registerNccl(env, exports);
  return exports;
}
