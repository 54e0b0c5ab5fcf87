#include "weights.h"

#include <algorithm>
#include <cmath>

namespace moco::image {

int Weights::end() const {
  int last = 0;
  for (size_t o = 0; o < start.size(); ++o) last = std::max(last, start[o] + taps[o]);
  return last;
}

int Weights::span() const {
  int widest = 0;
  for (size_t o = 0; o < start.size(); ++o) widest = std::max(widest, start[o] + taps[o] - from[o]);
  return widest;
}

namespace {

// Half of the width, in pixels where nothing is reduced, and the value at a distance from 0.
struct Triangle {
  static constexpr double kSupport = 1.0;
  static double at(double distance) { return distance < 1.0 ? 1.0 - distance : 0.0; }
};

// Keys' cubic convolution (1981) with a = -1/2, its terms in the order in which Pillow rounds them.
struct Cubic {
  static constexpr double kSupport = 2.0;
  static constexpr double kSharpness = -0.5;
  static double at(double distance) {
    const double x = distance;
    if (x < 1.0) return ((kSharpness + 2.0) * x - (kSharpness + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kSharpness;
    return 0.0;
  }
};

// The filter is as wide as the reduction (never narrower than for none), normalised in double, then
// rounded to fixed point: exactly Pillow's steps, since each rounding shows.
template <typename Filter>
void weightsOf(int inSize, int outSize, int first, int count, Weights& out) {
  const double scale = static_cast<double>(static_cast<float>(inSize)) / outSize;
  const double filterScale = std::max(scale, 1.0);
  const double support = Filter::kSupport * filterScale;
  const double inverse = 1.0 / filterScale;
  out.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  const size_t outputs = static_cast<size_t>(count);
  out.start.resize(outputs);
  out.taps.resize(outputs);
  out.from.resize(outputs);
  out.values.resize(outputs * static_cast<size_t>(out.stride));
  out.exact.resize(static_cast<size_t>(out.stride));
  double* exact = out.exact.data();
  int32_t* values = out.values.data();
  for (int o = 0; o < count; ++o, values += out.stride) {
    const double center = (first + o + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), inSize);
    double total = 0;
    for (int i = begin; i < end; ++i) {
      const double weight = Filter::at(std::abs((i - center + 0.5) * inverse));
      exact[i - begin] = weight;
      total += weight;
    }
    int taps = 0;
    int skipped = 0;
    for (int i = 0; i < end - begin; ++i) {
      const double weight = total != 0.0 ? exact[i] / total : exact[i];
      const int32_t value =
          static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kWeightBits));
      // Zero weights at either end change nothing and cost a multiplication per pixel.
      if (taps == 0 && value == 0) {
        ++skipped;
        continue;
      }
      values[taps++] = value;
    }
    while (taps > 1 && values[taps - 1] == 0) --taps;
    out.start[static_cast<size_t>(o)] = begin + skipped;
    out.taps[static_cast<size_t>(o)] = taps;
  }
  // Skipped zeros can let a start step back.
  int from = inSize;
  for (size_t o = outputs; o-- > 0;) out.from[o] = from = std::min(from, out.start[o]);
}

}  // namespace

void filterWeights(Interpolation interpolation, int inSize, int outSize, int first, int count,
                   Weights& out) {
  if (interpolation == Interpolation::kBicubic) {
    weightsOf<Cubic>(inSize, outSize, first, count, out);
  } else {
    weightsOf<Triangle>(inSize, outSize, first, count, out);
  }
}

}  // namespace moco::image
