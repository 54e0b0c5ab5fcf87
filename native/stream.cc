// Streams and events of whatever device libtorch has loaded: c10 dispatches to the device's own
// implementation (CUDA's registers itself when libtorch_cuda is loaded), so no header of CUDA is
// needed. Devices without streams are lib/torch/stream.ts's business.
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <stdexcept>

#include "environment.h"

namespace moco {
namespace {

using c10::impl::VirtualGuardImpl;

// Streams come from a pool that lives as long as the process, so their table only grows to the
// pool's size; the same stream always has the same number.
napi_value fromStream(napi_env env, const c10::Stream& stream) {
  std::vector<c10::Stream>& streams = Environment::of(env).streams;
  const auto found = std::find(streams.begin(), streams.end(), stream);
  const auto index = found - streams.begin();
  if (found == streams.end()) streams.push_back(stream);
  return fromInt(env, static_cast<int64_t>(index));
}

c10::Stream toStream(napi_env env, napi_value index) {
  return Environment::of(env).streams.at(static_cast<size_t>(toInt(env, index)));
}

c10::Event& toEvent(napi_env env, napi_value id) {
  auto& events = Environment::of(env).events;
  const auto found = events.find(toInt(env, id));
  if (found == events.end()) throw std::invalid_argument("the event was disposed of");
  return found->second;
}

// A device's name with its index: that of the current device where the name has none.
c10::Device toDevice(napi_env env, napi_value name) {
  const c10::Device device(toString(env, name));
  if (device.has_index()) return device;
  return VirtualGuardImpl(device.type()).getDevice();
}

// deviceCount(device) -> how many devices of this type libtorch can use; 0 without the library
// that implements it.
napi_value deviceCount(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const c10::DeviceType type = c10::Device(toString(env, arguments[0])).type();
    const bool known = c10::impl::hasDeviceGuardImpl(type);
    return fromInt(env, known ? VirtualGuardImpl(type).deviceCount() : 0);
  });
}

// currentStream(device) -> stream
napi_value currentStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const c10::Device device = toDevice(env, arguments[0]);
    return fromStream(env, VirtualGuardImpl(device.type()).getStream(device));
  });
}

// pooledStream(device, highPriority) -> the pool's next stream
napi_value pooledStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const c10::Device device = toDevice(env, arguments[0]);
    const bool highPriority = toBool(env, arguments[1]);
    return fromStream(
        env, VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, highPriority));
  });
}

// exchangeStream(stream) -> the stream that was current on its device, in this thread
napi_value exchangeStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const c10::Stream stream = toStream(env, arguments[0]);
    return fromStream(env, VirtualGuardImpl(stream.device_type()).exchangeStream(stream));
  });
}

napi_value streamDevice(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    return fromString(env, toStream(env, arguments[0]).device().str());
  });
}

napi_value queryStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    return fromBool(env, toStream(env, arguments[0]).query());
  });
}

napi_value synchronizeStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    toStream(env, arguments[0]).synchronize();
    return nullptr;
  });
}

// createEvent(device) -> event, not recorded yet
napi_value createEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const c10::Device device(toString(env, arguments[0]));
    Environment& environment = Environment::of(env);
    const int64_t id = environment.nextEvent++;
    environment.events.emplace(id, c10::Event(device.type()));
    return fromInt(env, id);
  });
}

// recordEvent(event, stream)
napi_value recordEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    toEvent(env, arguments[0]).record(toStream(env, arguments[1]));
    return nullptr;
  });
}

// waitForEvent(stream, event): what the stream is given from now on waits for the event
napi_value waitForEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    toEvent(env, arguments[1]).block(toStream(env, arguments[0]));
    return nullptr;
  });
}

napi_value queryEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    return fromBool(env, toEvent(env, arguments[0]).query());
  });
}

napi_value synchronizeEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    toEvent(env, arguments[0]).synchronize();
    return nullptr;
  });
}

napi_value destroyEvent(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment::of(env).events.erase(toInt(env, arguments[0]));
    return nullptr;
  });
}

// recordStream(tensor, stream): the memory is not given to another tensor before the work that
// the stream has when the tensor dies is done
napi_value recordStream(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const at::Tensor& tensor = Environment::of(env).tensorAt(toInt(env, arguments[0]));
    const c10::Stream stream = toStream(env, arguments[1]);
    if (tensor.device() != stream.device()) {
      throw std::invalid_argument("the tensor is on " + tensor.device().str() + ", the stream on " +
                                  stream.device().str());
    }
    VirtualGuardImpl(stream.device_type())
        .recordDataPtrOnStream(tensor.storage().data_ptr(), stream);
    return nullptr;
  });
}

}  // namespace

void registerStream(napi_env env, napi_value exports) {
  define(env, exports, "deviceCount", deviceCount);
  define(env, exports, "currentStream", currentStream);
  define(env, exports, "pooledStream", pooledStream);
  define(env, exports, "exchangeStream", exchangeStream);
  define(env, exports, "streamDevice", streamDevice);
  define(env, exports, "queryStream", queryStream);
  define(env, exports, "synchronizeStream", synchronizeStream);
  define(env, exports, "createEvent", createEvent);
  define(env, exports, "recordEvent", recordEvent);
  define(env, exports, "waitForEvent", waitForEvent);
  define(env, exports, "queryEvent", queryEvent);
  define(env, exports, "synchronizeEvent", synchronizeEvent);
  define(env, exports, "destroyEvent", destroyEvent);
  define(env, exports, "recordStream", recordStream);
}

}  // namespace moco
