#include "colour.h"

#include <algorithm>
#include <cstring>

#include "simd.h"

namespace moco::image {
namespace {

// ITU-R 601 luma in 16-bit fixed point.
inline int luma(int red, int green, int blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

// PIL's blend: single precision, truncated, clipped.
inline uint8_t blend(int degenerate, int value, float factor) {
  const float mixed =
      static_cast<float>(degenerate) + factor * static_cast<float>(value - degenerate);
  // Clipped first: whatever the factor, the conversion stays in range.
  const float clipped = mixed < 0.0f ? 0.0f : (mixed > 255.0f ? 255.0f : mixed);
  return static_cast<uint8_t>(static_cast<int>(clipped));
}

MOCO_SIMD void blendWithConstant(uint8_t* __restrict bytes, size_t count, int constant,
                                 float factor) {
  for (size_t i = 0; i < count; ++i) bytes[i] = blend(constant, bytes[i], factor);
}

MOCO_SIMD uint32_t lumaSum(const uint8_t* __restrict red, const uint8_t* __restrict green,
                           const uint8_t* __restrict blue, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += static_cast<uint32_t>(luma(red[i], green[i], blue[i]));
  }
  return sum;
}

MOCO_SIMD void blendWithLuma(uint8_t* __restrict red, uint8_t* __restrict green,
                             uint8_t* __restrict blue, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) {
    const int gray = luma(red[i], green[i], blue[i]);
    red[i] = blend(gray, red[i], factor);
    green[i] = blend(gray, green[i], factor);
    blue[i] = blend(gray, blue[i], factor);
  }
}

MOCO_SIMD void lumaPlane(uint8_t* __restrict red, const uint8_t* __restrict green,
                         const uint8_t* __restrict blue, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    red[i] = static_cast<uint8_t>(luma(red[i], green[i], blue[i]));
  }
}

MOCO_SIMD void invertFrom(uint8_t* __restrict bytes, size_t count, uint8_t threshold) {
  for (size_t i = 0; i < count; ++i) {
    const uint8_t value = bytes[i];
    bytes[i] = value < threshold ? value : static_cast<uint8_t>(255 - value);
  }
}

// `value` where `condition` is 1, 0 where it is 0; branches would keep the loop scalar.
inline int keepIf(int condition, int value) { return -condition & value; }

// All bits set where first <= value <= last; comparisons the compiler would turn into bit tests,
// which have no vector form.
inline int between(int value, int first, int last) {
  return ~(((value - first) | (last - value)) >> 31);
}

// RGB to 8-bit HSV, the hue shifted, and back to RGB, per pixel. PIL computes parts of this in
// double; single precision in exactly this order gives the same bytes for all 2^24 colours and
// every hue (checked exhaustively), at twice the lanes.
MOCO_SIMD void shiftHuePlanes(uint8_t* __restrict red, uint8_t* __restrict green,
                              uint8_t* __restrict blue, size_t count, int shift) {
  for (size_t i = 0; i < count; ++i) {
    const int r = red[i];
    const int g = green[i];
    const int b = blue[i];
    const int high = std::max(r, std::max(g, b));
    const int low = std::min(r, std::min(g, b));
    const int middle = r + g + b - high - low;

    // The hue in sixths of a turn is an odd offset plus or minus one fraction; which, depends on
    // the channels that are highest and lowest. Red wins ties for the highest, then green.
    const int redHigh = r == high;
    const int greenHigh = (r != high) & (g == high);
    const int lowest = g + keepIf(redHigh, b - g) + keepIf(greenHigh, r - g);
    const int ascending = lowest == low;
    const float offset = static_cast<float>(3 - 4 * redHigh - 2 * greenHigh + 2 * ascending);
    const int distance = high - middle - keepIf(ascending, 2 * (high - middle));
    const float fraction =
        static_cast<float>(distance) / static_cast<float>(std::max(high - low, 1));
    const float sixths = offset + fraction;
    const float turn = sixths / 6.0f + (sixths < 0.0f ? 1.0f : 0.0f);
    const int hue = static_cast<int>(turn * 255.0f);
    const float chroma = static_cast<float>(high - low) / static_cast<float>(std::max(high, 1));
    const float saturation = static_cast<float>(static_cast<int>(chroma * 255.0f)) / 255.0f;

    const int shifted = ((hue + shift) & 255) * 6;
    const int turned = ((shifted + 1) * 257) >> 16;  // shifted / 255
    const float within = static_cast<float>(shifted - turned * 255) / 255.0f;
    const float rising = 1.0f - within;
    const int sector = turned - keepIf(turned == 6, 6);
    const int odd = sector & 1;
    const float slope = odd != 0 ? within : rising;
    const float value = static_cast<float>(high);
    const int bottom = static_cast<int>(value * (1.0f - saturation) + 0.5f);
    const int ramp = static_cast<int>(value * (1.0f - saturation * slope) + 0.5f);

    // In each sixth of a turn one channel is highest, one lowest and one on the ramp.
    const int toHigh = high - ramp;
    const int toBottom = bottom - ramp;
    red[i] = static_cast<uint8_t>(ramp + (~between(sector, 1, 4) & toHigh) +
                                  (between(sector, 2, 3) & toBottom));
    green[i] = static_cast<uint8_t>(ramp + (between(sector, 1, 2) & toHigh) +
                                    (between(sector, 4, 5) & toBottom));
    blue[i] = static_cast<uint8_t>(ramp + (between(sector, 3, 4) & toHigh) +
                                   (between(sector, 0, 1) & toBottom));
  }
}

}  // namespace

void adjustBrightness(Tile& tile, float factor) {
  blendWithConstant(tile.bytes.data(), 3 * tile.area(), 0, factor);
}

void adjustContrast(Tile& tile, float factor) {
  // In pieces whose sum of 8-bit values fits 32 bits.
  constexpr size_t kPiece = size_t{1} << 24;
  uint64_t sum = 0;
  for (size_t at = 0; at < tile.area(); at += kPiece) {
    sum += lumaSum(tile.plane(0) + at, tile.plane(1) + at, tile.plane(2) + at,
                   std::min(kPiece, tile.area() - at));
  }
  const int mean =
      static_cast<int>(static_cast<double>(sum) / static_cast<double>(tile.area()) + 0.5);
  blendWithConstant(tile.bytes.data(), 3 * tile.area(), mean, factor);
}

void adjustSaturation(Tile& tile, float factor) {
  blendWithLuma(tile.plane(0), tile.plane(1), tile.plane(2), tile.area(), factor);
}

void shiftHue(Tile& tile, int shift) {
  shiftHuePlanes(tile.plane(0), tile.plane(1), tile.plane(2), tile.area(), shift);
}

void toGrayscale(Tile& tile) {
  lumaPlane(tile.plane(0), tile.plane(1), tile.plane(2), tile.area());
  tile.planes = 1;
}

void solarize(Tile& tile, int threshold) {
  const size_t count = static_cast<size_t>(tile.planes) * tile.area();
  if (threshold > 255) return;
  invertFrom(tile.bytes.data(), count, static_cast<uint8_t>(std::max(threshold, 0)));
}

}  // namespace moco::image
