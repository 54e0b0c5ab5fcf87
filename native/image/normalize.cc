#include "normalize.h"

#include <cstring>

#include "flip.h"
#include "simd.h"

namespace moco::image {
namespace {

// 1 / 255 in two parts, the first of 16 bits: a byte times it is exact, and so their sum is
// value / 255 rounded once, as the division rounds it (for all 256 values: a test compares them).
constexpr float kStep = 0x1.0101p-8f;
constexpr float kStepRest = static_cast<float>(1.0 / 255.0 - 0x1.0101p-8);

#if defined(MOCO_AVX2)

// A register of mean and deviation is quicker than a look-up for each value.
MOCO_AVX2 inline __m256 normalizedAvx2(__m256i bytes, __m256 mean, __m256 deviation) {
  const __m256 value = _mm256_cvtepi32_ps(bytes);
  const __m256 scaled = _mm256_add_ps(_mm256_mul_ps(value, _mm256_set1_ps(kStep)),
                                      _mm256_mul_ps(value, _mm256_set1_ps(kStepRest)));
  return _mm256_div_ps(_mm256_sub_ps(scaled, mean), deviation);
}

// A multiple of eight values; flipped, they are read backwards from the end.
template <bool kFlip>
MOCO_AVX2 void normalizeAvx2(const uint8_t* in, size_t count, float mean, float deviation,
                             float* out) {
  const __m256 means = _mm256_set1_ps(mean);
  const __m256 deviations = _mm256_set1_ps(deviation);
  const __m256i backwards = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  for (size_t x = 0; x < count; x += 8) {
    __m256i bytes = widenAvx2(kFlip ? in + count - 8 - x : in + x);
    if (kFlip) bytes = _mm256_permutevar8x32_epi32(bytes, backwards);
    // Ordinary stores: streaming ones were slower, even into a batch larger than the cache.
    _mm256_storeu_ps(out + x, normalizedAvx2(bytes, means, deviations));
  }
}

#endif

// One row, or a whole plane where nothing is flipped.
void normalize(const uint8_t* in, size_t count, bool flip, const Normalization& normalization,
               int channel, float* out) {
  const float* table = normalization.table(channel);
  size_t x = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2()) {
    const float mean = normalization.mean[static_cast<size_t>(channel)];
    const float deviation = normalization.std[static_cast<size_t>(channel)];
    x = count / 8 * 8;
    if (flip) {
      normalizeAvx2<true>(in + count - x, x, mean, deviation, out);
    } else {
      normalizeAvx2<false>(in, x, mean, deviation, out);
    }
  }
#endif
  if (flip) {
    for (; x < count; ++x) out[x] = table[in[count - 1 - x]];
  } else {
    for (; x < count; ++x) out[x] = table[in[x]];
  }
}

}  // namespace

Normalization::Normalization(const std::array<float, 3>& mean, const std::array<float, 3>& std)
    : mean(mean), std(std) {
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t value = 0; value < 256; ++value) {
      const float scaled = static_cast<float>(value) / 255.0f;
      const float centered = scaled - mean[channel];
      tables[channel][value] = centered / std[channel];
    }
  }
}

void writeNormalized(const Tile& tile, bool flip, const Normalization& normalization, float* out) {
  const size_t width = flip ? static_cast<size_t>(tile.width) : tile.area();
  for (int channel = 0; channel < 3; ++channel) {
    const uint8_t* in = tile.plane(tile.planes == 1 ? 0 : channel);
    for (size_t at = 0; at < tile.area(); at += width, out += width) {
      normalize(in + at, width, flip, normalization, channel, out);
    }
  }
}

void writeBytes(const Tile& tile, bool flip, uint8_t* out) {
  const size_t width = static_cast<size_t>(tile.width);
  for (int channel = 0; channel < 3; ++channel, out += tile.area()) {
    const uint8_t* in = tile.plane(tile.planes == 1 ? 0 : channel);
    if (!flip) {
      std::memcpy(out, in, tile.area());
      continue;
    }
    for (size_t at = 0; at < tile.area(); at += width) reverseRow(in + at, width, out + at);
  }
}

}  // namespace moco::image
