#include "convert.h"

#include "simd.h"

namespace moco::image {

MOCO_SIMD void cmykToRgb(const uint8_t* __restrict cmyk, size_t pixels, uint8_t* __restrict rgb) {
  for (size_t i = 0; i < pixels; ++i) {
    const int light = 255 - cmyk[4 * i + 3];
    for (int channel = 0; channel < 3; ++channel) {
      // x / 255 rounded, without a division.
      const int product = cmyk[4 * i + channel] * light + 128;
      rgb[3 * i + channel] = static_cast<uint8_t>(light - ((product + (product >> 8)) >> 8));
    }
  }
}

}  // namespace moco::image
