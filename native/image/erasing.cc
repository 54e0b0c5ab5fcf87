#include "erasing.h"

#include <algorithm>

namespace moco::image {

void erase(const Erasing& erasing, int height, int width, float* values) {
  if (erasing.mode == Erasing::Mode::kNone) return;
  const Box& box = erasing.box;
  const size_t rowLength = static_cast<size_t>(box.width);
  float colour[3] = {0, 0, 0};
  NormalNoise noise(erasing.noise);
  if (erasing.mode == Erasing::Mode::kColour) noise.next(3, colour);
  const size_t area = static_cast<size_t>(height) * static_cast<size_t>(width);
  for (size_t channel = 0; channel < 3; ++channel) {
    for (int y = box.top; y < box.top + box.height; ++y) {
      float* row = values + channel * area + static_cast<size_t>(y) * static_cast<size_t>(width) +
                   static_cast<size_t>(box.left);
      if (erasing.mode == Erasing::Mode::kPixels) {
        noise.next(rowLength, row);
      } else {
        std::fill_n(row, rowLength, colour[channel]);
      }
    }
  }
}

}  // namespace moco::image
