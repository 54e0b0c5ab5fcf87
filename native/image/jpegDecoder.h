// JPEG files to RGB by libjpeg-turbo, bit for bit as PIL's convert("RGB"), decoding only the part
// of the picture that is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "box.h"

namespace moco::image {

// Interleaved RGB of `box` of a picture; row r begins at bytes[r * stride].
struct Region {
  // Only grows from image to image, unless much too large; may be longer than the rows need.
  std::vector<uint8_t> bytes;
  size_t stride = 0;
  Box box;
};

// Whether this build has libjpeg-turbo. Without it JpegDecoder::open always throws.
bool jpegSupported();

// "libjpeg-turbo 2.1.5", or "".
const char* jpegLibraryVersion();

bool looksLikeJpeg(const uint8_t* bytes, size_t length);

// One per thread. Keeps libjpeg's objects between images; a failed image leaves it ready for the
// next one. Huge images (more than 64 MB of pixels and coefficients) are decoded one at a time in
// the whole process.
class JpegDecoder {
 public:
  struct Info {
    int width = 0;
    int height = 0;
  };

  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // Parses the header. The bytes must stay as they are until `decode` ends. With
  // `honourOrientation` the picture, its size and boxes are those that EXIF's orientation turns
  // upright. Throws ImageError for what is no JPEG that can be decoded, or larger than PIL's limit.
  Info open(const uint8_t* bytes, size_t length, bool honourOrientation);

  // Decodes at least `wanted`, a box of at least one pixel within the picture, once per `open`.
  // Throws ImageError for the files that PIL refuses to load, whatever the box: data that ends too
  // early, and faults that libjpeg counts as errors. Damage that it counts as warnings gives the
  // same gray or shifted blocks as PIL shows.
  void decode(const Box& wanted, Region& out);

 private:
  struct State;
  std::unique_ptr<State> state;
};

}  // namespace moco::image
