#include "resample.h"

#include <algorithm>
#include <cstring>

#include "simd.h"
#include "transpose.h"

namespace moco::image {
namespace {

// Bytes of a pixel's three channels in a block of rows.
constexpr int kLanes = 3 * kBlockRows;
// Columns of the vertical pass held in registers at once.
constexpr int kStrip = 32;
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

int roundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

uint8_t rounded(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

// Where output i of the horizontal pass finds its first input among the columns.
size_t columnOf(const Weights& weights, int i) {
  return static_cast<size_t>(weights.start[static_cast<size_t>(i)] - weights.begin()) * kLanes;
}

const int32_t* weightsOf(const Weights& weights, int i) {
  return weights.values.data() + static_cast<size_t>(i) * static_cast<size_t>(weights.stride);
}

// Bytes of a row that the outputs first .. end - 1 need, from the first that any output needs.
int bytesFor(const Weights& weights, int first, int end) {
  int last = 0;
  for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(end); ++i) {
    last = std::max(last, weights.start[i] + weights.taps[i]);
  }
  return 3 * (last - weights.begin());
}

#if defined(MOCO_AVX2)

// Eight lanes of the sum over t of weights[t] * in[t * step + lane].
template <int kTaps>
MOCO_AVX2 inline __m256i sumAvx2(const uint8_t* in, size_t step, const __m256i* weights) {
  __m256i sum = _mm256_set1_epi32(kHalf);
  for (int t = 0; t < kTaps; ++t, in += step) {
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(widenAvx2(in), weights[t]));
  }
  return sum;
}

MOCO_AVX2 inline void storeSumsAvx2(const __m256i (&sum)[4], uint8_t* out) {
  storeAvx2(
      out,
      narrowAvx2(_mm256_srai_epi32(sum[0], kWeightBits), _mm256_srai_epi32(sum[1], kWeightBits),
                 _mm256_srai_epi32(sum[2], kWeightBits), _mm256_srai_epi32(sum[3], kWeightBits)));
}

template <int kTaps>
MOCO_AVX2 inline void blendFewAvx2(const uint8_t* in, size_t step, const int32_t* values, int lanes,
                                   uint8_t* out) {
  __m256i weights[kTaps];
  for (int t = 0; t < kTaps; ++t) weights[t] = _mm256_set1_epi32(values[t]);
  for (int l = 0; l < lanes; l += kStrip) {
    const __m256i sum[4] = {
        sumAvx2<kTaps>(in + l, step, weights), sumAvx2<kTaps>(in + l + 8, step, weights),
        sumAvx2<kTaps>(in + l + 16, step, weights), sumAvx2<kTaps>(in + l + 24, step, weights)};
    storeSumsAvx2(sum, out + l);
  }
}

MOCO_AVX2 inline void blendManyAvx2(const uint8_t* in, size_t step, const int32_t* values, int taps,
                                    int lanes, uint8_t* out) {
  for (int l = 0; l < lanes; l += kStrip) {
    __m256i sum[4];
    for (__m256i& each : sum) each = _mm256_set1_epi32(kHalf);
    const uint8_t* at = in + l;
    for (int t = 0; t < taps; ++t, at += step) {
      const __m256i weight = _mm256_set1_epi32(values[t]);
      for (int i = 0; i < 4; ++i) {
        sum[i] = _mm256_add_epi32(sum[i], _mm256_mullo_epi32(widenAvx2(at + 8 * i), weight));
      }
    }
    storeSumsAvx2(sum, out + l);
  }
}

// out[l] = the sum over t of values[t] * in[t * step + l], rounded, for a multiple of 32 lanes.
// A crop that is enlarged has two taps (four where it is bicubic), one that is reduced to a half
// four or five (eight or nine); unrolled, weights and sums stay in registers.
MOCO_AVX2 inline void blendAvx2(const uint8_t* in, size_t step, const int32_t* values, int taps,
                                int lanes, uint8_t* out) {
  switch (taps) {
    case 1:
      return blendFewAvx2<1>(in, step, values, lanes, out);
    case 2:
      return blendFewAvx2<2>(in, step, values, lanes, out);
    case 3:
      return blendFewAvx2<3>(in, step, values, lanes, out);
    case 4:
      return blendFewAvx2<4>(in, step, values, lanes, out);
    case 5:
      return blendFewAvx2<5>(in, step, values, lanes, out);
    case 6:
      return blendFewAvx2<6>(in, step, values, lanes, out);
    case 7:
      return blendFewAvx2<7>(in, step, values, lanes, out);
    case 8:
      return blendFewAvx2<8>(in, step, values, lanes, out);
    default:
      return blendManyAvx2(in, step, values, taps, lanes, out);
  }
}

MOCO_AVX2 void resizeBlockAvx2(const uint8_t* const in[kBlockRows], int byteCount,
                               const Weights& weights, int count, uint8_t* columns, uint8_t* out,
                               size_t rowBytes) {
  uint8_t blended[kBlockBytes * kLanes];
  int ready = 0;
  for (int o = 0; o < count; o += kBlockBytes) {
    const int end = std::min(o + kBlockBytes, count);
    for (const int needed = bytesFor(weights, o, end); ready < needed; ready += kBlockBytes) {
      // The last one overlaps the one before.
      const size_t at = static_cast<size_t>(std::min(ready, byteCount - kBlockBytes));
      rowsToColumnsAvx2(in, at, columns + at * kBlockRows);
    }
    for (int i = o; i < end; ++i) {
      blendAvx2(columns + columnOf(weights, i), kLanes, weightsOf(weights, i),
                weights.taps[static_cast<size_t>(i)], kLanes, blended + (i - o) * kLanes);
    }
    for (int channel = 0; channel < 3; ++channel) {
      columnsToRowsAvx2(blended + channel * kBlockRows, kLanes,
                        out + static_cast<size_t>(channel) * (rowBytes / 3) + o, rowBytes);
    }
  }
}

MOCO_AVX2 void blendRowsAvx2(const uint8_t* rows, size_t rowBytes, const int32_t* weights, int taps,
                             int width, uint8_t* out) {
  const int whole = width / kStrip * kStrip;
  blendAvx2(rows, rowBytes, weights, taps, whole, out);
  if (whole == width) return;
  uint8_t strip[kStrip];
  blendAvx2(rows + whole, rowBytes, weights, taps, kStrip, strip);
  std::memcpy(out + whole, strip, static_cast<size_t>(width - whole));
}

#endif

// The same for every processor; the compiler vectorises the inner loops.
template <int kCount>
inline void blend(const uint8_t* __restrict in, size_t step, const int32_t* __restrict weights,
                  int taps, uint8_t* __restrict out) {
  int32_t sum[kCount];
  for (int l = 0; l < kCount; ++l) sum[l] = kHalf;
  for (int t = 0; t < taps; ++t, in += step) {
    const int32_t weight = weights[t];
    for (int l = 0; l < kCount; ++l) sum[l] += weight * in[l];
  }
  for (int l = 0; l < kCount; ++l) out[l] = rounded(sum[l]);
}

// The horizontal pass over thirty-two rows of `byteCount` bytes, pixels interleaved. They become
// columns: byte b of row r lands at b * 32 + r, so that the three channels of a pixel make 96 lanes
// and each output pixel is a weighted sum of neighbouring groups of 96; then rows again: channel c
// of row r at out + r * rowBytes + c * rowBytes / 3. Sixteen outputs at a time, which stay in the
// first cache.
void resizeBlock(const uint8_t* const in[kBlockRows], int byteCount, const Weights& weights,
                 int count, uint8_t* columns, uint8_t* out, size_t rowBytes) {
#if defined(MOCO_AVX2)
  if (hasAvx2() && byteCount >= kBlockBytes) {
    return resizeBlockAvx2(in, byteCount, weights, count, columns, out, rowBytes);
  }
#endif
  uint8_t blended[kBlockBytes * kLanes];
  int ready = 0;
  for (int o = 0; o < count; o += kBlockBytes) {
    const int end = std::min(o + kBlockBytes, count);
    for (const int needed = bytesFor(weights, o, end); ready < needed; ready += kBlockBytes) {
      rowsToColumns(in, ready, std::min(kBlockBytes, byteCount - ready),
                    columns + static_cast<size_t>(ready) * kBlockRows);
    }
    for (int i = o; i < end; ++i) {
      const uint8_t* from = columns + columnOf(weights, i);
      uint8_t* to = blended + (i - o) * kLanes;
      for (int channel = 0; channel < 3; ++channel, from += kBlockRows, to += kBlockRows) {
        blend<kBlockRows>(from, kLanes, weightsOf(weights, i), weights.taps[static_cast<size_t>(i)],
                          to);
      }
    }
    for (int channel = 0; channel < 3; ++channel) {
      columnsToRows(blended + channel * kBlockRows, kLanes,
                    out + static_cast<size_t>(channel) * (rowBytes / 3) + o, rowBytes);
    }
  }
}

void blendRows(const uint8_t* rows, size_t rowBytes, const int32_t* weights, int taps, int width,
               uint8_t* out) {
#if defined(MOCO_AVX2)
  if (hasAvx2()) return blendRowsAvx2(rows, rowBytes, weights, taps, width, out);
#endif
  for (int x = 0; x < width; x += kStrip) {
    uint8_t strip[kStrip];
    blend<kStrip>(rows + x, rowBytes, weights, taps, strip);
    std::memcpy(out + x, strip, static_cast<size_t>(std::min(kStrip, width - x)));
  }
}

}  // namespace

void cropResize(const Source& source, const Box& crop, Interpolation interpolation,
                int resizedWidth, int resizedHeight, const Box& window, ResampleScratch& scratch,
                Tile& out) {
  out.resize(window.width, window.height);
  Weights& across = scratch.across;
  Weights& down = scratch.down;
  filterWeights(interpolation, crop.width, resizedWidth, window.left, window.width, across);
  filterWeights(interpolation, crop.height, resizedHeight, window.top, window.height, down);

  // Only the input that the window needs.
  const int byteCount = (across.end() - across.begin()) * 3;
  const int firstRow = down.begin();
  const int endRow = down.end();
  const uint8_t* pixels = source.pixels + static_cast<size_t>(crop.left + across.begin()) * 3 +
                          static_cast<size_t>(crop.top) * source.stride;

  // Both passes go down the image together, so what lies between them stays in the cache and is
  // small however tall the crop is: `rows` holds the resized rows from `from` to before `have`.
  const size_t rowBytes = 3 * static_cast<size_t>(roundUp(window.width, kStrip));
  uint8_t* columns = scratch.columns.require(static_cast<size_t>(byteCount) * kBlockRows);
  uint8_t* rows = scratch.rows.require(static_cast<size_t>(down.span() + kBlockRows) * rowBytes);
  int from = firstRow;
  int have = firstRow;
  for (size_t y = 0; y < static_cast<size_t>(window.height); ++y) {
    while (have < down.start[y] + down.taps[y]) {
      const int kept = std::max(have - down.from[y], 0);
      std::memmove(rows, rows + static_cast<size_t>(have - kept - from) * rowBytes,
                   static_cast<size_t>(kept) * rowBytes);
      from = have - kept;
      const uint8_t* in[kBlockRows];
      for (int r = 0; r < kBlockRows; ++r) {
        // Rows beyond the last one repeat it; their results are never read.
        in[r] = pixels + static_cast<size_t>(std::min(have + r, endRow - 1)) * source.stride;
      }
      resizeBlock(in, byteCount, across, window.width, columns,
                  rows + static_cast<size_t>(kept) * rowBytes, rowBytes);
      have += kBlockRows;
    }
    const uint8_t* in = rows + static_cast<size_t>(down.start[y] - from) * rowBytes;
    const int32_t* weights = down.values.data() + y * static_cast<size_t>(down.stride);
    for (int channel = 0; channel < 3; ++channel, in += rowBytes / 3) {
      blendRows(in, rowBytes, weights, down.taps[y], window.width,
                out.plane(channel) + y * static_cast<size_t>(window.width));
    }
  }
}

}  // namespace moco::image
