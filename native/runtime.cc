// Threads, devices, versions and random generators.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <climits>

#include "environment.h"
#include "linear.h"

namespace moco {
namespace {

at::Generator& generatorAt(napi_env env, napi_value index) {
  return Environment::of(env).generators.at(static_cast<size_t>(toInt(env, index)));
}

// versions() -> { built, config }: the libtorch that the addon was compiled for, and its build.
napi_value versions(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    napi_value result;
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "built", fromString(env, TORCH_VERSION));
    napi_set_named_property(env, result, "config", fromString(env, at::show_config()));
    napi_set_named_property(env, result, "capability", fromString(env, at::get_cpu_capability()));
    return result;
  });
}

napi_value cudaDeviceCount(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    return fromInt(env, at::hasCUDA() ? static_cast<int64_t>(at::getNumGPUs()) : 0);
  });
}

// setBackendFlag(name, on): how libtorch chooses kernels, for the whole process. The names are
// those of lib/torch/backend.ts.
napi_value setBackendFlag(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const std::string name = toString(env, arguments[0]);
    const bool on = toBool(env, arguments[1]);
    at::Context& context = at::globalContext();
    if (name == "tf32") {
      context.setAllowTF32CuBLAS(on);
      context.setAllowTF32CuDNN(on);
    } else if (name == "tf32Products") {
      context.setAllowTF32CuBLAS(on);
    } else if (name == "cudnnBenchmark") {
      context.setBenchmarkCuDNN(on);
    } else if (name == "deterministic") {
      context.setDeterministicAlgorithms(on, false);
      context.setDeterministicCuDNN(on);
      // Filling fresh memory serves to find reads of it, and costs a pass over every tensor.
      context.setDeterministicFillUninitializedMemory(false);
    } else if (name == "flashAttention") {
      context.setSDPUseFlash(on);
    } else if (name == "memoryEfficientAttention") {
      context.setSDPUseMemEfficient(on);
    } else if (name == "cudnnAttention") {
      context.setSDPUseCuDNN(on);
    } else if (name == "oneDnnLinear") {
      setOneDnnLinear(on);
    } else if (name == "oneDnnLinearDefault") {
      setOneDnnLinearDefault(on);
    } else {
      throw std::invalid_argument("there is no backend flag " + name);
    }
    return nullptr;
  });
}

// The memory that libtorch holds on a device other than the CPU, and that device's index. Before
// the first tensor on it the allocator has no statistics.
c10::DeviceAllocator* deviceAllocator(const c10::Device& device, c10::DeviceIndex& index) {
  at::globalContext().lazyInitDevice(device.type());
  index = device.has_index() ? device.index()
                             : c10::impl::VirtualGuardImpl(device.type()).getDevice().index();
  return c10::getDeviceAllocator(device.type());
}

// deviceMemory(device) -> [allocated, peak allocated, reserved, peak reserved], in bytes
napi_value deviceMemory(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    c10::DeviceIndex index = 0;
    const c10::Device device(toString(env, arguments[0]));
    const auto stats = deviceAllocator(device, index)->getDeviceStats(index);
    // The first of each is the total over small and large blocks.
    return fromInts(env, {stats.allocated_bytes[0].current, stats.allocated_bytes[0].peak,
                          stats.reserved_bytes[0].current, stats.reserved_bytes[0].peak});
  });
}

// resetPeakDeviceMemory(device): the peaks start again from what is held now
napi_value resetPeakDeviceMemory(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    c10::DeviceIndex index = 0;
    const c10::Device device(toString(env, arguments[0]));
    deviceAllocator(device, index)->resetPeakStats(index);
    return nullptr;
  });
}

// releaseDeviceMemory(device): blocks that no tensor uses go back to the driver
napi_value releaseDeviceMemory(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    c10::DeviceIndex index = 0;
    deviceAllocator(c10::Device(toString(env, arguments[0])), index)->emptyCache();
    return nullptr;
  });
}

// retainFreedMemory(): freed blocks stay with the process. With mmap'ed blocks, glibc's default for
// large ones, every activation of every step is a new mapping whose pages the kernel must zero.
napi_value retainFreedMemory(napi_env, napi_callback_info) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
  return nullptr;
}

napi_value setNumThreads(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    at::set_num_threads(static_cast<int>(toInt(env, arguments[0])));
    return nullptr;
  });
}

napi_value getNumThreads(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value { return fromInt(env, at::get_num_threads()); });
}

napi_value manualSeed(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    bool lossless = true;
    uint64_t seed = 0;
    if (napi_get_value_bigint_uint64(env, arguments[0], &seed, &lossless) != napi_ok) {
      throw std::invalid_argument("expected a BigInt seed");
    }
    at::manual_seed(seed);
    return nullptr;
  });
}

// createGenerator(device) -> generator index; defaultGenerator(device) likewise for the global one.
napi_value createGenerator(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment& environment = Environment::of(env);
    const c10::Device device(toString(env, arguments[0]));
    environment.generators.push_back(device.is_cpu()
                                         ? at::detail::createCPUGenerator()
                                         : at::globalContext().defaultGenerator(device).clone());
    return fromInt(env, static_cast<int64_t>(environment.generators.size()) - 1);
  });
}

napi_value defaultGenerator(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment& environment = Environment::of(env);
    const c10::Device device(toString(env, arguments[0]));
    environment.generators.push_back(at::globalContext().defaultGenerator(device));
    return fromInt(env, static_cast<int64_t>(environment.generators.size()) - 1);
  });
}

napi_value generatorSeed(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    bool lossless = true;
    uint64_t seed = 0;
    if (napi_get_value_bigint_uint64(env, arguments[1], &seed, &lossless) != napi_ok) {
      throw std::invalid_argument("expected a BigInt seed");
    }
    at::Generator& generator = generatorAt(env, arguments[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
    return nullptr;
  });
}

napi_value generatorState(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    at::Generator& generator = generatorAt(env, arguments[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    return fromInt(env, Environment::of(env).add(generator.get_state()));
  });
}

napi_value setGeneratorState(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    at::Generator& generator = generatorAt(env, arguments[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(Environment::of(env).tensorAt(toInt(env, arguments[1])));
    return nullptr;
  });
}

}  // namespace

void registerRuntime(napi_env env, napi_value exports) {
  define(env, exports, "versions", versions);
  define(env, exports, "cudaDeviceCount", cudaDeviceCount);
  define(env, exports, "setBackendFlag", setBackendFlag);
  define(env, exports, "deviceMemory", deviceMemory);
  define(env, exports, "resetPeakDeviceMemory", resetPeakDeviceMemory);
  define(env, exports, "releaseDeviceMemory", releaseDeviceMemory);
  define(env, exports, "retainFreedMemory", retainFreedMemory);
  define(env, exports, "setNumThreads", setNumThreads);
  define(env, exports, "getNumThreads", getNumThreads);
  define(env, exports, "manualSeed", manualSeed);
  define(env, exports, "createGenerator", createGenerator);
  define(env, exports, "defaultGenerator", defaultGenerator);
  define(env, exports, "generatorSeed", generatorSeed);
  define(env, exports, "generatorState", generatorState);
  define(env, exports, "setGeneratorState", setGeneratorState);
}

}  // namespace moco
