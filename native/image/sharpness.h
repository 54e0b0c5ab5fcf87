// PIL's ImageEnhance.Sharpness on a planar tile.
#pragma once

#include "paddedTile.h"
#include "tile.h"

namespace moco::image {

// A blend of the image with a smoothed one at `factor`: 0 is smooth, 1 changes nothing, more
// sharpens. Three planes only.
void adjustSharpness(Tile& tile, float factor, PaddedTile& scratch);

}  // namespace moco::image
