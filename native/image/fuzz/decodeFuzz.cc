// The image code under a fuzzer, compiled with sanitizers by `npm run fuzz -- images`; no part of
// the addon.
//
//   decodeFuzz seeds FOLDER   writes the JPEGs that the fuzzer begins with
//   decodeFuzz version        names the library
//   decodeFuzz run            reads inputs from standard input, each two 32-bit numbers (length,
//                             seed) and the bytes, and prints one line for each
//
// A line is `OUTCOME<tab>text`: decoded, refused or finding.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../erasing.h"
#include "../imageError.h"
#include "../jpegDecoder.h"
#include "../normalize.h"
#include "../simd.h"
#include "../view.h"
#include "seedImages.h"

namespace moco::image {
namespace {

constexpr int64_t kMostPixels = 2 << 20;
constexpr int kBoxes = 3;

// Something that must never happen, whatever the input.
class Finding : public std::logic_error {
  using logic_error::logic_error;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine(seed) {}
  // From low to high, both included.
  int from(int low, int high) {
    return low + static_cast<int>(engine() % (static_cast<uint64_t>(high - low) + 1));
  }
  bool chance(int percent) { return from(0, 99) < percent; }
  float real(float low, float high) {
    return low + (high - low) * static_cast<float>(from(0, 1000)) / 1000.0F;
  }

 private:
  std::mt19937_64 engine;
};

std::string describe(const Box& box) {
  return std::to_string(box.width) + " x " + std::to_string(box.height) + " at (" +
         std::to_string(box.left) + ", " + std::to_string(box.top) + ")";
}

Box randomBox(Random& random, int width, int height) {
  Box box;
  box.width = random.chance(30) ? random.from(1, std::min(width, 20)) : random.from(1, width);
  box.height = random.chance(30) ? random.from(1, std::min(height, 20)) : random.from(1, height);
  box.left = random.chance(20) ? width - box.width : random.from(0, width - box.width);
  box.top = random.chance(20) ? height - box.height : random.from(0, height - box.height);
  return box;
}

Operation randomOperation(Random& random) {
  Operation operation;
  operation.kind = static_cast<Operation::Kind>(random.from(0, Operation::kKinds - 1));
  switch (operation.kind) {
    case Operation::Kind::kPosterize:
      operation.argument = random.from(0, 8);
      break;
    case Operation::Kind::kSolarize:
    case Operation::Kind::kSolarizeAdd:
      operation.argument = random.from(0, 256);
      break;
    default:
      operation.argument = random.chance(10) ? random.real(-1e9F, 1e9F) : random.real(-2, 3);
  }
  Affine& affine = operation.affine;
  affine.interpolation = static_cast<Interpolation>(random.from(0, 1));
  for (uint8_t& each : affine.fill) each = static_cast<uint8_t>(random.from(0, 255));
  // Along rows, along columns, both.
  const int kind = random.from(0, 3);
  const float most = random.chance(10) ? 1e12F : 2;
  if (kind != 1) affine.matrix[1] = random.real(-most, most);
  if (kind != 1) affine.matrix[2] = random.real(-40, 40);
  if (kind != 0) affine.matrix[3] = random.real(-most, most);
  if (kind != 0) affine.matrix[5] = random.real(-40, 40);
  if (kind == 3) affine.matrix[0] = random.real(-most, most);
  if (kind == 3) affine.matrix[4] = random.real(-most, most);
  return operation;
}

// Somewhere in the view, up to all of it.
Erasing randomErasing(Random& random, int width, int height) {
  Erasing erasing;
  erasing.mode = static_cast<Erasing::Mode>(random.from(0, 3));
  erasing.box = randomBox(random, width, height);
  erasing.noise.stream = static_cast<uint32_t>(random.from(0, 1000));
  return erasing;
}

View randomView(Random& random, const Box& crop, std::vector<Operation>& operations) {
  View view;
  view.crop = crop;
  view.interpolation = static_cast<Interpolation>(random.from(0, 1));
  operations.clear();
  for (int left = random.chance(60) ? random.from(1, 3) : 0; left > 0; --left) {
    operations.push_back(randomOperation(random));
  }
  view.operations = operations.data();
  view.operationCount = operations.size();
  view.resizedWidth = random.from(1, 80);
  view.resizedHeight = random.from(1, 80);
  view.window = randomBox(random, view.resizedWidth, view.resizedHeight);
  for (int i = 0; i < 4; ++i) view.order[i] = static_cast<Jitter>(random.from(-1, 3));
  view.brightness = random.real(0, 3);
  view.contrast = random.real(0, 3);
  view.saturation = random.real(0, 3);
  view.hueShift = random.from(-255, 255);
  view.grayscale = random.chance(20);
  view.blurSigma = random.chance(50) ? random.real(0, 6) : 0;
  view.solarizeThreshold = random.chance(30) ? random.from(0, 256) : 256;
  view.flip = random.chance(50);
  return view;
}

Source sourceOf(const Region& region) {
  return {region.bytes.data(), region.box.width, region.box.height, region.stride};
}

// Why decoding failed, or nothing. Each attempt opens the image anew.
std::optional<std::string> tryDecode(JpegDecoder& decoder, const uint8_t* bytes, size_t length,
                                     bool exif, const Box& box, Region& out) {
  try {
    decoder.open(bytes, length, exif);
    decoder.decode(box, out);
    return std::nullopt;
  } catch (const ImageError& error) {
    return error.what();
  }
}

void compare(const Region& whole, const Region& part, const Box& wanted) {
  const Box& box = part.box;
  if (box.left < 0 || box.top < 0 || box.left > wanted.left || box.top > wanted.top ||
      box.left + box.width < wanted.left + wanted.width ||
      box.top + box.height < wanted.top + wanted.height || box.left + box.width > whole.box.width ||
      box.top + box.height > whole.box.height ||
      part.bytes.size() < part.stride * static_cast<size_t>(box.height)) {
    throw Finding("decoded " + describe(box) + " for " + describe(wanted));
  }
  for (int y = wanted.top; y < wanted.top + wanted.height; ++y) {
    const uint8_t* expected = whole.bytes.data() + whole.stride * static_cast<size_t>(y) +
                              3 * static_cast<size_t>(wanted.left);
    const uint8_t* got = part.bytes.data() + part.stride * static_cast<size_t>(y - box.top) +
                         3 * static_cast<size_t>(wanted.left - box.left);
    if (std::memcmp(expected, got, 3 * static_cast<size_t>(wanted.width)) != 0) {
      throw Finding("row " + std::to_string(y) + " of " + describe(wanted) +
                    " differs from the whole picture's");
    }
  }
}

class Examiner {
 public:
  // The size of a picture that was decoded; throws ImageError for one that was refused, and
  // Finding.
  std::string examine(const uint8_t* bytes, size_t length, uint32_t seed) {
    Random random(seed);
    const bool exif = random.chance(50);
    const JpegDecoder::Info info = lasting.open(bytes, length, exif);
    if (info.width < 1 || info.height < 1) throw Finding("a picture without pixels");
    const std::string size = std::to_string(info.width) + " x " + std::to_string(info.height);
    if (int64_t{info.width} * info.height > kMostPixels) {
      // Too large to compare thousands of them, but a corner must be had or refused.
      lasting.decode(randomBox(random, std::min(info.width, 100), std::min(info.height, 100)),
                     part);
      return size;
    }
    const Box all{0, 0, info.height, info.width};
    const std::optional<std::string> failure = tryDecode(lasting, bytes, length, exif, all, whole);
    for (int i = 0; i < kBoxes; ++i) {
      const Box wanted = randomBox(random, info.width, info.height);
      // One that has seen no other image must answer the same.
      JpegDecoder fresh;
      const std::optional<std::string> alike = tryDecode(fresh, bytes, length, exif, wanted, part);
      if (alike != failure) {
        throw Finding("whole: " + failure.value_or("decoded") + "; " + describe(wanted) + ": " +
                      alike.value_or("decoded"));
      }
      if (failure) continue;
      compare(whole, part, wanted);
      render(random, wanted);
    }
    if (failure) throw ImageError(*failure);
    return size;
  }

 private:
  // A view of the part is that of the whole picture.
  void render(Random& random, const Box& crop) {
    View view = randomView(random, crop, operations);
    renderView(sourceOf(whole), view, scratch);
    const Tile& tile = scratch.tile;
    const auto pixels = [&] {
      const size_t used = tile.area() * static_cast<size_t>(tile.planes);
      return std::vector<uint8_t>(tile.bytes.data(), tile.bytes.data() + used);
    };
    const std::vector<uint8_t> expected = pixels();
    view.crop.left -= part.box.left;
    view.crop.top -= part.box.top;
    // Half of the time by the kernels of processors without AVX2, which must not differ either.
    plainKernels = random.chance(50);
    renderView(sourceOf(part), view, scratch);
    if (pixels() != expected) {
      throw Finding("the view of " + describe(crop) + " differs from the whole picture's");
    }
    // Exactly as large as needed, so that a sanitizer sees what is written beyond.
    const auto floats = std::make_unique<float[]>(3 * tile.area());
    writeNormalized(tile, view.flipsLast(), normalization, floats.get());
    erase(randomErasing(random, tile.width, tile.height), tile.height, tile.width, floats.get());
    for (size_t i = 0; i < 3 * tile.area(); ++i) {
      // The lightest normalised value is below 3, noise below 6.
      if (!(std::abs(floats[i]) < 6)) throw Finding("a value is " + std::to_string(floats[i]));
    }
    const auto eightBits = std::make_unique<uint8_t[]>(3 * tile.area());
    writeBytes(tile, view.flipsLast(), eightBits.get());
    plainKernels = false;
  }

  JpegDecoder lasting;
  Region whole;
  Region part;
  Scratch scratch;
  std::vector<Operation> operations;
  Normalization normalization{{0.485F, 0.456F, 0.406F}, {0.229F, 0.224F, 0.225F}};
};

bool readExactly(void* into, size_t length) { return std::fread(into, 1, length, stdin) == length; }

int run() {
  Examiner examiner;
  uint32_t header[2];
  while (readExactly(header, sizeof header)) {
    const size_t length = header[0];
    const auto bytes = std::make_unique<uint8_t[]>(length);
    if (!readExactly(bytes.get(), length)) return 2;
    try {
      const std::string size = examiner.examine(bytes.get(), length, header[1]);
      std::printf("decoded\t%s\n", size.c_str());
    } catch (const ImageError& error) {
      std::printf("refused\t%s\n", error.what());
    } catch (const std::exception& error) {
      std::printf("finding\t%s\n", error.what());
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace moco::image

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "seeds" && argc == 3) {
    moco::image::writeSeedImages(argv[2]);
    return 0;
  }
  if (command == "version") {
    std::printf("%s\n", moco::image::jpegLibraryVersion());
    return 0;
  }
  if (command == "run") return moco::image::run();
  std::fprintf(stderr, "usage: decodeFuzz seeds FOLDER | version | run\n");
  return 2;
}
