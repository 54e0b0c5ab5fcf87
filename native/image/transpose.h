// Blocks of 32 rows by 16 bytes, turned so that a vector holds the same byte of 32 rows, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.h"

namespace moco::image {

constexpr int kBlockRows = 32;
constexpr int kBlockBytes = 16;

#if defined(MOCO_AVX2)

// Four rounds of interleaving register i with register i + 8 send element (i, j) to (j, i), in
// each half of the registers by itself.
MOCO_AVX2 inline void interleaveFourTimes(__m256i (&a)[16]) {
  __m256i b[16];
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 8]);
    }
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = _mm256_unpacklo_epi8(b[i], b[i + 8]);
      a[2 * i + 1] = _mm256_unpackhi_epi8(b[i], b[i + 8]);
    }
  }
}

// Byte j of row r lands at out[j * 32 + r].
MOCO_AVX2 inline void rowsToColumnsAvx2(const uint8_t* const rows[kBlockRows], size_t offset,
                                        uint8_t* out) {
  __m256i a[16];
  for (int i = 0; i < 16; ++i) {
    const __m128i upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + offset));
    const __m128i lower = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i + 16] + offset));
    a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(upper), lower, 1);
  }
  interleaveFourTimes(a);
  for (int j = 0; j < 16; ++j) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j * kBlockRows), a[j]);
  }
}

// Byte r of in[j * inStride ...] lands at out[r * outStride + j].
MOCO_AVX2 inline void columnsToRowsAvx2(const uint8_t* in, size_t inStride, uint8_t* out,
                                        size_t outStride) {
  __m256i a[16];
  for (int j = 0; j < 16; ++j) {
    a[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + j * inStride));
  }
  interleaveFourTimes(a);
  for (int r = 0; r < 16; ++r) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r * outStride), _mm256_castsi256_si128(a[r]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (r + 16) * outStride),
                     _mm256_extracti128_si256(a[r], 1));
  }
}

#endif

// The same for every processor, eight by eight bytes in eight words.

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the words are read as little-endian");
#endif

inline void exchange(uint64_t& a, uint64_t& b, int shift, uint64_t mask) {
  const uint64_t difference = ((a >> shift) ^ b) & mask;
  b ^= difference;
  a ^= difference << shift;
}

inline void transpose8(const uint8_t* const in[8], size_t offset, uint8_t* out, size_t outStride) {
  uint64_t word[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&word[i], in[i] + offset, 8);
  for (int i = 0; i < 8; i += 2) exchange(word[i], word[i + 1], 8, 0x00ff00ff00ff00ff);
  for (int i = 0; i < 8; i += 4) {
    exchange(word[i], word[i + 2], 16, 0x0000ffff0000ffff);
    exchange(word[i + 1], word[i + 3], 16, 0x0000ffff0000ffff);
  }
  for (int i = 0; i < 4; ++i) exchange(word[i], word[i + 4], 32, 0x00000000ffffffff);
  for (size_t i = 0; i < 8; ++i) std::memcpy(out + i * outStride, &word[i], 8);
}

// `count` bytes of each row, at most 16.
inline void rowsToColumns(const uint8_t* const rows[kBlockRows], int offset, int count,
                          uint8_t* out) {
  int j = 0;
  for (; j + 8 <= count; j += 8) {
    for (int r = 0; r < kBlockRows; r += 8) {
      transpose8(rows + r, static_cast<size_t>(offset + j), out + j * kBlockRows + r, kBlockRows);
    }
  }
  for (; j < count; ++j) {
    for (int r = 0; r < kBlockRows; ++r) out[j * kBlockRows + r] = rows[r][offset + j];
  }
}

inline void columnsToRows(const uint8_t* in, size_t inStride, uint8_t* out, size_t outStride) {
  for (int j = 0; j < kBlockBytes; j += 8) {
    const uint8_t* columns[8];
    for (int i = 0; i < 8; ++i) columns[i] = in + static_cast<size_t>(j + i) * inStride;
    for (size_t r = 0; r < kBlockRows; r += 8) {
      transpose8(columns, r, out + r * outStride + j, outStride);
    }
  }
}

}  // namespace moco::image
