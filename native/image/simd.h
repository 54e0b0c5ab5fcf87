// How the kernels are vectorised. Most are plain loops that the compiler turns into SIMD code,
// compiled twice where the platform can choose when it loads the addon (MOCO_SIMD: AVX2 and the
// baseline). Where the compiler's own choice was several times slower than the machine, a kernel
// has a second body of AVX2 intrinsics (MOCO_AVX2), chosen at run time, beside the plain loop that
// serves every other processor.
//
// FMA stays off: Pillow's arithmetic rounds after every multiplication, and a fused one would
// change pixels. The build passes -ffp-contract=off for the same reason on ARM.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && defined(__gnu_linux__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define MOCO_SIMD __attribute__((target_clones("avx2", "default")))
#else
#define MOCO_SIMD
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MOCO_AVX2 __attribute__((target("avx2")))
#endif

namespace moco::image {

// For the test that both bodies of a kernel give the same bytes.
inline std::atomic<bool> plainKernels{false};

#if defined(MOCO_AVX2)

inline bool hasAvx2() {
  return __builtin_cpu_supports("avx2") && !plainKernels.load(std::memory_order_relaxed);
}

// Eight bytes as integers.
MOCO_AVX2 inline __m256i widenAvx2(const uint8_t* bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

// Thirty-two integers as bytes, clipped to 0 .. 255. The packs work on the halves of a register,
// which the permutation mends.
MOCO_AVX2 inline __m256i narrowAvx2(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(packed, order);
}

MOCO_AVX2 inline __m256i loadAvx2(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}

MOCO_AVX2 inline void storeAvx2(void* bytes, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(bytes), value);
}

#endif

}  // namespace moco::image
