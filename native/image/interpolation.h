// How pixels between pixels are made, by PIL's names.
#pragma once

namespace moco::image {

enum class Interpolation : int { kBilinear = 0, kBicubic = 1 };

}  // namespace moco::image
