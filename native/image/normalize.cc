#include "normalize.h"

#include <algorithm>
#include <cstring>

namespace moco::image {

Normalization::Normalization(const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int value = 0; value < 256; ++value) {
      const float scaled = static_cast<float>(value) / 255.0f;
      const float centered = scaled - mean[channel];
      tables[channel][value] = centered / std[channel];
    }
  }
}

void writeNormalized(const Tile& tile, bool flip, const Normalization& normalization, float* out) {
  const int width = tile.width;
  for (int channel = 0; channel < 3; ++channel) {
    const uint8_t* in = tile.plane(tile.planes == 1 ? 0 : channel);
    const float* table = normalization.table(channel);
    for (int y = 0; y < tile.height; ++y, in += width, out += width) {
      if (flip) {
        for (int x = 0; x < width; ++x) out[x] = table[in[width - 1 - x]];
      } else {
        for (int x = 0; x < width; ++x) out[x] = table[in[x]];
      }
    }
  }
}

void writeBytes(const Tile& tile, bool flip, uint8_t* out) {
  for (int channel = 0; channel < 3; ++channel) {
    const uint8_t* in = tile.plane(tile.planes == 1 ? 0 : channel);
    for (int y = 0; y < tile.height; ++y, in += tile.width, out += tile.width) {
      if (flip) {
        std::reverse_copy(in, in + tile.width, out);
      } else {
        std::memcpy(out, in, static_cast<size_t>(tile.width));
      }
    }
  }
}

}  // namespace moco::image
