#include "bilinear.h"

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

// A triangle as wide as the reduction (never narrower than one input pixel), normalised in
// double, then rounded to fixed point: exactly Pillow's steps, since each rounding shows.
void bilinearWeights(int inSize, int outSize, int first, int count, Weights& out) {
  const double scale = static_cast<double>(static_cast<float>(inSize)) / outSize;
  const double support = std::max(scale, 1.0);
  const double inverse = 1.0 / support;
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
      const double distance = std::abs((i - center + 0.5) * inverse);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      exact[i - begin] = weight;
      total += weight;
    }
    int taps = 0;
    int skipped = 0;
    for (int i = 0; i < end - begin; ++i) {
      const double weight = total != 0.0 ? exact[i] / total : exact[i];
      const int32_t value = static_cast<int32_t>(0.5 + weight * (1 << kWeightBits));
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

}  // namespace moco::image
