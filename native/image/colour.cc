#include "colour.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "blend.h"
#include "simd.h"

namespace moco::image {
namespace {

// ITU-R 601 luma in 16-bit fixed point.
inline int luma(int red, int green, int blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

#if defined(MOCO_AVX2)

// Up to here the mixed value fits an integer, whose saturation to a byte is the clipping.
constexpr float kLargestFactor = 4e6f;

MOCO_AVX2 inline __m256i blendAvx2(__m256i degenerate, __m256i value, __m256 factor) {
  const __m256 distance = _mm256_cvtepi32_ps(_mm256_sub_epi32(value, degenerate));
  const __m256 start = _mm256_cvtepi32_ps(degenerate);
  return _mm256_cvttps_epi32(_mm256_add_ps(start, _mm256_mul_ps(factor, distance)));
}

MOCO_AVX2 inline __m256i blendWithBlackAvx2(__m256i value, __m256 factor) {
  return _mm256_cvttps_epi32(_mm256_mul_ps(factor, _mm256_cvtepi32_ps(value)));
}

MOCO_AVX2 void blendWithConstantAvx2(uint8_t* bytes, size_t count, int constant, float factor) {
  const __m256i degenerate = _mm256_set1_epi32(constant);
  const __m256 factors = _mm256_set1_ps(factor);
  if (constant == 0) {
    for (size_t i = 0; i < count; i += 32) {
      uint8_t* at = bytes + i;
      storeAvx2(at, narrowAvx2(blendWithBlackAvx2(widenAvx2(at), factors),
                               blendWithBlackAvx2(widenAvx2(at + 8), factors),
                               blendWithBlackAvx2(widenAvx2(at + 16), factors),
                               blendWithBlackAvx2(widenAvx2(at + 24), factors)));
    }
    return;
  }
  for (size_t i = 0; i < count; i += 32) {
    uint8_t* at = bytes + i;
    storeAvx2(at, narrowAvx2(blendAvx2(degenerate, widenAvx2(at), factors),
                             blendAvx2(degenerate, widenAvx2(at + 8), factors),
                             blendAvx2(degenerate, widenAvx2(at + 16), factors),
                             blendAvx2(degenerate, widenAvx2(at + 24), factors)));
  }
}

MOCO_AVX2 inline __m256i lumaAvx2(__m256i red, __m256i green, __m256i blue) {
  const __m256i warm = _mm256_add_epi32(_mm256_mullo_epi32(red, _mm256_set1_epi32(19595)),
                                        _mm256_mullo_epi32(green, _mm256_set1_epi32(38470)));
  const __m256i cold = _mm256_add_epi32(_mm256_mullo_epi32(blue, _mm256_set1_epi32(7471)),
                                        _mm256_set1_epi32(0x8000));
  return _mm256_srli_epi32(_mm256_add_epi32(warm, cold), 16);
}

MOCO_AVX2 inline __m256i lumaAvx2(const uint8_t* red, const uint8_t* green, const uint8_t* blue) {
  return lumaAvx2(widenAvx2(red), widenAvx2(green), widenAvx2(blue));
}

MOCO_AVX2 uint32_t lumaSumAvx2(const uint8_t* red, const uint8_t* green, const uint8_t* blue,
                               size_t count) {
  __m256i sums = _mm256_setzero_si256();
  for (size_t i = 0; i < count; i += 8) {
    sums = _mm256_add_epi32(sums, lumaAvx2(red + i, green + i, blue + i));
  }
  uint32_t lanes[8];
  storeAvx2(lanes, sums);
  return std::accumulate(lanes, lanes + 8, 0u);
}

MOCO_AVX2 void lumaPlaneAvx2(uint8_t* red, const uint8_t* green, const uint8_t* blue,
                             size_t count) {
  for (size_t i = 0; i < count; i += 32) {
    __m256i gray[4];
    for (int k = 0; k < 4; ++k) {
      gray[k] = lumaAvx2(red + i + 8 * k, green + i + 8 * k, blue + i + 8 * k);
    }
    storeAvx2(red + i, narrowAvx2(gray[0], gray[1], gray[2], gray[3]));
  }
}

MOCO_AVX2 void blendWithLumaAvx2(uint8_t* red, uint8_t* green, uint8_t* blue, size_t count,
                                 float factor) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (size_t i = 0; i < count; i += 32) {
    __m256i r[4];
    __m256i g[4];
    __m256i b[4];
    for (int k = 0; k < 4; ++k) {
      r[k] = widenAvx2(red + i + 8 * k);
      g[k] = widenAvx2(green + i + 8 * k);
      b[k] = widenAvx2(blue + i + 8 * k);
      const __m256i gray = lumaAvx2(r[k], g[k], b[k]);
      r[k] = blendAvx2(gray, r[k], factors);
      g[k] = blendAvx2(gray, g[k], factors);
      b[k] = blendAvx2(gray, b[k], factors);
    }
    storeAvx2(red + i, narrowAvx2(r[0], r[1], r[2], r[3]));
    storeAvx2(green + i, narrowAvx2(g[0], g[1], g[2], g[3]));
    storeAvx2(blue + i, narrowAvx2(b[0], b[1], b[2], b[3]));
  }
}

#endif

void blendWithConstant(uint8_t* __restrict bytes, size_t count, int constant, float factor) {
  size_t i = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2() && std::abs(factor) < kLargestFactor) {
    i = count / 32 * 32;
    blendWithConstantAvx2(bytes, i, constant, factor);
  }
#endif
  for (; i < count; ++i) bytes[i] = blend(constant, bytes[i], factor);
}

void blendWithLuma(uint8_t* __restrict red, uint8_t* __restrict green, uint8_t* __restrict blue,
                   size_t count, float factor) {
  size_t i = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2() && std::abs(factor) < kLargestFactor) {
    i = count / 32 * 32;
    blendWithLumaAvx2(red, green, blue, i, factor);
  }
#endif
  for (; i < count; ++i) {
    const int gray = luma(red[i], green[i], blue[i]);
    red[i] = blend(gray, red[i], factor);
    green[i] = blend(gray, green[i], factor);
    blue[i] = blend(gray, blue[i], factor);
  }
}

uint32_t lumaSum(const uint8_t* __restrict red, const uint8_t* __restrict green,
                 const uint8_t* __restrict blue, size_t count) {
  size_t i = 0;
  uint32_t sum = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2()) {
    i = count / 8 * 8;
    sum = lumaSumAvx2(red, green, blue, i);
  }
#endif
  for (; i < count; ++i) sum += static_cast<uint32_t>(luma(red[i], green[i], blue[i]));
  return sum;
}

void lumaPlane(uint8_t* __restrict red, const uint8_t* __restrict green,
               const uint8_t* __restrict blue, size_t count) {
  size_t i = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2()) {
    i = count / 32 * 32;
    lumaPlaneAvx2(red, green, blue, i);
  }
#endif
  for (; i < count; ++i) red[i] = static_cast<uint8_t>(luma(red[i], green[i], blue[i]));
}

MOCO_SIMD void invertFrom(uint8_t* __restrict bytes, size_t count, uint8_t threshold) {
  for (size_t i = 0; i < count; ++i) {
    const uint8_t value = bytes[i];
    bytes[i] = value < threshold ? value : static_cast<uint8_t>(255 - value);
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
