#include "noise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "simd.h"

namespace moco::image {
namespace {

constexpr size_t kBlocks = 64;
constexpr size_t kWords = 4;
// Where the noise begins among a key's blocks; what TypeScript draws with the key comes before.
constexpr uint32_t kFirstBlock = uint32_t{1} << 31;

using Lanes = uint32_t[kBlocks];

// Philox 4x32 with ten rounds, as in lib/data/random.ts. Block b's word w lands at out[w][b].
inline __attribute__((always_inline)) void philox(const NoiseKey& key, uint32_t block,
                                                  Lanes (&out)[kWords]) {
  uint32_t low = key.seed[0];
  uint32_t high = key.seed[1];
  for (size_t b = 0; b < kBlocks; ++b) {
    out[0][b] = kFirstBlock + block + static_cast<uint32_t>(b);
    out[1][b] = key.stream;
    out[2][b] = key.index;
    out[3][b] = key.epoch;
  }
  for (int round = 0; round < 10; ++round) {
    for (size_t b = 0; b < kBlocks; ++b) {
      const uint64_t first = uint64_t{0xd2511f53} * out[0][b];
      const uint64_t second = uint64_t{0xcd9e8d57} * out[2][b];
      out[0][b] = static_cast<uint32_t>(second >> 32) ^ out[1][b] ^ low;
      out[1][b] = static_cast<uint32_t>(second);
      out[2][b] = static_cast<uint32_t>(first >> 32) ^ out[3][b] ^ high;
      out[3][b] = static_cast<uint32_t>(first);
    }
    low += 0x9e3779b9;
    high += 0xbb67ae85;
  }
}

// A number's 24 highest bits, from 1 to 2^24, as a float: exact, never 0, for the logarithm.
inline float upToOne(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 8) + 1) * 0x1p-24f;
}

// -2 ln(u) for u above 0, to some units in the last place: u is 2^e times m, m between the roots of
// 1/2 and 2, and ln(m) = 2 artanh((m - 1) / (m + 1)). Library functions differ between platforms.
inline float minusTwoLog(float u) {
  constexpr int32_t kRootHalf = 0x3f3504f3;
  int32_t bits;
  std::memcpy(&bits, &u, sizeof bits);
  const int32_t exponent = (bits - kRootHalf) >> 23;
  const int32_t mantissa = bits - exponent * (1 << 23);
  float m;
  std::memcpy(&m, &mantissa, sizeof m);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float square = s * s;
  const float series =
      1.0f + square * (1.0f / 3 + square * (1.0f / 5 + square * (1.0f / 7 + square * (1.0f / 9))));
  const float log = static_cast<float>(exponent) * 0.693147180559945f + 2.0f * s * series;
  const float result = -2.0f * log;
  return result > 0.0f ? result : 0.0f;
}

// Sine and cosine of a turn's part: the nearest quarter, and Taylor's series about it.
inline void sineAndCosine(uint32_t word, float& sine, float& cosine) {
  const int32_t part = static_cast<int32_t>(word >> 8);  // of 2^24
  const int32_t quarter = (part + (1 << 21)) >> 22;
  const float x = static_cast<float>(part - (quarter << 22)) * (6.283185307179586f * 0x1p-24f);
  const float square = x * x;
  const float s =
      x * (1.0f +
           square * (-1.0f / 6 +
                     square * (1.0f / 120 + square * (-1.0f / 5040 + square * (1.0f / 362880)))));
  const float c =
      1.0f + square * (-1.0f / 2 +
                       square * (1.0f / 24 + square * (-1.0f / 720 + square * (1.0f / 40320))));
  const bool odd = (quarter & 1) != 0;
  const float one = odd ? c : s;
  const float other = odd ? s : c;
  sine = (quarter & 2) != 0 ? -one : one;
  cosine = ((quarter + 1) & 2) != 0 ? -other : other;
}

// Box and Muller's transform: two words give two numbers.
MOCO_SIMD void normalBatch(const NoiseKey& key, uint32_t block, float* __restrict out) {
  Lanes words[kWords];
  philox(key, block, words);
  float values[kWords][kBlocks];
  for (size_t pair = 0; pair < kWords; pair += 2) {
    for (size_t b = 0; b < kBlocks; ++b) {
      const float radius = std::sqrt(minusTwoLog(upToOne(words[pair][b])));
      float sine;
      float cosine;
      sineAndCosine(words[pair + 1][b], sine, cosine);
      values[pair][b] = radius * cosine;
      values[pair + 1][b] = radius * sine;
    }
  }
  for (size_t b = 0; b < kBlocks; ++b) {
    for (size_t w = 0; w < kWords; ++w) out[b * kWords + w] = values[w][b];
  }
}

}  // namespace

void NormalNoise::next(size_t count, float* out) {
  while (count > 0) {
    if (used == batch.size()) {
      normalBatch(key, block, batch.data());
      block += kBlocks;
      used = 0;
    }
    const size_t taken = std::min(count, batch.size() - used);
    std::copy_n(batch.data() + used, taken, out);
    out += taken;
    count -= taken;
    used += taken;
  }
}

}  // namespace moco::image
