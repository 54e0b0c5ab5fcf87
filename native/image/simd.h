// How the kernels are vectorised: plain loops that the compiler turns into SIMD code, compiled
// twice where the platform can choose at load time (AVX2 and the baseline).
//
// FMA stays off: Pillow's arithmetic rounds after every multiplication, and a fused one would
// change pixels. The build passes -ffp-contract=off for the same reason on ARM.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && defined(__gnu_linux__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define MOCO_SIMD __attribute__((target_clones("avx2", "default")))
#else
#define MOCO_SIMD
#endif
