// Kernels compiled at run time, and what a device is. NVRTC and the driver are opened by name, so
// that this compiles kernels on machines without a GPU, too, and is built without CUDA's headers.
#include "kernel.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <array>
#include <cstring>

#include "cudaDriver.h"
#include "sharedLibrary.h"

namespace moco {
namespace {

// NVRTC's functions, whose interface is stable.
struct Compiler {
  SharedLibrary library;
  int (*version)(int*, int*);
  int (*architectureCount)(int*);
  int (*architectures)(int*);
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*destroy)(void**);
  int (*compile)(void*, int, const char* const*);
  int (*logSize)(void*, size_t*);
  int (*log)(void*, char*);
  int (*imageSize)(void*, size_t*);
  int (*image)(void*, char*);
  const char* (*errorString)(int);

  explicit Compiler(const std::string& path) : library(path) {
    version = library.find<int(int*, int*)>("nvrtcVersion");
    architectureCount = library.find<int(int*)>("nvrtcGetNumSupportedArchs");
    architectures = library.find<int(int*)>("nvrtcGetSupportedArchs");
    create = library.find<int(void**, const char*, const char*, int, const char* const*,
                              const char* const*)>("nvrtcCreateProgram");
    destroy = library.find<int(void**)>("nvrtcDestroyProgram");
    compile = library.find<int(void*, int, const char* const*)>("nvrtcCompileProgram");
    logSize = library.find<int(void*, size_t*)>("nvrtcGetProgramLogSize");
    log = library.find<int(void*, char*)>("nvrtcGetProgramLog");
    imageSize = library.find<int(void*, size_t*)>("nvrtcGetCUBINSize");
    image = library.find<int(void*, char*)>("nvrtcGetCUBIN");
    errorString = library.find<const char*(int)>("nvrtcGetErrorString");
  }

  void check(int status) const {
    if (status != 0) throw std::runtime_error(errorString(status));
  }
};

std::vector<std::string> toStrings(napi_env env, napi_value array) {
  uint32_t length = 0;
  napi_get_array_length(env, array, &length);
  std::vector<std::string> result;
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    napi_get_element(env, array, i, &element);
    result.push_back(toString(env, element));
  }
  return result;
}

// kernelCompiler(path, builtins) -> [major, minor, architecture...]: NVRTC's version and what it
// compiles for. Builtins is the library that NVRTC asks for by name where it compiles, or "".
napi_value kernelCompiler(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const std::string builtins = toString(env, arguments[1]);
    if (!builtins.empty()) SharedLibrary{builtins};
    const Compiler compiler(toString(env, arguments[0]));
    int major = 0;
    int minor = 0;
    int count = 0;
    compiler.check(compiler.version(&major, &minor));
    compiler.check(compiler.architectureCount(&count));
    std::vector<int> found(static_cast<size_t>(count));
    compiler.check(compiler.architectures(found.data()));
    std::vector<int64_t> result{major, minor};
    result.insert(result.end(), found.begin(), found.end());
    return fromInts(env, result);
  });
}

// compileKernel(path, name, source, options) -> the machine code as an ArrayBuffer, or the
// compiler's log as a string where the source has errors
napi_value compileKernel(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    const Compiler compiler(toString(env, arguments[0]));
    const std::string name = toString(env, arguments[1]) + ".cu";
    const std::string source = toString(env, arguments[2]);
    const std::vector<std::string> options = toStrings(env, arguments[3]);
    std::vector<const char*> words;
    for (const std::string& each : options) words.push_back(each.c_str());

    void* program = nullptr;
    compiler.check(compiler.create(&program, source.c_str(), name.c_str(), 0, nullptr, nullptr));
    struct Destroy {
      const Compiler& compiler;
      void** program;
      ~Destroy() { compiler.destroy(program); }
    } destroy{compiler, &program};
    const int status = compiler.compile(program, static_cast<int>(words.size()), words.data());
    if (status != 0) {
      size_t length = 0;
      compiler.check(compiler.logSize(program, &length));
      std::string log(length, '\0');
      compiler.check(compiler.log(program, log.data()));
      log.resize(std::strlen(log.c_str()));
      return fromString(env, log.empty() ? compiler.errorString(status) : log);
    }
    size_t bytes = 0;
    compiler.check(compiler.imageSize(program, &bytes));
    void* data = nullptr;
    napi_value buffer;
    if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) throw std::bad_alloc();
    compiler.check(compiler.image(program, static_cast<char*>(data)));
    return buffer;
  });
}

// deviceProperties(index) -> [name, bytes, major, minor, multiprocessors, shared bytes of a block,
//   L2 bytes]
napi_value deviceProperties(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const CudaDriver& driver = CudaDriver::get();
    const int device = driver.device(static_cast<int>(toInt(env, arguments[0])));
    std::array<char, 256> name{};
    size_t bytes = 0;
    driver.check(driver.deviceGetName(name.data(), 255, device), "cuDeviceGetName");
    driver.check(driver.deviceTotalMemory(&bytes, device), "cuDeviceTotalMem");
    napi_value result;
    napi_create_array(env, &result);
    napi_set_element(env, result, 0, fromString(env, name.data()));
    napi_set_element(env, result, 1, fromDouble(env, static_cast<double>(bytes)));
    // CUdevice_attribute: compute capability major and minor, multiprocessor count, the most shared
    // memory that a block can ask for, L2 cache size
    const std::array<int, 5> attributes{75, 76, 16, 97, 38};
    for (uint32_t i = 0; i < attributes.size(); i++) {
      napi_set_element(env, result, i + 2, fromInt(env, driver.attribute(attributes[i], device)));
    }
    return result;
  });
}

struct Kernel {
  void* module;  // null once it was unloaded
  void* function;
  int device;
};

Kernel& toKernel(napi_env env, napi_value external) {
  void* data = nullptr;
  if (napi_get_value_external(env, external, &data) != napi_ok || data == nullptr) {
    throw std::invalid_argument("expected a kernel");
  }
  Kernel& kernel = *static_cast<Kernel*>(data);
  if (kernel.module == nullptr) throw std::invalid_argument("the kernel was disposed of");
  return kernel;
}

// loadKernel(image, name, device) -> kernel, which is unloaded by unloadKernel only
napi_value loadKernel(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    void* image = nullptr;
    size_t bytes = 0;
    napi_get_arraybuffer_info(env, arguments[0], &image, &bytes);
    const std::string name = toString(env, arguments[1]);
    const CudaDriver& driver = CudaDriver::get();
    const int device = static_cast<int>(toInt(env, arguments[2]));
    const CudaDriver::Context context(driver, device);
    auto kernel = std::make_unique<Kernel>(Kernel{nullptr, nullptr, device});
    driver.check(driver.moduleLoadData(&kernel->module, image), "cuModuleLoadData");
    const int status = driver.moduleGetFunction(&kernel->function, kernel->module, name.c_str());
    if (status != 0) driver.moduleUnload(kernel->module);
    driver.check(status, "cuModuleGetFunction");
    napi_value result;
    napi_create_external(
        env, kernel.release(),
        [](napi_env, void* data, void*) { delete static_cast<Kernel*>(data); }, nullptr, &result);
    return result;
  });
}

napi_value unloadKernel(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Kernel& kernel = toKernel(env, arguments[0]);
    const CudaDriver& driver = CudaDriver::get();
    const CudaDriver::Context context(driver, kernel.device);
    driver.check(driver.moduleUnload(kernel.module), "cuModuleUnload");
    kernel.module = nullptr;
    return nullptr;
  });
}

// One argument of a kernel in memory, as the driver reads it.
struct Value {
  std::array<unsigned char, 8> bytes;

  template <typename T>
  static Value of(T value) {
    static_assert(sizeof(T) <= 8);
    Value result{};
    std::memcpy(result.bytes.data(), &value, sizeof(T));
    return result;
  }
};

// launchKernel(kernel, [grid x, y, z, block x, y, z], shared bytes, kinds, values): on the current
// stream of the kernel's device. A value's kind is "tensor" (its slot), "int32", "int64", "float32"
// or "float64".
napi_value launchKernel(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<5> arguments(env, info);
    const Kernel& kernel = toKernel(env, arguments[0]);
    const std::vector<int64_t> extent = toInts(env, arguments[1]);
    const auto shared = static_cast<unsigned>(toInt(env, arguments[2]));
    const std::vector<std::string> kinds = toStrings(env, arguments[3]);
    std::vector<Value> values;
    for (uint32_t i = 0; i < kinds.size(); i++) {
      napi_value given;
      napi_get_element(env, arguments[4], i, &given);
      if (kinds[i] == "tensor") {
        values.push_back(Value::of(Environment::of(env).tensorAt(toInt(env, given)).data_ptr()));
      } else if (kinds[i] == "int32") {
        values.push_back(Value::of(static_cast<int32_t>(toInt(env, given))));
      } else if (kinds[i] == "int64") {
        values.push_back(Value::of(toInt(env, given)));
      } else if (kinds[i] == "float32") {
        values.push_back(Value::of(static_cast<float>(toDouble(env, given))));
      } else if (kinds[i] == "float64") {
        values.push_back(Value::of(toDouble(env, given)));
      } else {
        throw std::invalid_argument("there is no kind of argument " + kinds[i]);
      }
    }
    std::vector<void*> parameters;
    for (Value& each : values) parameters.push_back(each.bytes.data());

    const CudaDriver& driver = CudaDriver::get();
    const CudaDriver::Context context(driver, kernel.device);
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(kernel.device));
    const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    void* stream = guard.getStreamNativeHandle(guard.getStream(device));
    constexpr unsigned unasked = 48 << 10;  // of shared memory; more must be asked for
    if (shared > unasked) {
      // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
      driver.check(driver.functionSetAttribute(kernel.function, 8, static_cast<int>(shared)),
                   "cuFuncSetAttribute");
    }
    const auto size = [&](size_t i) { return static_cast<unsigned>(extent.at(i)); };
    driver.check(driver.launchKernel(kernel.function, size(0), size(1), size(2), size(3), size(4),
                                     size(5), shared, stream, parameters.data(), nullptr),
                 "cuLaunchKernel");
    return nullptr;
  });
}

}  // namespace

void registerKernel(napi_env env, napi_value exports) {
  define(env, exports, "kernelCompiler", kernelCompiler);
  define(env, exports, "compileKernel", compileKernel);
  define(env, exports, "deviceProperties", deviceProperties);
  define(env, exports, "loadKernel", loadKernel);
  define(env, exports, "unloadKernel", unloadKernel);
  define(env, exports, "launchKernel", launchKernel);
}

}  // namespace moco
