#include "blur.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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
};

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
  return box;
}

inline uint8_t fixed24(uint32_t sum) { return static_cast<uint8_t>((sum + (1u << 23)) >> 24); }

// One pass over bytes whose neighbours lie `step` apart: 1 along a row, the row's length down a
// column. The caller provides radius + 1 neighbours on both sides.
template <int kRadius>
inline void boxPass(const uint8_t* __restrict in, uint8_t* __restrict out, int count,
                    const BoxFilter& box) {
  const uint32_t inner = box.inner;
  const uint32_t edge = box.edge;
  for (int x = 0; x < count; ++x) {
    uint32_t sum = in[x];
    for (int k = 1; k <= kRadius; ++k) sum += static_cast<uint32_t>(in[x - k] + in[x + k]);
    const uint32_t far = static_cast<uint32_t>(in[x - kRadius - 1] + in[x + kRadius + 1]);
    out[x] = fixed24(sum * inner + far * edge);
  }
}

MOCO_SIMD void boxPass0(const uint8_t* __restrict in, uint8_t* __restrict out, int count,
                        const BoxFilter& box) {
  boxPass<0>(in, out, count, box);
}

MOCO_SIMD void boxPass1(const uint8_t* __restrict in, uint8_t* __restrict out, int count,
                        const BoxFilter& box) {
  boxPass<1>(in, out, count, box);
}

// Larger radii (a sigma above 2.4) are outside the method's recipe: a running sum, whatever the
// radius.
void boxPassAny(const uint8_t* in, uint8_t* out, int count, const BoxFilter& box) {
  uint32_t sum = 0;
  for (int k = -box.radius - 1; k < box.radius; ++k) sum += in[k];
  for (int x = 0; x < count; ++x) {
    sum += in[x + box.radius];
    sum -= in[x - box.radius - 1];
    const uint32_t far = static_cast<uint32_t>(in[x - box.radius - 1] + in[x + box.radius + 1]);
    out[x] = fixed24(sum * box.inner + far * box.edge);
  }
}

void blurRow(uint8_t* row, int width, const BoxFilter& box, BlurScratch& scratch) {
  const int margin = box.radius + 1;
  scratch.line.resize(static_cast<size_t>(width) + 2 * margin);
  scratch.nextLine.resize(scratch.line.size());
  uint8_t* from = scratch.line.data();
  uint8_t* to = scratch.nextLine.data();
  std::memcpy(from + margin, row, static_cast<size_t>(width));
  for (int pass = 0; pass < kPasses; ++pass) {
    std::memset(from, from[margin], static_cast<size_t>(margin));
    std::memset(from + margin + width, from[margin + width - 1], static_cast<size_t>(margin));
    uint8_t* result = pass == kPasses - 1 ? row : to + margin;
    if (box.radius == 0) {
      boxPass0(from + margin, result, width, box);
    } else if (box.radius == 1) {
      boxPass1(from + margin, result, width, box);
    } else {
      boxPassAny(from + margin, result, width, box);
    }
    std::swap(from, to);
  }
}

// The same pass down the columns: whole rows at a time, the neighbours being rows.
MOCO_SIMD void boxRows(const uint8_t* const* __restrict rows, int radius, int width, uint32_t inner,
                       uint32_t edge, uint8_t* __restrict out) {
  const uint8_t* __restrict center = rows[0];
  const uint8_t* __restrict above = rows[-radius - 1];
  const uint8_t* __restrict below = rows[radius + 1];
  if (radius == 0) {
    for (int x = 0; x < width; ++x) {
      out[x] = fixed24(center[x] * inner + static_cast<uint32_t>(above[x] + below[x]) * edge);
    }
  } else if (radius == 1) {
    const uint8_t* __restrict before = rows[-1];
    const uint8_t* __restrict after = rows[1];
    for (int x = 0; x < width; ++x) {
      out[x] = fixed24(static_cast<uint32_t>(before[x] + center[x] + after[x]) * inner +
                       static_cast<uint32_t>(above[x] + below[x]) * edge);
    }
  } else {
    for (int x = 0; x < width; ++x) {
      uint32_t sum = 0;
      for (int k = -radius; k <= radius; ++k) sum += rows[k][x];
      out[x] = fixed24(sum * inner + static_cast<uint32_t>(above[x] + below[x]) * edge);
    }
  }
}

void blurColumns(uint8_t* plane, int width, int height, const BoxFilter& box,
                 BlurScratch& scratch) {
  const size_t stride = static_cast<size_t>(width);
  scratch.plane.resize(stride * static_cast<size_t>(height));
  const int margin = box.radius + 1;
  std::vector<const uint8_t*> rows(static_cast<size_t>(height) + 2 * margin);
  uint8_t* from = plane;
  uint8_t* to = scratch.plane.data();
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int y = -margin; y < height + margin; ++y) {
      rows[static_cast<size_t>(y + margin)] = from + stride * std::clamp(y, 0, height - 1);
    }
    for (int y = 0; y < height; ++y) {
      boxRows(rows.data() + margin + y, box.radius, width, box.inner, box.edge, to + stride * y);
    }
    std::swap(from, to);
  }
  // An odd number of passes leaves the result in the scratch plane.
  std::memcpy(plane, from, scratch.plane.size());
}

}  // namespace

void gaussianBlur(Tile& tile, float sigma, BlurScratch& scratch) {
  if (!(sigma > 0.0f)) return;
  const BoxFilter box = boxFor(sigma);
  for (int channel = 0; channel < tile.planes; ++channel) {
    for (int y = 0; y < tile.height; ++y) {
      blurRow(tile.plane(channel) + static_cast<size_t>(y) * tile.width, tile.width, box, scratch);
    }
    blurColumns(tile.plane(channel), tile.width, tile.height, box, scratch);
  }
}

}  // namespace moco::image
