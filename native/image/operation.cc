#include "operation.h"

#include "colour.h"
#include "sharpness.h"
#include "tone.h"

namespace moco::image {

void apply(const Operation& operation, Tile& tile, PaddedTile& scratch) {
  const float factor = static_cast<float>(operation.argument);
  const int whole = static_cast<int>(operation.argument);
  switch (operation.kind) {
    case Operation::Kind::kAutoContrast:
      return autoContrast(tile);
    case Operation::Kind::kEqualize:
      return equalize(tile);
    case Operation::Kind::kInvert:
      return solarize(tile, 0);
    case Operation::Kind::kPosterize:
      return posterize(tile, whole);
    case Operation::Kind::kSolarize:
      return solarize(tile, whole);
    case Operation::Kind::kSolarizeAdd:
      return solarizeAdd(tile, whole);
    case Operation::Kind::kColour:
      return adjustSaturation(tile, factor);
    case Operation::Kind::kContrast:
      return adjustContrast(tile, factor);
    case Operation::Kind::kBrightness:
      return adjustBrightness(tile, factor);
    case Operation::Kind::kSharpness:
      return adjustSharpness(tile, factor, scratch);
    case Operation::Kind::kAffine:
      return transform(tile, operation.affine, scratch);
  }
}

}  // namespace moco::image
