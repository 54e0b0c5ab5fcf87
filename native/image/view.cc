#include "view.h"

#include "colour.h"

namespace moco::image {

void renderView(const Source& source, const View& view, Scratch& scratch) {
  Tile& tile = scratch.tile;
  cropResize(source, view.crop, view.interpolation, view.resizedWidth, view.resizedHeight,
             view.window, scratch.resample, tile);
  scratch.clock.stop(Stage::kCrop);
  if (view.flipsFirst()) flip(tile, scratch.row);
  for (size_t i = 0; i < view.operationCount; ++i) {
    apply(view.operations[i], tile, scratch.padded);
  }
  for (const Jitter operation : view.order) {
    switch (operation) {
      case Jitter::kBrightness:
        adjustBrightness(tile, view.brightness);
        break;
      case Jitter::kContrast:
        adjustContrast(tile, view.contrast);
        break;
      case Jitter::kSaturation:
        adjustSaturation(tile, view.saturation);
        break;
      case Jitter::kHue:
        shiftHue(tile, view.hueShift);
        break;
      case Jitter::kNone:
        break;
    }
  }
  if (view.grayscale) toGrayscale(tile);
  scratch.clock.stop(Stage::kColour);
  if (view.blurSigma > 0) gaussianBlur(tile, view.blurSigma, scratch.blur);
  scratch.clock.stop(Stage::kBlur);
  if (view.solarizeThreshold < 256) solarize(tile, view.solarizeThreshold);
  scratch.clock.stop(Stage::kColour);
}

}  // namespace moco::image
