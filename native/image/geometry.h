// Which part of an image a view shows, once the image's size is known.
#pragma once

#include <cstddef>

#include "resample.h"

namespace moco::image {

// A random crop before the image's size is known, as lib/data/augmentation/augmentation.ts draws
// it:
//   smallest and largest width / height; ten areas as fractions of the image's; ten shapes
//   (width / height); ten pairs of numbers in 0 to 1 that place the crop, top and left.
constexpr int kCropAttempts = 10;
constexpr size_t kCropDrawNumbers = 2 + 4 * kCropAttempts;

// The first of the ten that fits into the image, else the largest centred crop of an allowed shape:
// torchvision's RandomResizedCrop.
Box fitCrop(const double* draw, int width, int height);

// The size to which a crop is resized, and the part of the result that is kept.
struct Resizing {
  int height = 0;
  int width = 0;
  Box window;
};

// torchvision's Resize(shorter), which truncates the longer side, and CenterCrop, whose margins
// round half to even. The window's height and width are given, its corner is set.
Resizing resizeShorter(int shorter, int width, int height, const Box& window);

}  // namespace moco::image
