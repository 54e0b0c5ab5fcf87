// From the tile into the batch tensor: flip, ToTensor and Normalize in one step.
#pragma once

#include <array>

#include "tile.h"

namespace moco::image {

// (value / 255 - mean) / std per channel, each step rounded to single precision as torchvision's
// tensors round it. A byte has only 256 values, so there is a table of them.
class Normalization {
 public:
  Normalization(const std::array<float, 3>& mean, const std::array<float, 3>& std);
  const float* table(int channel) const { return tables[channel].data(); }

  const std::array<float, 3> mean;
  const std::array<float, 3> std;

 private:
  std::array<std::array<float, 256>, 3> tables;
};

// Writes [3, height, width] to `out`; a grayscale tile fills all three channels.
void writeNormalized(const Tile& tile, bool flip, const Normalization& normalization, float* out);
void writeBytes(const Tile& tile, bool flip, uint8_t* out);

}  // namespace moco::image
