// Operations that replace each value by another one, as PIL's ImageOps does them.
#pragma once

#include "tile.h"

namespace moco::image {

// Stretches each channel so that its darkest value becomes 0 and its lightest 255.
void autoContrast(Tile& tile);

// Gives each channel a histogram as flat as a mapping of values can make it.
void equalize(Tile& tile);

// Keeps the `bits` highest bits, 0 to 8.
void posterize(Tile& tile, int bits);

// Adds `add` to the values below 128, up to 255.
void solarizeAdd(Tile& tile, int add);

}  // namespace moco::image
