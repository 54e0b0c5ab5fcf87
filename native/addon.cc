#include "environment.h"
#include "kernel.h"
#include "linear.h"

NAPI_MODULE_INIT() {
  moco::keepSmallBlocks();
  auto* environment = new moco::Environment();
  napi_set_instance_data(
      env, environment,
      [](napi_env, void* data, void*) { delete static_cast<moco::Environment*>(data); }, nullptr);
  moco::registerDispatch(env, exports);
  moco::registerTensor(env, exports);
  moco::registerAutograd(env, exports);
  moco::registerCustomFunction(env, exports);
  moco::registerRuntime(env, exports);
  moco::registerStream(env, exports);
  moco::registerFileRead(env, exports);
  moco::registerImage(env, exports);
  moco::registerDistributed(env, exports);
  moco::registerWatchdog(env, exports);
  moco::registerReducer(env, exports);
  moco::registerSyncBatchNorm(env, exports);
  moco::registerKernel(env, exports);
  moco::registerLinear(env, exports);
  return exports;
}
