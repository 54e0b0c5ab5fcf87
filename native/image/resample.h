// Crop and resize with Pillow's antialiased bilinear or bicubic filter, bit for bit (Pillow 9.5 to
// 12).
#pragma once

#include <cstdint>

#include "box.h"
#include "buffer.h"
#include "interpolation.h"
#include "tile.h"
#include "weights.h"

namespace moco::image {

// Interleaved 8-bit RGB, rows `stride` bytes apart.
struct Source {
  const uint8_t* pixels = nullptr;
  int width = 0;
  int height = 0;
  size_t stride = 0;
};

struct ResampleScratch {
  Weights across;
  Weights down;
  // Thirty-two rows of the crop, turned into columns, and the resized rows that the output rows
  // still to come need.
  Buffer<uint8_t> columns;
  Buffer<uint8_t> rows;
};

// Resizes `crop` of the source to resizedWidth x resizedHeight and keeps `window` of the result
// (all of it for a random resized crop, the centre for an evaluation image).
void cropResize(const Source& source, const Box& crop, Interpolation interpolation,
                int resizedWidth, int resizedHeight, const Box& window, ResampleScratch& scratch,
                Tile& out);

}  // namespace moco::image
