// Left to right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "buffer.h"
#include "tile.h"

namespace moco::image {

void reverseRow(const uint8_t* in, size_t count, uint8_t* out);

// All planes; `row` is scratch.
void flip(Tile& tile, Buffer<uint8_t>& row);

}  // namespace moco::image
