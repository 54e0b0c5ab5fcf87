#include "resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace moco::image {
namespace {

// Eight bits of pixel, two of headroom for filters with negative lobes: 22 remain.
constexpr int kPrecision = 32 - 8 - 2;
constexpr int kBlock = 16;
// Columns of the vertical pass held in registers at once.
constexpr int kStrip = 32;

int roundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Weights of the outputs first .. first + count - 1 of an axis resized from inSize to outSize.
// A triangle as wide as the reduction (never narrower than one input pixel), normalised in
// double, then rounded to fixed point: exactly Pillow's steps, since each rounding shows.
void bilinearWeights(int inSize, int outSize, int first, int count, Weights& out) {
  const double scale = static_cast<double>(static_cast<float>(inSize)) / outSize;
  const double support = std::max(scale, 1.0);
  const double inverse = 1.0 / support;
  out.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  out.start.resize(count);
  out.taps.resize(count);
  out.values.resize(static_cast<size_t>(count) * out.stride);
  out.exact.resize(out.stride);
  for (int o = 0; o < count; ++o) {
    const double center = (first + o + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), inSize);
    double total = 0;
    for (int i = begin; i < end; ++i) {
      const double distance = std::abs((i - center + 0.5) * inverse);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      out.exact[i - begin] = weight;
      total += weight;
    }
    int32_t* values = out.values.data() + static_cast<size_t>(o) * out.stride;
    int taps = 0;
    int skipped = 0;
    for (int i = 0; i < end - begin; ++i) {
      const double weight = total != 0.0 ? out.exact[i] / total : out.exact[i];
      const int32_t value = static_cast<int32_t>(0.5 + weight * (1 << kPrecision));
      // Zero weights at either end change nothing and cost a multiplication per pixel.
      if (taps == 0 && value == 0) {
        ++skipped;
        continue;
      }
      values[taps++] = value;
    }
    while (taps > 1 && values[taps - 1] == 0) --taps;
    out.start[o] = begin + skipped;
    out.taps[o] = taps;
  }
}

// Transposes a 16 x 16 block of bytes.
inline void transpose16(const uint8_t* const in[kBlock], uint8_t* out, size_t outStride) {
#if defined(__SSE2__)
  __m128i a[16];
  __m128i b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[i]));
  // Four rounds of interleaving row i with row i + 8 send element (i, j) to (j, i).
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
    b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
    a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
    b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
    a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
  }
  for (int i = 0; i < 16; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * outStride), a[i]);
  }
#else
  for (int i = 0; i < kBlock; ++i) {
    for (int j = 0; j < kBlock; ++j) out[j * outStride + i] = in[i][j];
  }
#endif
}

// Sixteen rows of interleaved pixels become columns: byte column b of row r lands at b * 16 + r.
// Rows beyond the image repeat its last one; their results are never read.
void toColumns(const uint8_t* pixels, size_t stride, int rowsLeft, int byteCount,
               uint8_t* columns) {
  const uint8_t* in[kBlock];
  for (int r = 0; r < kBlock; ++r) in[r] = pixels + stride * std::min(r, rowsLeft - 1);
  int b = 0;
  for (; b + kBlock <= byteCount; b += kBlock) {
    transpose16(in, columns + static_cast<size_t>(b) * kBlock, kBlock);
    for (const uint8_t*& row : in) row += kBlock;
  }
  for (int j = 0; b + j < byteCount; ++j) {
    for (int r = 0; r < kBlock; ++r) columns[static_cast<size_t>(b + j) * kBlock + r] = in[r][j];
  }
}

// The three channels of sixteen rows make 48 lanes; each output pixel is a weighted sum of
// neighbouring groups of 48.
MOCO_SIMD void blendColumns(const uint8_t* __restrict columns, int firstColumn,
                            const Weights& weights, int count, uint8_t* __restrict out) {
  constexpr int kLanes = 3 * kBlock;
  const int* starts = weights.start.data();
  const int* taps = weights.taps.data();
  for (int o = 0; o < count; ++o) {
    const int32_t* w = weights.values.data() + static_cast<size_t>(o) * weights.stride;
    const uint8_t* in = columns + static_cast<size_t>(starts[o] - firstColumn) * kLanes;
    int32_t sum[kLanes];
    for (int l = 0; l < kLanes; ++l) sum[l] = 1 << (kPrecision - 1);
    for (int t = 0; t < taps[o]; ++t, in += kLanes) {
      const int32_t weight = w[t];
      for (int l = 0; l < kLanes; ++l) sum[l] += weight * in[l];
    }
    uint8_t* to = out + static_cast<size_t>(o) * kLanes;
    for (int l = 0; l < kLanes; ++l) {
      const int32_t value = sum[l] >> kPrecision;
      to[l] = static_cast<uint8_t>(value > 255 ? 255 : value);
    }
  }
}

// Back from columns to planar rows: channel c of block row r at rows + c * planeSize + r * stride.
void toRows(const uint8_t* columns, int count, uint8_t* rows, size_t planeSize, size_t stride) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int o = 0; o < count; o += kBlock) {
      const uint8_t* in[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        in[i] = columns + (static_cast<size_t>(o + i) * 3 + channel) * kBlock;
      }
      transpose16(in, rows + planeSize * channel + o, stride);
    }
  }
}

MOCO_SIMD void blendRows(const uint8_t* __restrict rows, size_t stride, const int32_t* weights,
                         int taps, int width, uint8_t* __restrict out) {
  for (int x = 0; x < width; x += kStrip) {
    int32_t sum[kStrip];
    for (int l = 0; l < kStrip; ++l) sum[l] = 1 << (kPrecision - 1);
    const uint8_t* in = rows + x;
    for (int t = 0; t < taps; ++t, in += stride) {
      const int32_t weight = weights[t];
      for (int l = 0; l < kStrip; ++l) sum[l] += weight * in[l];
    }
    uint8_t strip[kStrip];
    for (int l = 0; l < kStrip; ++l) {
      const int32_t value = sum[l] >> kPrecision;
      strip[l] = static_cast<uint8_t>(value > 255 ? 255 : value);
    }
    std::memcpy(out + x, strip, static_cast<size_t>(std::min(kStrip, width - x)));
  }
}

}  // namespace

void cropResize(const Source& source, const Box& crop, int resizedWidth, int resizedHeight,
                const Box& window, ResampleScratch& scratch, Tile& out) {
  out.resize(window.width, window.height);
  bilinearWeights(crop.width, resizedWidth, window.left, window.width, scratch.horizontal);
  bilinearWeights(crop.height, resizedHeight, window.top, window.height, scratch.vertical);
  const Weights& across = scratch.horizontal;
  const Weights& down = scratch.vertical;

  // Only the input that the window needs. Starts never decrease, but ends may where zero
  // weights were cut, so both ends are searched.
  const auto range = [](const Weights& weights) {
    int begin = weights.start[0];
    int end = 0;
    for (size_t o = 0; o < weights.start.size(); ++o) {
      begin = std::min(begin, weights.start[o]);
      end = std::max(end, weights.start[o] + weights.taps[o]);
    }
    return std::pair<int, int>(begin, end);
  };
  const auto [firstColumn, endColumn] = range(across);
  const auto [firstRow, endRow] = range(down);

  // Horizontal pass, rounded to 8 bits, sixteen rows at a time.
  const int byteCount = (endColumn - firstColumn) * 3;
  const int rowCount = endRow - firstRow;
  const size_t rowStride = static_cast<size_t>(roundUp(window.width, kStrip));
  const size_t planeSize = rowStride * static_cast<size_t>(roundUp(rowCount, kBlock));
  scratch.columns.resize(static_cast<size_t>(byteCount) * kBlock);
  scratch.blended.resize(static_cast<size_t>(roundUp(window.width, kBlock)) * 3 * kBlock);
  scratch.rows.resize(3 * planeSize);
  const uint8_t* pixels = source.pixels + static_cast<size_t>(crop.top + firstRow) * source.stride +
                          static_cast<size_t>(crop.left + firstColumn) * 3;
  for (int y = 0; y < rowCount; y += kBlock) {
    toColumns(pixels + static_cast<size_t>(y) * source.stride, source.stride, rowCount - y,
              byteCount, scratch.columns.data());
    blendColumns(scratch.columns.data(), firstColumn, across, window.width, scratch.blended.data());
    toRows(scratch.blended.data(), window.width,
           scratch.rows.data() + static_cast<size_t>(y) * rowStride, planeSize, rowStride);
  }

  // Vertical pass.
  for (int channel = 0; channel < 3; ++channel) {
    const uint8_t* plane = scratch.rows.data() + planeSize * channel;
    for (int y = 0; y < window.height; ++y) {
      blendRows(plane + static_cast<size_t>(down.start[y] - firstRow) * rowStride, rowStride,
                down.values.data() + static_cast<size_t>(y) * down.stride, down.taps[y],
                window.width, out.plane(channel) + static_cast<size_t>(y) * window.width);
    }
  }
}

}  // namespace moco::image
