// Decoded samples of other layouts to 8-bit RGB, as PIL's convert("RGB") does it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moco::image {

// Ink amounts, 0 for none (Adobe's inverted files already turned round).
void cmykToRgb(const uint8_t* cmyk, size_t pixels, uint8_t* rgb);

}  // namespace moco::image
