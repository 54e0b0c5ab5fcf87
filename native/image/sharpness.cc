#include "sharpness.h"

#include "blend.h"
#include "simd.h"

namespace moco::image {
namespace {

// A value and its eight neighbours, weighted 5 to 1, over 13 and rounded. PIL adds thirteenths in
// single precision; no sum of whole numbers over 13 is so near a half that this could round
// otherwise. The division is a multiplication: (sum + 6) / 13 for all sums to 13 * 255.
MOCO_SIMD void sharpenRow(const uint8_t* __restrict above, const uint8_t* __restrict here,
                          const uint8_t* __restrict below, size_t count, float factor,
                          uint8_t* __restrict out) {
  for (size_t i = 0; i < count; ++i) {
    const int around = above[i] + above[i + 1] + above[i + 2] + here[i] + here[i + 2] + below[i] +
                       below[i + 1] + below[i + 2];
    const int smooth = ((around + 5 * here[i + 1] + 6) * 5042) >> 16;
    out[i] = blend(smooth, here[i + 1], factor);
  }
}

}  // namespace

// PIL leaves the pixels at the edge as they are.
void adjustSharpness(Tile& tile, float factor, PaddedTile& scratch) {
  if (tile.width < 3 || tile.height < 3) return;
  scratch.copy(tile);
  const size_t width = static_cast<size_t>(tile.width);
  for (int channel = 0; channel < 3; ++channel) {
    for (size_t y = 1; y + 1 < static_cast<size_t>(tile.height); ++y) {
      const uint8_t* here = scratch.plane(channel) + y * scratch.stride();
      sharpenRow(here - scratch.stride(), here, here + scratch.stride(), width - 2, factor,
                 tile.plane(channel) + y * width + 1);
    }
  }
}

}  // namespace moco::image
