// The few functions of CUDA's driver that kernels and device properties need. The driver's
// interface is stable, and opened by name: no header and no library of CUDA is needed to build
// this.
#pragma once

#include <cstddef>

#include "sharedLibrary.h"

namespace moco {

class CudaDriver {
 public:
  // Throws without a driver.
  static const CudaDriver& get() {
    static const CudaDriver driver;  // pointers that never change
    return driver;
  }

  // Throws what the driver says of a call that failed.
  void check(int status, const char* what) const {
    if (status == 0) return;
    const char* text = nullptr;
    if (errorString(status, &text) != 0 || text == nullptr) text = "unknown error";
    throw std::runtime_error(std::string(what) + ": " + text + " (CUDA error " +
                             std::to_string(status) + ")");
  }

  // A device's number in the driver, which is its number in libtorch.
  int device(int index) const {
    int found = 0;
    check(deviceGet(&found, index), "cuDeviceGet");
    return found;
  }

  int attribute(int which, int device) const {
    int value = 0;
    check(deviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
  }

  // Makes a device's primary context, which libtorch works in, current while it lives.
  class Context {
   public:
    Context(const CudaDriver& driver, int index) : driver(driver) {
      void* context = nullptr;
      driver.check(driver.primaryContextRetain(&context, driver.device(index)),
                   "cuDevicePrimaryCtxRetain");
      driver.check(driver.contextPush(context), "cuCtxPushCurrent");
    }
    ~Context() {
      void* popped = nullptr;
      driver.contextPop(&popped);
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

   private:
    const CudaDriver& driver;
  };

  int (*deviceGetName)(char* name, int length, int device);
  int (*deviceTotalMemory)(size_t* bytes, int device);
  int (*moduleLoadData)(void** module, const void* image);
  int (*moduleUnload)(void* module);
  int (*moduleGetFunction)(void** function, void* module, const char* name);
  int (*functionSetAttribute)(void* function, int attribute, int value);
  int (*launchKernel)(void* function, unsigned gridX, unsigned gridY, unsigned gridZ,
                      unsigned blockX, unsigned blockY, unsigned blockZ, unsigned sharedBytes,
                      void* stream, void** parameters, void** extra);

 private:
  CudaDriver() {
    const SharedLibrary library("libcuda.so.1");
    errorString = library.find<int(int, const char**)>("cuGetErrorString");
    deviceGet = library.find<int(int*, int)>("cuDeviceGet");
    deviceGetName = library.find<int(char*, int, int)>("cuDeviceGetName");
    deviceTotalMemory = library.find<int(size_t*, int)>("cuDeviceTotalMem_v2");
    deviceGetAttribute = library.find<int(int*, int, int)>("cuDeviceGetAttribute");
    primaryContextRetain = library.find<int(void**, int)>("cuDevicePrimaryCtxRetain");
    contextPush = library.find<int(void*)>("cuCtxPushCurrent_v2");
    contextPop = library.find<int(void**)>("cuCtxPopCurrent_v2");
    moduleLoadData = library.find<int(void**, const void*)>("cuModuleLoadData");
    moduleUnload = library.find<int(void*)>("cuModuleUnload");
    moduleGetFunction = library.find<int(void**, void*, const char*)>("cuModuleGetFunction");
    functionSetAttribute = library.find<int(void*, int, int)>("cuFuncSetAttribute");
    launchKernel = library.find<int(void*, unsigned, unsigned, unsigned, unsigned, unsigned,
                                    unsigned, unsigned, void*, void**, void**)>("cuLaunchKernel");
    check(library.find<int(unsigned)>("cuInit")(0), "cuInit");
  }

  int (*errorString)(int status, const char** text);
  int (*deviceGet)(int* device, int index);
  int (*deviceGetAttribute)(int* value, int which, int device);
  int (*primaryContextRetain)(void** context, int device);
  int (*contextPush)(void* context);
  int (*contextPop)(void** context);
};

}  // namespace moco
