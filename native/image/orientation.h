// Which way up a JPEG is to be seen, by its EXIF orientation (1 to 8), as PIL's
// ImageOps.exif_transpose.
#pragma once

#include <cstddef>
#include <cstdint>

#include "box.h"

namespace moco::image {

constexpr int kUpright = 1;

// The orientation that a JPEG's header declares in EXIF or, where that says nothing, in XMP;
// kUpright without a valid one.
int readOrientation(const uint8_t* jpeg, size_t length);

// Whether width and height change places.
inline bool swapsSides(int orientation) { return orientation >= 5; }

// The box of the stored picture, of the given size, that holds a box of the upright one.
Box storedBox(const Box& upright, int orientation, int storedWidth, int storedHeight);

// And the other way round.
Box uprightBox(const Box& stored, int orientation, int storedWidth, int storedHeight);

// Turns RGB pixels of a stored box, rows of `stride` bytes, into those of its upright box, whose
// rows follow each other without a gap.
void turnUpright(const uint8_t* stored, size_t stride, int storedWidth, int storedHeight,
                 int orientation, uint8_t* upright);

}  // namespace moco::image
