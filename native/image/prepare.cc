#include "prepare.h"

#include <algorithm>

#include "imageError.h"
#include "inputFile.h"

namespace moco::image {
namespace {

struct Bytes {
  const uint8_t* data;
  size_t count;
};

Bytes fileBytes(const Input& input, Workshop& workshop) {
  if (input.kind == Input::Kind::kBytes) return {input.bytes, input.byteCount};
  readInputFile(input.path, input.offset, input.length, workshop.file);
  return {workshop.file.data(), workshop.file.size()};
}

// Reads the header of a JPEG. False for other formats.
bool openJpeg(const Input& input, bool honourOrientation, Workshop& workshop, Prepared& result) {
  const Bytes bytes = fileBytes(input, workshop);
  workshop.scratch.clock.stop(Stage::kRead);
  if (bytes.count == 0) throw ImageError("the file is empty");
  if (!jpegSupported() || !looksLikeJpeg(bytes.data, bytes.count)) {
    result.outcome = Outcome::kForeign;
    return false;
  }
  const JpegDecoder::Info info = workshop.decoder.open(bytes.data, bytes.count, honourOrientation);
  result.width = info.width;
  result.height = info.height;
  return true;
}

// Runs `body`, which may find the image bad.
template <typename Body>
Prepared reported(Workshop& workshop, Body&& body) {
  Prepared result;
  workshop.scratch.clock.start();
  try {
    body(result);
  } catch (const ImageError& error) {
    result.outcome = Outcome::kBad;
    result.reason = error.what();
  }
  return result;
}

Box cropOf(const Rendering& rendering, int width, int height) {
  switch (rendering.cropKind) {
    case Rendering::Crop::kDraw:
      return fitCrop(rendering.draw, width, height);
    case Rendering::Crop::kBox: {
      const Box& box = rendering.box;
      if (box.left > width - box.width || box.top > height - box.height) {
        throw ImageError("the crop of " + std::to_string(box.width) + " x " +
                         std::to_string(box.height) + " pixels at (" + std::to_string(box.left) +
                         ", " + std::to_string(box.top) + ") is not inside the image of " +
                         std::to_string(width) + " x " + std::to_string(height));
      }
      return box;
    }
    default:
      return {0, 0, height, width};
  }
}

// The smallest box around all of them.
Box around(const std::vector<Box>& boxes, int width, int height) {
  if (boxes.empty()) return {0, 0, height, width};
  Box all = boxes[0];
  for (const Box& box : boxes) {
    const int bottom = std::max(all.top + all.height, box.top + box.height);
    const int right = std::max(all.left + all.width, box.left + box.width);
    all.top = std::min(all.top, box.top);
    all.left = std::min(all.left, box.left);
    all.height = bottom - all.top;
    all.width = right - all.left;
  }
  return all;
}

}  // namespace

Prepared prepareImage(const Input& input, const Rendering* renderings, size_t count,
                      const Normalization& normalization, bool honourOrientation,
                      Workshop& workshop) {
  Scratch& scratch = workshop.scratch;
  workshop.crops.clear();
  return reported(workshop, [&](Prepared& result) {
    const bool decoded = input.kind == Input::Kind::kPixels;
    if (decoded) {
      result.width = input.width;
      result.height = input.height;
    } else if (!openJpeg(input, honourOrientation, workshop, result)) {
      return;
    }
    for (size_t i = 0; i < count; ++i) {
      workshop.crops.push_back(cropOf(renderings[i], result.width, result.height));
    }
    // Where the pixels that are at hand lie in the image.
    Source source;
    Box at{0, 0, result.height, result.width};
    if (decoded) {
      source = {input.bytes, input.width, input.height, static_cast<size_t>(input.width) * 3};
    } else {
      workshop.decoder.decode(around(workshop.crops, result.width, result.height), workshop.region);
      at = workshop.region.box;
      source = {workshop.region.bytes.data(), at.width, at.height, workshop.region.stride};
      scratch.clock.stop(Stage::kDecode);
    }
    for (size_t i = 0; i < count; ++i) {
      const Rendering& rendering = renderings[i];
      View view = rendering.view;
      view.crop = workshop.crops[i];
      const Resizing resizing = rendering.shorter > 0
                                    ? resizeShorter(rendering.shorter, view.crop.width,
                                                    view.crop.height, rendering.resizing.window)
                                    : rendering.resizing;
      view.resizedHeight = resizing.height;
      view.resizedWidth = resizing.width;
      view.window = resizing.window;
      view.crop.top -= at.top;
      view.crop.left -= at.left;
      renderView(source, view, scratch);
      if (rendering.bytes) {
        writeBytes(scratch.tile, view.flipsLast(), rendering.bytes);
      } else {
        writeNormalized(scratch.tile, view.flipsLast(), normalization, rendering.floats);
        erase(rendering.erasing, scratch.tile.height, scratch.tile.width, rendering.floats);
      }
      scratch.clock.stop(Stage::kWrite);
    }
  });
}

Prepared decodeImage(const Input& input, bool honourOrientation, Workshop& workshop) {
  return reported(workshop, [&](Prepared& result) {
    if (!openJpeg(input, honourOrientation, workshop, result)) return;
    workshop.decoder.decode({0, 0, result.height, result.width}, workshop.region);
    workshop.scratch.clock.stop(Stage::kDecode);
  });
}

}  // namespace moco::image
