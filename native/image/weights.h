// The weights of Pillow's antialiased filters along one axis.
#pragma once

#include <cstdint>
#include <vector>

#include "interpolation.h"

namespace moco::image {

// Eight bits of pixel, two of headroom for filters with negative lobes: 22 remain.
constexpr int kWeightBits = 32 - 8 - 2;

// Output o is the sum over t of values[o * stride + t] times the input start[o] + t, for t below
// taps[o], in fixed point of kWeightBits.
struct Weights {
  int stride = 0;
  // One for each output.
  std::vector<int> start;
  std::vector<int> taps;
  std::vector<int32_t> values;
  // The input from which on later outputs read; never decreases.
  std::vector<int> from;
  std::vector<double> exact;  // scratch

  int begin() const { return from.front(); }
  int end() const;
  // The most inputs that lie between what is still needed and the end of what an output reads.
  int span() const;
};

// Weights of the outputs first .. first + count - 1 of an axis resized from inSize to outSize.
void filterWeights(Interpolation interpolation, int inSize, int outSize, int first, int count,
                   Weights& out);

}  // namespace moco::image
