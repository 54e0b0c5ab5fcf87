#include <algorithm>

#include "colour.h"
#include "simd.h"

namespace moco::image {
namespace {

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
void shiftHuePlain(uint8_t* __restrict red, uint8_t* __restrict green, uint8_t* __restrict blue,
                   size_t first, size_t count, int shift) {
  for (size_t i = first; i < count; ++i) {
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

#if defined(MOCO_AVX2)

struct Pixels {
  __m256i red;
  __m256i green;
  __m256i blue;
};

struct Hsv {
  __m256i hue;
  __m256i saturation;
  __m256i value;
};

// What the quotients need of each pixel. The hue in sixths of a turn is offset + distance / range,
// or minus where `negative` is all ones; saturation is range / value.
constexpr size_t kPiece = 1024;
struct Piece {
  uint8_t offsets[kPiece];
  uint8_t distances[kPiece];
  uint8_t negatives[kPiece];
  uint8_t ranges[kPiece];
  uint8_t values[kPiece];
  uint8_t hues[kPiece];
  uint8_t saturations[kPiece];
};

MOCO_AVX2 inline void compareAvx2(const Pixels& in, Piece& piece, size_t i) {
  const __m256i larger = _mm256_max_epu8(in.red, in.green);
  const __m256i smaller = _mm256_min_epu8(in.red, in.green);
  const __m256i high = _mm256_max_epu8(larger, in.blue);
  const __m256i low = _mm256_min_epu8(smaller, in.blue);
  const __m256i middle = _mm256_max_epu8(smaller, _mm256_min_epu8(larger, in.blue));
  const __m256i redHigh = _mm256_cmpeq_epi8(in.red, high);
  const __m256i greenHigh = _mm256_andnot_si256(redHigh, _mm256_cmpeq_epi8(in.green, high));
  const __m256i lowest =
      _mm256_blendv_epi8(_mm256_blendv_epi8(in.green, in.red, greenHigh), in.blue, redHigh);
  const __m256i ascending = _mm256_cmpeq_epi8(lowest, low);
  const __m256i highest = _mm256_add_epi8(_mm256_and_si256(redHigh, _mm256_set1_epi8(-4)),
                                          _mm256_and_si256(greenHigh, _mm256_set1_epi8(-2)));
  const __m256i rising = _mm256_and_si256(ascending, _mm256_set1_epi8(2));
  storeAvx2(piece.offsets + i,
            _mm256_add_epi8(_mm256_add_epi8(highest, rising), _mm256_set1_epi8(3)));
  storeAvx2(piece.distances + i, _mm256_sub_epi8(high, middle));
  storeAvx2(piece.negatives + i, ascending);
  storeAvx2(piece.ranges + i, _mm256_sub_epi8(high, low));
  storeAvx2(piece.values + i, high);
}

// Step by step as in the plain loop, since the rounding shows. 0 / 0, the hue of grays and the
// saturation of black, converts to the least integer and is clipped to 0.
MOCO_AVX2 inline void divideAvx2(Piece& piece, size_t i) {
  __m256i hue[4];
  __m256i saturation[4];
  const __m256 full = _mm256_set1_ps(255.0f);
  for (size_t k = 0; k < 4; ++k) {
    const size_t at = i + 8 * k;
    const __m256 distance = _mm256_cvtepi32_ps(widenAvx2(piece.distances + at));
    const __m256 range = _mm256_cvtepi32_ps(widenAvx2(piece.ranges + at));
    const __m256 value = _mm256_cvtepi32_ps(widenAvx2(piece.values + at));
    const __m128i offset = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(piece.offsets + at));
    const __m256 sign = _mm256_castsi256_ps(_mm256_slli_epi32(widenAvx2(piece.negatives + at), 31));
    const __m256 fraction = _mm256_xor_ps(_mm256_div_ps(distance, range), sign);
    const __m256 sixths = _mm256_add_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(offset)), fraction);
    const __m256 below = _mm256_cmp_ps(sixths, _mm256_setzero_ps(), _CMP_LT_OQ);
    const __m256 turn = _mm256_add_ps(_mm256_div_ps(sixths, _mm256_set1_ps(6.0f)),
                                      _mm256_and_ps(below, _mm256_set1_ps(1.0f)));
    hue[k] = _mm256_cvttps_epi32(_mm256_mul_ps(turn, full));
    saturation[k] = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_div_ps(range, value), full));
  }
  storeAvx2(piece.hues + i, narrowAvx2(hue[0], hue[1], hue[2], hue[3]));
  storeAvx2(piece.saturations + i,
            narrowAvx2(saturation[0], saturation[1], saturation[2], saturation[3]));
}

// Sixteen-bit lanes: how far a channel is from its lowest, 0 to 255, at the hue's distance from
// the place where the channel is highest, in 255ths of a sixth of a turn.
MOCO_AVX2 inline __m256i heightAvx2(__m256i sixths, int center) {
  const __m256i distance =
      _mm256_abs_epi16(_mm256_sub_epi16(sixths, _mm256_set1_epi16(static_cast<int16_t>(center))));
  return _mm256_min_epi16(_mm256_subs_epu16(_mm256_set1_epi16(510), distance),
                          _mm256_set1_epi16(255));
}

// Red is highest where the turn begins and ends, so it is lowest around the middle.
MOCO_AVX2 inline __m256i redHeightAvx2(__m256i sixths) {
  const __m256i distance = _mm256_abs_epi16(_mm256_sub_epi16(sixths, _mm256_set1_epi16(765)));
  return _mm256_min_epi16(_mm256_subs_epu16(distance, _mm256_set1_epi16(255)),
                          _mm256_set1_epi16(255));
}

// value * portion / 255^2, rounded. Interleaving with zeros widens in an order that the packs undo.
struct Scale {
  __m256 by[4];
};

MOCO_AVX2 inline __m256i scaledAvx2(const Scale& scale, __m256i low, __m256i high) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i portion[4] = {_mm256_unpacklo_epi16(low, zero), _mm256_unpackhi_epi16(low, zero),
                              _mm256_unpacklo_epi16(high, zero), _mm256_unpackhi_epi16(high, zero)};
  __m256i result[4];
  for (int k = 0; k < 4; ++k) {
    result[k] = _mm256_cvtps_epi32(_mm256_mul_ps(scale.by[k], _mm256_cvtepi32_ps(portion[k])));
  }
  return _mm256_packus_epi16(_mm256_packs_epi32(result[0], result[1]),
                             _mm256_packs_epi32(result[2], result[3]));
}

// Every channel is value * (1 - saturation * (1 - height)); in whole numbers and rounded once, it
// gives the same bytes as PIL's cases for all 2^24 triples (checked exhaustively).
MOCO_AVX2 inline Pixels toRgbAvx2(const Hsv& in) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i value[2] = {_mm256_unpacklo_epi8(in.value, zero),
                            _mm256_unpackhi_epi8(in.value, zero)};
  Scale scale;
  for (int k = 0; k < 4; ++k) {
    const __m256i wide = k % 2 == 0 ? _mm256_unpacklo_epi16(value[k / 2], zero)
                                    : _mm256_unpackhi_epi16(value[k / 2], zero);
    scale.by[k] = _mm256_mul_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(1.0f / 65025.0f));
  }
  __m256i red[2];
  __m256i green[2];
  __m256i blue[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i hue =
        half == 0 ? _mm256_unpacklo_epi8(in.hue, zero) : _mm256_unpackhi_epi8(in.hue, zero);
    const __m256i saturation = half == 0 ? _mm256_unpacklo_epi8(in.saturation, zero)
                                         : _mm256_unpackhi_epi8(in.saturation, zero);
    const __m256i sixths = _mm256_mullo_epi16(hue, _mm256_set1_epi16(6));
    const __m256i lowest = _mm256_mullo_epi16(_mm256_sub_epi16(_mm256_set1_epi16(255), saturation),
                                              _mm256_set1_epi16(255));
    red[half] = _mm256_add_epi16(lowest, _mm256_mullo_epi16(saturation, redHeightAvx2(sixths)));
    green[half] = _mm256_add_epi16(lowest, _mm256_mullo_epi16(saturation, heightAvx2(sixths, 510)));
    blue[half] = _mm256_add_epi16(lowest, _mm256_mullo_epi16(saturation, heightAvx2(sixths, 1020)));
  }
  return {scaledAvx2(scale, red[0], red[1]), scaledAvx2(scale, green[0], green[1]),
          scaledAvx2(scale, blue[0], blue[1])};
}

// In three loops: the steps of one pixel depend on each other, and in one loop the processor would
// see too few pixels at once to hide that.
MOCO_AVX2 void shiftHueAvx2(uint8_t* red, uint8_t* green, uint8_t* blue, size_t count, int shift) {
  Piece piece;
  const __m256i turn = _mm256_set1_epi8(static_cast<char>(shift));
  for (size_t at = 0; at < count; at += kPiece) {
    const size_t size = std::min(kPiece, count - at);
    for (size_t i = 0; i < size; i += 32) {
      compareAvx2({loadAvx2(red + at + i), loadAvx2(green + at + i), loadAvx2(blue + at + i)},
                  piece, i);
    }
    for (size_t i = 0; i < size; i += 32) divideAvx2(piece, i);
    for (size_t i = 0; i < size; i += 32) {
      const __m256i hue = _mm256_add_epi8(loadAvx2(piece.hues + i), turn);
      const Pixels out =
          toRgbAvx2({hue, loadAvx2(piece.saturations + i), loadAvx2(piece.values + i)});
      storeAvx2(red + at + i, out.red);
      storeAvx2(green + at + i, out.green);
      storeAvx2(blue + at + i, out.blue);
    }
  }
}

#endif

}  // namespace

void shiftHue(Tile& tile, int shift) {
  size_t done = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2()) {
    done = tile.area() / 32 * 32;
    shiftHueAvx2(tile.plane(0), tile.plane(1), tile.plane(2), done, shift);
  }
#endif
  shiftHuePlain(tile.plane(0), tile.plane(1), tile.plane(2), done, tile.area(), shift);
}

}  // namespace moco::image
