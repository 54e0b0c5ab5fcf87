// CUDA graphs: the kernels that a stream is given, recorded once and launched again as one.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <stdexcept>

#include "cudaAddon.h"

namespace moco {
namespace {

PooledGraph& toGraph(napi_env env, napi_value id) {
  auto& graphs = CudaEnvironment::of(env).graphs;
  const auto found = graphs.find(toInt(env, id));
  if (found == graphs.end()) throw std::invalid_argument("the graph was disposed of");
  return *found->second;
}

// beginGraph() -> graph: from now on the current stream records what it is given, and runs nothing.
// It must not be the device's default stream.
napi_value beginGraph(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    CudaEnvironment& environment = CudaEnvironment::of(env);
    auto graph = std::make_unique<PooledGraph>();
    graph->device = c10::cuda::current_device();
    graph->pool = at::cuda::graph_pool_handle();
    // The mode in which only this thread must keep to what can be recorded: the threads of process
    // groups ask their events whether they have come.
    graph->graph.capture_begin(graph->pool, cudaStreamCaptureModeThreadLocal);
    graph->recording = true;
    const int64_t id = environment.nextGraph++;
    environment.graphs.emplace(id, std::move(graph));
    return fromInt(env, id);
  });
}

// endGraph(graph): throws where something cannot be recorded; the graph must be disposed of then
napi_value endGraph(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    PooledGraph& graph = toGraph(env, arguments[0]);
    graph.recording = false;
    try {
      graph.graph.capture_end();
    } catch (...) {
      // libtorch leaves the allocator waiting for the end of a recording that broke.
      try {
        c10::cuda::CUDACachingAllocator::endAllocateToPool(graph.device, graph.pool);
      } catch (...) {  // it had got so far
      }
      (void)cudaGetLastError();
      throw;
    }
    return nullptr;
  });
}

// replayGraph(graph): launches it on the current stream
napi_value replayGraph(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    toGraph(env, arguments[0]).graph.replay();
    return nullptr;
  });
}

napi_value destroyGraph(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    CudaEnvironment::of(env).graphs.erase(toInt(env, arguments[0]));
    return nullptr;
  });
}

}  // namespace

void registerGraph(napi_env env, napi_value exports) {
  define(env, exports, "beginGraph", beginGraph);
  define(env, exports, "endGraph", endGraph);
  define(env, exports, "replayGraph", replayGraph);
  define(env, exports, "destroyGraph", destroyGraph);
}

}  // namespace moco
