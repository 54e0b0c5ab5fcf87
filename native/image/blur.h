// PIL's GaussianBlur: three box blurs with a fractional radius along each axis.
#pragma once

#include "tile.h"

namespace moco::image {

struct BlurScratch {
  std::vector<uint8_t> line;
  std::vector<uint8_t> nextLine;
  std::vector<uint8_t> plane;
};

void gaussianBlur(Tile& tile, float sigma, BlurScratch& scratch);

}  // namespace moco::image
