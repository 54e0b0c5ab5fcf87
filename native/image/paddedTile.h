// A copy of a tile with its edge repeated around it, so that a kernel reads a pixel's neighbours
// without asking whether there are any.
#pragma once

#include <cstring>

#include "buffer.h"
#include "tile.h"

namespace moco::image {

class PaddedTile {
 public:
  static constexpr size_t kMargin = 2;

  void copy(const Tile& tile) {
    const size_t width = static_cast<size_t>(tile.width);
    const size_t height = static_cast<size_t>(tile.height);
    rowBytes = width + 2 * kMargin;
    planeBytes = rowBytes * (height + 2 * kMargin);
    // Behind the last pixel, what a read of four bytes at a time may touch.
    uint8_t* out = bytes.require(3 * planeBytes + 4);
    std::memset(out + 3 * planeBytes, 0, 4);
    for (int channel = 0; channel < 3; ++channel) {
      uint8_t* rows = out + static_cast<size_t>(channel) * planeBytes;
      for (size_t y = 0; y < height; ++y) {
        const uint8_t* in = tile.plane(channel) + y * width;
        uint8_t* row = rows + (y + kMargin) * rowBytes;
        std::memset(row, in[0], kMargin);
        std::memcpy(row + kMargin, in, width);
        std::memset(row + kMargin + width, in[width - 1], kMargin);
      }
      const uint8_t* first = rows + kMargin * rowBytes;
      const uint8_t* last = first + (height - 1) * rowBytes;
      for (size_t i = 0; i < kMargin; ++i) {
        std::memcpy(rows + i * rowBytes, first, rowBytes);
        std::memcpy(rows + (kMargin + height + i) * rowBytes, last, rowBytes);
      }
    }
  }

  size_t stride() const { return rowBytes; }
  // The pixel at (0, 0).
  const uint8_t* plane(int channel) const {
    return bytes.data() + static_cast<size_t>(channel) * planeBytes + kMargin * rowBytes + kMargin;
  }

 private:
  size_t rowBytes = 0;
  size_t planeBytes = 0;
  Buffer<uint8_t> bytes;
};

}  // namespace moco::image
