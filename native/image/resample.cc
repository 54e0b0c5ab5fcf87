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

uint8_t rounded(int32_t sum) { return static_cast<uint8_t>(std::min(sum >> kWeightBits, 255)); }

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
// A crop that is enlarged has two taps, one that is reduced to a half four or five; unrolled,
// weights and sums stay in registers.
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
    default:
      return blendManyAvx2(in, step, values, taps, lanes, out);
  }
}

MOCO_AVX2 void toColumnsAvx2(const uint8_t* const rows[kBlockRows], int byteCount, uint8_t* out) {
  for (int b = 0; b < byteCount; b += kBlockBytes) {
    // The last block overlaps the one before.
    const size_t at = static_cast<size_t>(std::min(b, byteCount - kBlockBytes));
    rowsToColumnsAvx2(rows, at, out + at * kBlockRows);
  }
}

MOCO_AVX2 void blendColumnsAvx2(const uint8_t* columns, const Weights& weights, int count,
                                uint8_t* out) {
  const int32_t* values = weights.values.data();
  for (int o = 0; o < count; ++o, values += weights.stride, out += kLanes) {
    const int at = weights.start[static_cast<size_t>(o)] - weights.begin();
    blendAvx2(columns + static_cast<size_t>(at) * kLanes, kLanes, values,
              weights.taps[static_cast<size_t>(o)], kLanes, out);
  }
}

MOCO_AVX2 void toRowsAvx2(const uint8_t* columns, int count, uint8_t* rows, size_t rowBytes) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int o = 0; o < count; o += kBlockBytes) {
      columnsToRowsAvx2(columns + static_cast<size_t>(o) * kLanes + channel * kBlockRows, kLanes,
                        rows + static_cast<size_t>(channel) * (rowBytes / 3) + o, rowBytes);
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

// Thirty-two rows of interleaved pixels become columns: byte b of row r lands at b * 32 + r.
void toColumns(const uint8_t* const rows[kBlockRows], int byteCount, uint8_t* out) {
#if defined(MOCO_AVX2)
  if (hasAvx2() && byteCount >= kBlockBytes) return toColumnsAvx2(rows, byteCount, out);
#endif
  int b = 0;
  for (; b + kBlockBytes <= byteCount; b += kBlockBytes) {
    rowsToColumns(rows, static_cast<size_t>(b), out + static_cast<size_t>(b) * kBlockRows);
  }
  for (; b < byteCount; ++b) {
    for (int r = 0; r < kBlockRows; ++r) out[static_cast<size_t>(b) * kBlockRows + r] = rows[r][b];
  }
}

// The three channels of the block's rows make 96 lanes; each output pixel is a weighted sum of
// neighbouring groups of 96.
void blendColumns(const uint8_t* columns, const Weights& weights, int count, uint8_t* out) {
#if defined(MOCO_AVX2)
  if (hasAvx2()) return blendColumnsAvx2(columns, weights, count, out);
#endif
  const int32_t* values = weights.values.data();
  for (int o = 0; o < count; ++o, values += weights.stride) {
    const int at = weights.start[static_cast<size_t>(o)] - weights.begin();
    const uint8_t* in = columns + static_cast<size_t>(at) * kLanes;
    for (int channel = 0; channel < 3; ++channel, in += kBlockRows, out += kBlockRows) {
      blend<kBlockRows>(in, kLanes, values, weights.taps[static_cast<size_t>(o)], out);
    }
  }
}

// Back from columns to rows: channel c of block row r at rows + r * rowBytes + c * rowBytes / 3.
void toRows(const uint8_t* columns, int count, uint8_t* rows, size_t rowBytes) {
#if defined(MOCO_AVX2)
  if (hasAvx2()) return toRowsAvx2(columns, count, rows, rowBytes);
#endif
  for (int channel = 0; channel < 3; ++channel) {
    for (int o = 0; o < count; o += kBlockBytes) {
      columnsToRows(columns + static_cast<size_t>(o) * kLanes + channel * kBlockRows, kLanes,
                    rows + static_cast<size_t>(channel) * (rowBytes / 3) + o, rowBytes);
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

void cropResize(const Source& source, const Box& crop, int resizedWidth, int resizedHeight,
                const Box& window, ResampleScratch& scratch, Tile& out) {
  out.resize(window.width, window.height);
  Weights& across = scratch.across;
  Weights& down = scratch.down;
  bilinearWeights(crop.width, resizedWidth, window.left, window.width, across);
  bilinearWeights(crop.height, resizedHeight, window.top, window.height, down);

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
  uint8_t* blended =
      scratch.blended.require(static_cast<size_t>(roundUp(window.width, kBlockBytes)) * kLanes);
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
      toColumns(in, byteCount, columns);
      blendColumns(columns, across, window.width, blended);
      toRows(blended, window.width, rows + static_cast<size_t>(kept) * rowBytes, rowBytes);
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
