#include "flip.h"

#include <algorithm>
#include <cstring>

#include "simd.h"

namespace moco::image {

#if defined(MOCO_AVX2)

namespace {

MOCO_AVX2 void reverseAvx2(const uint8_t* in, size_t count, uint8_t* out) {
  const __m256i backwards = _mm256_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
                                             15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (size_t x = 0; x < count; x += 32) {
    const __m256i halves = _mm256_shuffle_epi8(loadAvx2(in + count - 32 - x), backwards);
    storeAvx2(out + x, _mm256_permute2x128_si256(halves, halves, 1));
  }
}

}  // namespace

#endif

void reverseRow(const uint8_t* in, size_t count, uint8_t* out) {
  size_t x = 0;
#if defined(MOCO_AVX2)
  if (hasAvx2()) {
    x = count / 32 * 32;
    reverseAvx2(in + count - x, x, out);
  }
#endif
  std::reverse_copy(in, in + count - x, out + x);
}

void flip(Tile& tile, Buffer<uint8_t>& row) {
  const size_t width = static_cast<size_t>(tile.width);
  uint8_t* copy = row.require(width);
  uint8_t* end = tile.bytes.data() + static_cast<size_t>(tile.planes) * tile.area();
  for (uint8_t* at = tile.bytes.data(); at < end; at += width) {
    std::memcpy(copy, at, width);
    reverseRow(copy, width, at);
  }
}

}  // namespace moco::image
