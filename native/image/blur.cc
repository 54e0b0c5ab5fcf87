#include "blur.h"

#include <algorithm>
#include <cmath>

#include "simd.h"

namespace moco::image {
namespace {

constexpr int kPasses = 3;

// A box of 2 * radius + 1 pixels with weight `inner` each and one pixel more on either side with
// weight `edge`, in 24-bit fixed point.
struct BoxFilter {
  int radius;
  uint32_t inner;
  uint32_t edge;
  // Radius 0 in 16-bit arithmetic: the halves of the edge's weight.
  bool split;
  int16_t upper;
  int16_t lower;
};

// Whether the weights may be taken to add up to 1. Rounding may leave them one unit short, which
// changes a result where less than 255 units lie between it and the next; 1 filter in 70.
bool splits(const BoxFilter& box) {
  if (box.inner + 2 * box.edge == 1u << 24) return true;
  for (int bend = -510; bend <= 510; ++bend) {
    const uint32_t sum = static_cast<uint32_t>(bend) * box.edge + (1u << 23);
    if ((sum & 0xffffff) < 255) return false;
  }
  return true;
}

// The extended box whose repeated application has the wanted variance (Gwosdek et al., SSVM 2011,
// the paper that Pillow cites), in the mix of single and double precision that decides its last
// bit.
BoxFilter boxFor(float sigma) {
  const float variance = sigma * sigma / kPasses;
  const float length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const float whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  part /= 6 * (variance - (whole + 1) * (whole + 1));
  const float radius = whole + part;
  BoxFilter box;
  box.radius = static_cast<int>(radius);
  box.inner = static_cast<uint32_t>(static_cast<float>(1u << 24) / (radius * 2 + 1));
  box.edge = ((1u << 24) - static_cast<uint32_t>(box.radius * 2 + 1) * box.inner) / 2;
  box.split = box.radius == 0 && splits(box);
  box.lower = static_cast<int16_t>(box.edge & 0xffff);
  box.upper = static_cast<int16_t>((static_cast<int32_t>(box.edge) - box.lower) >> 16);
  return box;
}

// While it is blurred, a plane is 16-bit: twice the lanes of 32 bits, and no widening in between.
// Its rows lie `pitch` apart, room for a margin on either side included, and a pass is one loop
// over many rows, margins and all: what it makes of the margins is overwritten or never read.
constexpr int kVector = 16;
// Rows that go through the horizontal passes together, small enough for the first cache.
constexpr int kBatch = 8;

struct Shape {
  int width;
  int height;
  size_t pitch;
};

int roundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

MOCO_SIMD void widen(const uint8_t* __restrict in, int count, uint16_t* __restrict out) {
  for (int x = 0; x < count; ++x) out[x] = in[x];
}

MOCO_SIMD void narrow(const uint16_t* __restrict in, int count, uint8_t* __restrict out) {
  for (int x = 0; x < count; ++x) out[x] = static_cast<uint8_t>(in[x]);
}

inline uint16_t fixed24(uint32_t sum) { return static_cast<uint16_t>((sum + (1u << 23)) >> 24); }

// Radius 0 (a sigma below 1.41), the usual case. The weights add up to 1, so the result is the
// center plus edge * (before + after - 2 * center): a multiplication of 16 by 16 bits for the upper
// half of the edge's fixed point and one for the lower half.
MOCO_SIMD void boxRow0(const uint16_t* __restrict before, const uint16_t* __restrict center,
                       const uint16_t* __restrict after, size_t count, int16_t upper, int16_t lower,
                       uint16_t* __restrict out) {
  for (size_t x = 0; x < count; ++x) {
    const int16_t bend = static_cast<int16_t>(before[x] + after[x] - 2 * center[x]);
    const int16_t low = static_cast<int16_t>((bend * lower) >> 16);
    const int16_t high = static_cast<int16_t>(bend * upper);
    out[x] = static_cast<uint16_t>(static_cast<uint16_t>((center[x] << 8) + 128 + high + low) >> 8);
  }
}

#if defined(MOCO_AVX2)

// A multiple of sixteen values. Interleaving with zeros widens in an order that the pack undoes;
// what the compiler makes of the plain loop widens in another way and takes half as long again.
MOCO_AVX2 inline __m256i weightedAvx2(__m256i sum, __m256i far, __m256i inner, __m256i edge) {
  const __m256i total =
      _mm256_add_epi32(_mm256_mullo_epi32(sum, inner), _mm256_mullo_epi32(far, edge));
  return _mm256_srli_epi32(_mm256_add_epi32(total, _mm256_set1_epi32(1 << 23)), 24);
}

MOCO_AVX2 void boxRow1Avx2(const uint16_t* first, const uint16_t* before, const uint16_t* center,
                           const uint16_t* after, const uint16_t* last, size_t count,
                           uint32_t inner, uint32_t edge, uint16_t* out) {
  const __m256i inners = _mm256_set1_epi32(static_cast<int32_t>(inner));
  const __m256i edges = _mm256_set1_epi32(static_cast<int32_t>(edge));
  const __m256i zero = _mm256_setzero_si256();
  for (size_t x = 0; x < count; x += kVector) {
    const __m256i sum = _mm256_add_epi16(
        _mm256_add_epi16(loadAvx2(before + x), loadAvx2(center + x)), loadAvx2(after + x));
    const __m256i far = _mm256_add_epi16(loadAvx2(first + x), loadAvx2(last + x));
    const __m256i low = weightedAvx2(_mm256_unpacklo_epi16(sum, zero),
                                     _mm256_unpacklo_epi16(far, zero), inners, edges);
    const __m256i high = weightedAvx2(_mm256_unpackhi_epi16(sum, zero),
                                      _mm256_unpackhi_epi16(far, zero), inners, edges);
    storeAvx2(out + x, _mm256_packus_epi32(low, high));
  }
}

#endif

void boxRow1(const uint16_t* __restrict first, const uint16_t* __restrict before,
             const uint16_t* __restrict center, const uint16_t* __restrict after,
             const uint16_t* __restrict last, size_t count, uint32_t inner, uint32_t edge,
             uint16_t* __restrict out) {
#if defined(MOCO_AVX2)
  if (hasAvx2()) return boxRow1Avx2(first, before, center, after, last, count, inner, edge, out);
#endif
  for (size_t x = 0; x < count; ++x) {
    const uint16_t sum = static_cast<uint16_t>(before[x] + center[x] + after[x]);
    const uint16_t far = static_cast<uint16_t>(first[x] + last[x]);
    out[x] = fixed24(sum * inner + far * edge);
  }
}

MOCO_SIMD void boxRowAny(const uint32_t* __restrict sum, const uint16_t* __restrict first,
                         const uint16_t* __restrict last, size_t count, uint32_t inner,
                         uint32_t edge, uint16_t* __restrict out) {
  for (size_t x = 0; x < count; ++x) {
    out[x] = fixed24(sum[x] * inner + static_cast<uint32_t>(first[x] + last[x]) * edge);
  }
}

MOCO_SIMD void slide(uint32_t* __restrict sum, const uint16_t* __restrict entering,
                     const uint16_t* __restrict leaving, size_t count) {
  for (size_t x = 0; x < count; ++x) sum[x] += static_cast<uint32_t>(entering[x] - leaving[x]);
}

// Running sums of the 2 * radius + 1 values around each of a row's.
void sumAlong(const uint16_t* row, int width, int radius, uint32_t* sums) {
  uint32_t sum = 0;
  for (int k = -radius; k < radius; ++k) sum += row[k];
  for (int x = 0; x < width; ++x) {
    sum += row[x + radius];
    sums[x] = sum;
    sum -= row[x - radius];
  }
}

void alongRows(const uint16_t* rows, int count, const Shape& shape, const BoxFilter& box,
               uint32_t* sums, uint16_t* out) {
  const size_t lanes = static_cast<size_t>(count) * shape.pitch;
  if (box.split) {
    boxRow0(rows - 1, rows, rows + 1, lanes, box.upper, box.lower, out);
  } else if (box.radius == 1) {
    boxRow1(rows - 2, rows - 1, rows, rows + 1, rows + 2, lanes, box.inner, box.edge, out);
  } else {
    for (int i = 0; i < count; ++i, rows += shape.pitch, out += shape.pitch) {
      sumAlong(rows, shape.width, box.radius, sums);
      boxRowAny(sums, rows - box.radius - 1, rows + box.radius + 1,
                static_cast<size_t>(shape.width), box.inner, box.edge, out);
    }
  }
}

void fillMargins(uint16_t* row, int width, int margin) {
  std::fill(row - margin, row, row[0]);
  std::fill(row + width, row + width + margin, row[width - 1]);
}

void blurRows(const uint8_t* bytes, const Shape& shape, const BoxFilter& box, BlurScratch& scratch,
              uint16_t* out) {
  const int margin = box.radius + 1;
  const size_t room = static_cast<size_t>(kBatch) * shape.pitch + 2 * roundUp(margin, kVector);
  uint16_t* lines = scratch.lines.require(2 * room) + roundUp(margin, kVector);
  for (int y = 0; y < shape.height; y += kBatch) {
    const int batch = std::min(kBatch, shape.height - y);
    uint16_t* from = lines;
    uint16_t* to = lines + room;
    for (int i = 0; i < batch; ++i) {
      widen(bytes + static_cast<size_t>(y + i) * shape.width, shape.width,
            from + static_cast<size_t>(i) * shape.pitch);
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      for (int i = 0; i < batch; ++i) {
        fillMargins(from + static_cast<size_t>(i) * shape.pitch, shape.width, margin);
      }
      if (pass == kPasses - 1) to = out + static_cast<size_t>(y) * shape.pitch;
      alongRows(from, batch, shape, box, scratch.sums.data(), to);
      std::swap(from, to);
    }
  }
}

// One pass down the columns: the neighbours are whole rows.
void downColumns(const uint16_t* plane, const Shape& shape, const BoxFilter& box, uint32_t* sums,
                 uint16_t* out) {
  const size_t pitch = shape.pitch;
  const int radius = box.radius;
  const auto row = [&](int y) {
    return plane + pitch * static_cast<size_t>(std::clamp(y, 0, shape.height - 1));
  };
  const bool slides = !box.split && radius != 1;
  if (slides) {
    std::fill(sums, sums + pitch, 0);
    for (int k = -radius - 1; k < radius; ++k) {
      for (size_t x = 0; x < pitch; ++x) sums[x] += row(k)[x];
    }
  }
  int count;
  for (int y = 0; y < shape.height; y += count) {
    // Rows whose neighbours all lie inside are one long row.
    const int inside = shape.height - radius - 1 - y;
    count = slides || y < radius + 1 || inside < 1 ? 1 : inside;
    const size_t lanes = pitch * static_cast<size_t>(count);
    uint16_t* to = out + pitch * static_cast<size_t>(y);
    if (box.split) {
      boxRow0(row(y - 1), row(y), row(y + 1), lanes, box.upper, box.lower, to);
    } else if (radius == 1) {
      boxRow1(row(y - 2), row(y - 1), row(y), row(y + 1), row(y + 2), lanes, box.inner, box.edge,
              to);
    } else {
      slide(sums, row(y + radius), row(y - radius - 1), pitch);
      boxRowAny(sums, row(y - radius - 1), row(y + radius + 1), pitch, box.inner, box.edge, to);
    }
  }
}

}  // namespace

void gaussianBlur(Tile& tile, float sigma, BlurScratch& scratch) {
  if (!(sigma > 0.0f)) return;
  const BoxFilter box = boxFor(sigma);
  const Shape shape = {tile.width, tile.height,
                       static_cast<size_t>(roundUp(tile.width + 2 * (box.radius + 1), kVector))};
  const size_t size = shape.pitch * static_cast<size_t>(tile.height);
  scratch.sums.require(shape.pitch);
  uint16_t* from = scratch.plane.require(size);
  uint16_t* to = scratch.nextPlane.require(size);
  for (int channel = 0; channel < tile.planes; ++channel) {
    uint8_t* bytes = tile.plane(channel);
    blurRows(bytes, shape, box, scratch, from);
    for (int pass = 0; pass < kPasses; ++pass) {
      downColumns(from, shape, box, scratch.sums.data(), to);
      std::swap(from, to);
    }
    for (int y = 0; y < tile.height; ++y) {
      narrow(from + shape.pitch * static_cast<size_t>(y), tile.width,
             bytes + static_cast<size_t>(y) * tile.width);
    }
  }
}

}  // namespace moco::image
