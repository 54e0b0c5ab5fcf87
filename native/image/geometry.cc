#include "geometry.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "imageError.h"

namespace moco::image {
namespace {

constexpr double kMaxResizedSide = 1 << 24;

// Python's round: halves go to the even neighbour, as the default rounding mode has it.
double roundHalfEven(double value) { return std::nearbyint(value); }

}  // namespace

Box fitCrop(const double* draw, int width, int height) {
  const double ratioLow = draw[0];
  const double ratioHigh = draw[1];
  const double* areas = draw + 2;
  const double* shapes = areas + kCropAttempts;
  const double* places = shapes + kCropAttempts;
  const double area = static_cast<double>(width) * height;
  for (int attempt = 0; attempt < kCropAttempts; ++attempt) {
    const double target = area * areas[attempt];
    const double w = roundHalfEven(std::sqrt(target * shapes[attempt]));
    const double h = roundHalfEven(std::sqrt(target / shapes[attempt]));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      // The draws are below 1, but a product may round up to the bound.
      const auto place = [](double draw, double room) {
        return static_cast<int>(std::min(std::floor(draw * (room + 1)), room));
      };
      return {place(places[2 * attempt], height - h), place(places[2 * attempt + 1], width - w),
              static_cast<int>(h), static_cast<int>(w)};
    }
  }
  int w = width;
  int h = height;
  const double ratio = static_cast<double>(width) / height;
  const auto within = [](double value, int most) {
    return static_cast<int>(std::clamp(value, 1.0, static_cast<double>(most)));
  };
  if (ratio < ratioLow) {
    h = within(roundHalfEven(width / ratioLow), height);
  } else if (ratio > ratioHigh) {
    w = within(roundHalfEven(height * ratioHigh), width);
  }
  return {(height - h) / 2, (width - w) / 2, h, w};
}

Resizing resizeShorter(int shorter, int width, int height, const Box& window) {
  const bool wide = width > height;
  const double ratio = static_cast<double>(shorter) * (wide ? width : height);
  const double exact = ratio / (wide ? height : width);
  if (exact > kMaxResizedSide) {
    throw ImageError(std::to_string(width) + " x " + std::to_string(height) +
                     " pixels: too long and narrow for its shorter side to become " +
                     std::to_string(shorter));
  }
  const int longer = static_cast<int>(exact);
  Resizing result;
  result.height = wide ? shorter : longer;
  result.width = wide ? longer : shorter;
  result.window = window;
  result.window.top = static_cast<int>(roundHalfEven((result.height - window.height) / 2.0));
  result.window.left = static_cast<int>(roundHalfEven((result.width - window.width) / 2.0));
  return result;
}

}  // namespace moco::image
