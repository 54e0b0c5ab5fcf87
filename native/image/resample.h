// Crop and resize with Pillow's antialiased bilinear filter, bit for bit (Pillow 9.5 to 12).
#pragma once

#include <cstdint>
#include <vector>

#include "box.h"
#include "tile.h"

namespace moco::image {

// Interleaved 8-bit RGB, rows `stride` bytes apart.
struct Source {
  const uint8_t* pixels = nullptr;
  int width = 0;
  int height = 0;
  size_t stride = 0;
};

// Fixed-point weights of one axis: output o is the sum over t of weights[o * stride + t] times
// the input start[o] + t, for t below taps[o].
struct Weights {
  int stride = 0;
  std::vector<int> start;
  std::vector<int> taps;
  std::vector<int32_t> values;
  std::vector<double> exact;  // scratch
};

struct ResampleScratch {
  Weights horizontal;
  Weights vertical;
  std::vector<uint8_t> columns;
  std::vector<uint8_t> blended;
  std::vector<uint8_t> rows;
};

// Resizes `crop` of the source to resizedWidth x resizedHeight and keeps `window` of the result
// (all of it for a random resized crop, the centre for an evaluation image).
void cropResize(const Source& source, const Box& crop, int resizedWidth, int resizedHeight,
                const Box& window, ResampleScratch& scratch, Tile& out);

}  // namespace moco::image
