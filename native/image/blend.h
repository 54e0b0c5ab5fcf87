// PIL's blend of two values.
#pragma once

#include <cstdint>

namespace moco::image {

// Single precision, truncated, clipped.
inline uint8_t blend(int degenerate, int value, float factor) {
  const float mixed =
      static_cast<float>(degenerate) + factor * static_cast<float>(value - degenerate);
  // Clipped first: whatever the factor, the conversion stays in range.
  const float clipped = mixed < 0.0f ? 0.0f : (mixed > 255.0f ? 255.0f : mixed);
  return static_cast<uint8_t>(static_cast<int>(clipped));
}

}  // namespace moco::image
