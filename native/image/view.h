// One view of one image: the parameters that TypeScript drew, and the kernels in their order.
#pragma once

#include <array>

#include "blur.h"
#include "normalize.h"
#include "resample.h"
#include "stageClock.h"

namespace moco::image {

enum class Jitter : int { kNone = -1, kBrightness = 0, kContrast = 1, kSaturation = 2, kHue = 3 };

struct View {
  Box crop;
  int resizedHeight = 0;
  int resizedWidth = 0;
  Box window;
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
};

// What a thread reuses from view to view.
struct Scratch {
  ResampleScratch resample;
  BlurScratch blur;
  Tile tile;
  StageClock clock;
};

// Leaves the view, not yet flipped, in scratch.tile.
void renderView(const Source& source, const View& view, Scratch& scratch);

}  // namespace moco::image
