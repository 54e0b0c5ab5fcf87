// PIL's Image.transform(AFFINE) on a planar tile.
#pragma once

#include <array>
#include <cstdint>

#include "interpolation.h"
#include "paddedTile.h"
#include "tile.h"

namespace moco::image {

struct Affine {
  // The pixel at (x, y) shows (m0 x + m1 y + m2, m3 x + m4 y + m5); centres are at halves.
  std::array<double, 6> matrix = {1, 0, 0, 0, 1, 0};
  Interpolation interpolation = Interpolation::kBilinear;
  // What is seen beyond the image.
  std::array<uint8_t, 3> fill = {0, 0, 0};
};

// Three planes only; the size stays.
void transform(Tile& tile, const Affine& affine, PaddedTile& scratch);

}  // namespace moco::image
