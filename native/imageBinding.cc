// The image kernels for JavaScript: images are read, decoded and rendered straight into batch
// tensors on the pool's threads while the JavaScript thread goes on.
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "environment.h"
#include "image/convert.h"
#include "image/simd.h"
#include "imagePool.h"
#include "imageRequest.h"

namespace moco {
namespace {

using image::Outcome;
using image::Prepared;

napi_value reasonOrNull(napi_env env, const Prepared& prepared) {
  napi_value value;
  if (prepared.outcome == Outcome::kBad) return fromString(env, prepared.reason);
  checked(napi_get_null(env, &value), "null");
  return value;
}

class PrepareWork : public PromiseWork {
 public:
  PrepareWork(Pool& pool, ImageRequest request, bool honourOrientation, int32_t* outcomes)
      : PromiseWork(pool, request.inputs.size()),
        request(std::move(request)),
        results(this->request.inputs.size()),
        honourOrientation(honourOrientation),
        outcomes(outcomes) {}

  void run(size_t index, image::Workshop& workshop) override {
    const size_t begin = request.first[index];
    const size_t count = request.first[index + 1] - begin;
    Prepared& result = results[index];
    result = image::prepareImage(request.inputs[index], request.renderings.data() + begin, count,
                                 request.normalization, honourOrientation, workshop);
    int32_t* own = outcomes + 3 * index;
    own[0] = static_cast<int32_t>(result.outcome);
    own[1] = result.width;
    own[2] = result.height;
    int32_t* boxes = outcomes + 3 * request.inputs.size() + 4 * begin;
    for (const image::Box& crop : workshop.crops) {
      for (const int side : {crop.top, crop.left, crop.height, crop.width}) *boxes++ = side;
    }
    this->count(workshop.scratch.clock, workshop.crops.size());
  }

  void release() override { request.outputs.clear(); }

  napi_value resolution(napi_env env) override {
    napi_value reasons;
    checked(napi_create_array_with_length(env, results.size(), &reasons), "array");
    for (size_t i = 0; i < results.size(); ++i) {
      checked(
          napi_set_element(env, reasons, static_cast<uint32_t>(i), reasonOrNull(env, results[i])),
          "array");
    }
    return reasons;
  }

 private:
  ImageRequest request;
  std::vector<Prepared> results;
  bool honourOrientation;
  int32_t* outcomes;
};

// prepareImages(pool, images: (path | bytes)[], inputs: Float64Array, renderings: Float64Array,
//   draws: Float64Array, operations: Float64Array, outputs: slots of [N, 3, H, W] float32 or uint8
//   tensors, normalization: Float64Array of three means and three standard deviations,
//   honourOrientation, outcomes: Int32Array) -> Promise of why each image is bad, or null
// Fills `outcomes` with outcome, width and height of each image, then top, left, height and width
// of each rendering's crop. Bytes must not change until the promise settles.
napi_value prepareImages(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<10> arguments(env, info);
    Pool& pool = openPoolOf(env, arguments[0]);
    ImageRequest request = readImageRequest(env, arguments[1], arguments[2], arguments[3],
                                            arguments[4], arguments[5], arguments[6], arguments[7]);
    const bool honourOrientation = toBool(env, arguments[8]);
    const auto [outcomes, room] = typedArray<int32_t>(env, arguments[9], napi_int32_array,
                                                      "room for outcomes as an Int32Array");
    if (room != 3 * request.inputs.size() + 4 * request.renderings.size()) {
      throw std::invalid_argument("the room for outcomes has another size");
    }
    const napi_value kept = request.kept;
    const uint32_t count = static_cast<uint32_t>(request.inputs.size());
    checked(napi_set_element(env, kept, count, arguments[0]), "array");
    checked(napi_set_element(env, kept, count + 1, arguments[9]), "array");
    return PromiseWork::submit(
        env, std::make_shared<PrepareWork>(pool, std::move(request), honourOrientation, outcomes),
        kept);
  });
}

class DecodeWork : public PromiseWork {
 public:
  DecodeWork(Pool& pool, image::Input input, bool honourOrientation)
      : PromiseWork(pool, 1), input(std::move(input)), honourOrientation(honourOrientation) {}

  void run(size_t, image::Workshop& workshop) override {
    result = image::decodeImage(input, honourOrientation, workshop);
    if (result.outcome == Outcome::kDone) {
      // Rows may be apart; JavaScript gets them without gaps.
      const size_t row = static_cast<size_t>(result.width) * 3;
      const image::Region& region = workshop.region;
      pixels.resize(row * static_cast<size_t>(result.height));
      for (size_t y = 0; y < static_cast<size_t>(result.height); ++y) {
        std::memcpy(pixels.data() + y * row, region.bytes.data() + y * region.stride, row);
      }
    }
    count(workshop.scratch.clock, 0);
  }

  napi_value resolution(napi_env env) override {
    napi_value answer;
    checked(napi_create_array_with_length(env, 5, &answer), "array");
    void* memory = nullptr;
    napi_value buffer;
    checked(napi_create_arraybuffer(env, pixels.size(), &memory, &buffer), "array buffer");
    if (!pixels.empty()) std::memcpy(memory, pixels.data(), pixels.size());
    uint32_t at = 0;
    for (const napi_value each :
         {fromInt(env, static_cast<int64_t>(result.outcome)), fromInt(env, result.width),
          fromInt(env, result.height), buffer, reasonOrNull(env, result)}) {
      checked(napi_set_element(env, answer, at++, each), "array");
    }
    return answer;
  }

 private:
  image::Input input;
  bool honourOrientation;
  Prepared result;
  std::vector<uint8_t> pixels;
};

// decodeImage(pool, image: path | bytes, input: Float64Array, honourOrientation)
//   -> Promise of [outcome, width, height, RGB as an ArrayBuffer, why it is bad or null]
napi_value decodeImage(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    Pool& pool = openPoolOf(env, arguments[0]);
    const auto [numbers, count] =
        typedArray<double>(env, arguments[2], napi_float64_array, "an input as a Float64Array");
    if (count != 3) throw std::invalid_argument("an image has 3 numbers");
    image::Input input = readInput(env, arguments[1], numbers, 0);
    if (input.kind == image::Input::Kind::kPixels) {
      throw std::invalid_argument("pixels need no decoding");
    }
    napi_value kept;
    checked(napi_create_array_with_length(env, 2, &kept), "array");
    checked(napi_set_element(env, kept, 0, arguments[0]), "array");
    checked(napi_set_element(env, kept, 1, arguments[1]), "array");
    return PromiseWork::submit(
        env, std::make_shared<DecodeWork>(pool, std::move(input), toBool(env, arguments[3])), kept);
  });
}

// fitCrop(draw: Float64Array, width, height) -> [top, left, height, width]
napi_value fitCrop(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<3> arguments(env, info);
    const auto [draw, count] =
        typedArray<double>(env, arguments[0], napi_float64_array, "a crop draw as a Float64Array");
    const int64_t width = toInt(env, arguments[1]);
    const int64_t height = toInt(env, arguments[2]);
    constexpr int64_t kMost = 1 << 24;
    if (count != image::kCropDrawNumbers || width < 1 || height < 1 || width > kMost ||
        height > kMost) {
      throw std::invalid_argument("a crop needs " + std::to_string(image::kCropDrawNumbers) +
                                  " numbers and an image of 1 to 2^24 pixels a side");
    }
    const image::Box box = image::fitCrop(draw, static_cast<int>(width), static_cast<int>(height));
    const std::array<int64_t, 4> sides = {box.top, box.left, box.height, box.width};
    return fromInts(env, sides);
  });
}

// cmykToRgb(cmyk: Uint8Array, rgb: Uint8Array)
napi_value cmykToRgb(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const auto [cmyk, length] =
        typedArray<uint8_t>(env, arguments[0], napi_uint8_array, "CMYK samples as a Uint8Array");
    const auto [rgb, room] =
        typedArray<uint8_t>(env, arguments[1], napi_uint8_array, "room for RGB as a Uint8Array");
    if (length % 4 != 0 || room != length / 4 * 3) {
      throw std::invalid_argument("CMYK and RGB hold different numbers of pixels");
    }
    image::cmykToRgb(cmyk, length / 4, rgb);
    return nullptr;
  });
}

// usePlainKernels(plain: boolean): in the whole process, kernels use the body that every processor
// runs instead of the one for this processor. A test compares the two.
napi_value usePlainKernels(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    image::plainKernels = toBool(env, arguments[0]);
    return nullptr;
  });
}

// jpegVersion() -> the JPEG library inside, or ""
napi_value jpegVersion(napi_env env, napi_callback_info) {
  return guarded(env, [&] { return fromString(env, image::jpegLibraryVersion()); });
}

}  // namespace

void registerImage(napi_env env, napi_value exports) {
  registerImagePool(env, exports);
  define(env, exports, "prepareImages", prepareImages);
  define(env, exports, "decodeImage", decodeImage);
  define(env, exports, "fitCrop", fitCrop);
  define(env, exports, "cmykToRgb", cmykToRgb);
  define(env, exports, "usePlainKernels", usePlainKernels);
  define(env, exports, "jpegVersion", jpegVersion);
}

}  // namespace moco
