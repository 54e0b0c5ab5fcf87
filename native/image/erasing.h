// Random erasing: a rectangle of a normalised view is overwritten.
#pragma once

#include "box.h"
#include "noise.h"

namespace moco::image {

struct Erasing {
  // Zeros, a normal number for each channel, or one for each value.
  enum class Mode : int { kNone = 0, kConstant = 1, kColour = 2, kPixels = 3 };
  Mode mode = Mode::kNone;
  Box box;
  NoiseKey noise;
};

// `values` is [3, height, width], and the box is inside. The noise comes in the order of a
// [3, box.height, box.width] tensor.
void erase(const Erasing& erasing, int height, int width, float* values);

}  // namespace moco::image
