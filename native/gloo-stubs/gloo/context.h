// See algorithm.h. A context is only ever used through pointers that libtorch made.
#pragma once

#include <gloo/transport/device.h>

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
  void closeConnections();
};

}  // namespace gloo
