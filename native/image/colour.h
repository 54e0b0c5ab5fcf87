// Colour jitter, grayscale and solarize as torchvision does them on PIL images, on a planar tile.
#pragma once

#include "tile.h"

namespace moco::image {

// ImageEnhance: a blend of the image with a degenerate one (black, the mean gray, the gray image)
// at `factor`; 1 leaves the image as it is. Three planes only.
void adjustBrightness(Tile& tile, float factor);
void adjustContrast(Tile& tile, float factor);
void adjustSaturation(Tile& tile, float factor);

// Shifts the 8-bit hue of PIL's HSV by `shift` steps of 1/255 turn, modulo 256.
void shiftHue(Tile& tile, int shift);

// Leaves one plane: PIL's luma.
void toGrayscale(Tile& tile);

// Inverts the values at or above `threshold`.
void solarize(Tile& tile, int threshold);

}  // namespace moco::image
