// Microseconds of each image kernel on one core, for 224 x 224 views of a 500 x 375 image: the
// body for this processor beside the plain loops that every processor runs. Needs no libtorch:
//
//   g++ -std=c++17 -O3 -ffp-contract=off -fno-trapping-math -fno-math-errno -I native/image
//     scripts/bench/kernels.cc native/image/{affine,blur,colour,erasing,flip,hue,noise,normalize,
//     operation,resample,sharpness,tone,weights}.cc -o /tmp/kernels && /tmp/kernels
//
// Most of blur's loops and solarize's are chosen when the program is loaded, so their two columns
// show the same code.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "blur.h"
#include "colour.h"
#include "erasing.h"
#include "flip.h"
#include "normalize.h"
#include "operation.h"
#include "resample.h"
#include "simd.h"

using namespace moco::image;

namespace {

constexpr int kWidth = 500;
constexpr int kHeight = 375;
constexpr int kSize = 224;
constexpr int kRounds = 300;

std::mt19937 generator(1);

double uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(generator()) / 4294967296.0);
}

// RandomResizedCrop's draw: 8 to 100 % of the area, sides 3:4 to 4:3.
Box drawCrop() {
  for (;;) {
    const double area = uniform(0.08, 1) * kWidth * kHeight;
    const double ratio = std::exp(uniform(std::log(3.0 / 4), std::log(4.0 / 3)));
    const int width = static_cast<int>(std::lround(std::sqrt(area * ratio)));
    const int height = static_cast<int>(std::lround(std::sqrt(area / ratio)));
    if (width > kWidth || height > kHeight) continue;
    return {static_cast<int>(uniform(0, kHeight - height + 1)),
            static_cast<int>(uniform(0, kWidth - width + 1)), height, width};
  }
}

double median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  std::vector<uint8_t> pixels(3 * kWidth * kHeight);
  for (size_t i = 0; i < pixels.size(); ++i) {
    const double x = static_cast<double>(i / 3 % kWidth);
    const double y = static_cast<double>(i / 3 / kWidth);
    const double wave = std::sin(x / 17 + static_cast<double>(i % 3)) * std::cos(y / 23);
    pixels[i] = static_cast<uint8_t>(128 + 90 * wave + uniform(-30, 30));
  }
  const Source source{pixels.data(), kWidth, kHeight, 3 * kWidth};
  const Box whole{0, 0, kSize, kSize};
  const Normalization normalization({0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f});
  constexpr size_t kBatch = 64;  // larger than the cache, as a real batch is
  std::vector<float> batch(kBatch * 3 * kSize * kSize);
  std::vector<uint8_t> bytes(kBatch * 3 * kSize * kSize);
  ResampleScratch resample;
  BlurScratch blur;
  PaddedTile padded;
  Buffer<uint8_t> reversed;
  Tile tile;
  size_t row = 0;
  const auto next = [&] { return row++ % kBatch * 3 * kSize * kSize; };
  const auto cropBy = [&](Interpolation interpolation) {
    cropResize(source, drawCrop(), interpolation, kSize, kSize, whole, resample, tile);
  };
  const auto crop = [&] { cropBy(Interpolation::kBilinear); };
  const auto step = [&](Operation::Kind kind, double argument) {
    Operation operation;
    operation.kind = kind;
    operation.argument = argument;
    apply(operation, tile, padded);
  };
  const auto affine = [&](std::array<double, 6> matrix, Interpolation interpolation) {
    transform(tile, {matrix, interpolation, {124, 116, 104}}, padded);
  };
  const std::array<double, 6> shearX = {1, 0.27, 0, 0, 1, 0};
  const std::array<double, 6> shearY = {1, 0, 0, 0.27, 1, 0};
  const std::array<double, 6> rotation = {0.89, 0.454, -38, -0.454, 0.89, 63};

  const std::vector<std::pair<const char*, std::function<void()>>> kernels = {
      {"crop and resize", crop},
      {"bicubic", [&] { cropBy(Interpolation::kBicubic); }},
      {"brightness", [&] { adjustBrightness(tile, static_cast<float>(uniform(0.6, 1.4))); }},
      {"contrast", [&] { adjustContrast(tile, static_cast<float>(uniform(0.6, 1.4))); }},
      {"saturation", [&] { adjustSaturation(tile, static_cast<float>(uniform(0.8, 1.2))); }},
      {"hue", [&] { shiftHue(tile, static_cast<int>(uniform(-25, 26))); }},
      {"grayscale", [&] { toGrayscale(tile); }},
      {"blur", [&] { gaussianBlur(tile, static_cast<float>(uniform(0.1, 2)), blur); }},
      {"solarize", [&] { solarize(tile, 128); }},
      {"auto contrast", [&] { step(Operation::Kind::kAutoContrast, 0); }},
      {"equalize", [&] { step(Operation::Kind::kEqualize, 0); }},
      {"posterize", [&] { step(Operation::Kind::kPosterize, 1); }},
      {"solarize, add", [&] { step(Operation::Kind::kSolarizeAdd, 99); }},
      {"sharpness", [&] { step(Operation::Kind::kSharpness, 1.8); }},
      {"shear x", [&] { affine(shearX, Interpolation::kBilinear); }},
      {"shear x, cubic", [&] { affine(shearX, Interpolation::kBicubic); }},
      {"translate y, cubic", [&] { affine({1, 0, 0, 0, 1, 90.7}, Interpolation::kBicubic); }},
      {"shear y", [&] { affine(shearY, Interpolation::kBilinear); }},
      {"shear y, cubic", [&] { affine(shearY, Interpolation::kBicubic); }},
      {"rotate", [&] { affine(rotation, Interpolation::kBilinear); }},
      {"rotate, cubic", [&] { affine(rotation, Interpolation::kBicubic); }},
      {"flip", [&] { flip(tile, reversed); }},
      {"normalise", [&] { writeNormalized(tile, false, normalization, &batch[next()]); }},
      {"flip, normalise", [&] { writeNormalized(tile, true, normalization, &batch[next()]); }},
      {"erase a sixth", [&] {
         erase({Erasing::Mode::kPixels, {10, 20, 91, 91}, {}}, kSize, kSize, &batch[next()]);
       }},
      {"bytes", [&] { writeBytes(tile, false, &bytes[next()]); }},
      {"flip, bytes", [&] { writeBytes(tile, true, &bytes[next()]); }},
  };
  std::printf("%-16s %10s %10s   microseconds\n", "", "processor", "plain");
  for (const auto& [name, kernel] : kernels) {
    std::array<std::vector<double>, 2> times;
    for (int i = 0; i < 2 * kRounds; ++i) {
      crop();
      plainKernels = i % 2 != 0;
      const auto begin = std::chrono::steady_clock::now();
      kernel();
      const std::chrono::duration<double, std::micro> time =
          std::chrono::steady_clock::now() - begin;
      times[static_cast<size_t>(i % 2)].push_back(time.count());
      plainKernels = false;
    }
    std::printf("%-16s %10.1f %10.1f\n", name, median(times[0]), median(times[1]));
  }
}
