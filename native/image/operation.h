// One of RandAugment's operations on a tile, as timm does them with PIL.
#pragma once

#include <array>
#include <cstdint>

#include "affine.h"
#include "tile.h"

namespace moco::image {

struct Operation {
  // The numbers that lib/data/augmentation/operations.ts gives them.
  enum class Kind : int {
    kAutoContrast = 0,
    kEqualize = 1,
    kInvert = 2,
    kPosterize = 3,
    kSolarize = 4,
    kSolarizeAdd = 5,
    kColour = 6,
    kContrast = 7,
    kBrightness = 8,
    kSharpness = 9,
    kAffine = 10,
  };
  static constexpr int kKinds = 11;

  Kind kind = Kind::kAutoContrast;
  // Of all but kAffine.
  double argument = 0;
  // Of kAffine.
  Affine affine;
};

// Three planes only.
void apply(const Operation& operation, Tile& tile, PaddedTile& scratch);

}  // namespace moco::image
