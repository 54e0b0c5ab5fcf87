// The image between crop and batch tensor: planar 8-bit, so that every kernel is a loop over
// contiguous bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "buffer.h"

namespace moco::image {

struct Tile {
  int width = 0;
  int height = 0;
  // 3 (red, green, blue) or, once grayscale was applied, 1.
  int planes = 3;
  Buffer<uint8_t> bytes;

  size_t area() const { return static_cast<size_t>(width) * static_cast<size_t>(height); }
  uint8_t* plane(int channel) { return bytes.data() + static_cast<size_t>(channel) * area(); }
  const uint8_t* plane(int channel) const {
    return bytes.data() + static_cast<size_t>(channel) * area();
  }
  void resize(int newWidth, int newHeight) {
    width = newWidth;
    height = newHeight;
    planes = 3;
    bytes.require(3 * area());
  }
};

}  // namespace moco::image
