// What the CUDA addon knows, one instance per Node-API environment. It shares the conversions of
// environment.h with the first addon, not its tables: tensors stay there.
#pragma once

#include <ATen/cuda/CUDAGraph.h>

#include <memory>
#include <unordered_map>

#include "../environment.h"

namespace moco {

// A graph with the memory pool that its tensors live in.
struct PooledGraph {
  at::cuda::CUDAGraph graph;
  c10::DeviceIndex device;
  at::cuda::MempoolId_t pool;
  bool recording;
};

class CudaEnvironment {
 public:
  static CudaEnvironment& of(napi_env env) {
    void* data = nullptr;
    napi_get_instance_data(env, &data);
    return *static_cast<CudaEnvironment*>(data);
  }

  std::unordered_map<int64_t, std::unique_ptr<PooledGraph>> graphs;
  int64_t nextGraph = 0;
};

void registerGraph(napi_env env, napi_value exports);
void registerNccl(napi_env env, napi_value exports);

}  // namespace moco
