// One image from where it lies to all of its views in their batches: read, decode what they need,
// crop, augment, write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "erasing.h"
#include "geometry.h"
#include "jpegDecoder.h"
#include "normalize.h"
#include "view.h"

namespace moco::image {

struct Input {
  enum class Kind { kFile, kBytes, kPixels };
  Kind kind = Kind::kFile;
  std::string path;
  // Of a file, the part that is the image; all of it when negative.
  int64_t offset = -1;
  int64_t length = 0;
  // A file's contents, or interleaved RGB of `width` x `height`.
  const uint8_t* bytes = nullptr;
  size_t byteCount = 0;
  int width = 0;
  int height = 0;
};

// One view to make of an image, and where it goes.
struct Rendering {
  enum class Crop { kWhole, kBox, kDraw };
  Crop cropKind = Crop::kWhole;
  Box box;
  const double* draw = nullptr;
  // Above 0: resize the shorter side to this and keep the centre; else `resizing` holds.
  int shorter = 0;
  Resizing resizing;
  // Its geometry is filled in once the image's size is known.
  View view;
  // Of `floats` only.
  Erasing erasing;
  float* floats = nullptr;
  uint8_t* bytes = nullptr;
};

enum class Outcome : int32_t { kDone = 0, kBad = 1, kForeign = 2 };

struct Prepared {
  Outcome outcome = Outcome::kDone;
  // Why the image is bad.
  std::string reason;
  int width = 0;
  int height = 0;
};

// What a thread reuses from image to image.
struct Workshop {
  std::vector<uint8_t> file;
  JpegDecoder decoder;
  Region region;
  std::vector<Box> crops;
  Scratch scratch;
};

// Makes all renderings of one image; without any, decodes it whole to see that it can be. `crops`
// gets the box that each shows. An image that cannot be read is reported; one in a format other
// than JPEG is handed back. Throws only what is no fault of the image.
Prepared prepareImage(const Input& input, const Rendering* renderings, size_t count,
                      const Normalization& normalization, bool honourOrientation,
                      Workshop& workshop);

// Decodes one image whole into workshop.region.
Prepared decodeImage(const Input& input, bool honourOrientation, Workshop& workshop);

}  // namespace moco::image
