// Normal random numbers from a counter-based generator: the same key gives the same numbers,
// whoever asks for them and whenever.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace moco::image {

// A RandomKey of lib/data/random.ts.
struct NoiseKey {
  std::array<uint32_t, 2> seed = {0, 0};
  uint32_t stream = 0;
  uint32_t index = 0;
  uint32_t epoch = 0;
};

// The key's numbers one after the other; mean 0, deviation 1, up to 5.8 deviations away. The same
// bits on every processor.
class NormalNoise {
 public:
  explicit NormalNoise(const NoiseKey& key) : key(key) {}
  void next(size_t count, float* out);

 private:
  // Blocks of the generator that are computed at once, and the numbers that each gives.
  static constexpr size_t kBlocks = 64;
  static constexpr size_t kWords = 4;

  NoiseKey key;
  uint32_t block = 0;
  size_t used = kBlocks * kWords;
  std::array<float, kBlocks * kWords> batch;
};

}  // namespace moco::image
