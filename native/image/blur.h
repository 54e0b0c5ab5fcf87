// PIL's GaussianBlur: three box blurs with a fractional radius along each axis.
#pragma once

#include "buffer.h"
#include "tile.h"

namespace moco::image {

struct BlurScratch {
  Buffer<uint16_t> lines;
  Buffer<uint16_t> plane;
  Buffer<uint16_t> nextPlane;
  Buffer<uint32_t> sums;
};

void gaussianBlur(Tile& tile, float sigma, BlurScratch& scratch);

}  // namespace moco::image
