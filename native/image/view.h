// One view of one image: the parameters that TypeScript drew, and the kernels in their order.
#pragma once

#include <array>

#include "blur.h"
#include "flip.h"
#include "normalize.h"
#include "operation.h"
#include "resample.h"
#include "stageClock.h"

namespace moco::image {

enum class Jitter : int { kNone = -1, kBrightness = 0, kContrast = 1, kSaturation = 2, kHue = 3 };

struct View {
  Box crop;
  int resizedHeight = 0;
  int resizedWidth = 0;
  Box window;
  Interpolation interpolation = Interpolation::kBilinear;
  // Owned by whoever made the view.
  const Operation* operations = nullptr;
  size_t operationCount = 0;
  std::array<Jitter, 4> order = {Jitter::kNone, Jitter::kNone, Jitter::kNone, Jitter::kNone};
  float brightness = 1;
  float contrast = 1;
  float saturation = 1;
  // Already in steps of PIL's 8-bit hue.
  int hueShift = 0;
  bool grayscale = false;
  float blurSigma = 0;          // 0: none
  int solarizeThreshold = 256;  // 256: none
  bool flip = false;

  // Where a geometric operation could tell the difference, the flip comes before the operations,
  // as timm has it; else when the view is written, which costs nothing.
  bool flipsFirst() const { return flip && operationCount > 0; }
  bool flipsLast() const { return flip && operationCount == 0; }
};

// What a thread reuses from view to view.
struct Scratch {
  ResampleScratch resample;
  BlurScratch blur;
  PaddedTile padded;
  Buffer<uint8_t> row;
  Tile tile;
  StageClock clock;
};

// Leaves the view in scratch.tile, not yet flipped if it flips last.
void renderView(const Source& source, const View& view, Scratch& scratch);

}  // namespace moco::image
