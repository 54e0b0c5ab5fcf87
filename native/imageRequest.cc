#include "imageRequest.h"

#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <stdexcept>
#include <string>

#include "environment.h"
#include "imagePool.h"

namespace moco {
namespace {

using image::Input;
using image::Jitter;
using image::Operation;
using image::Rendering;
using image::View;

constexpr int kMaxSide = 1 << 16;
constexpr int kMaxImageSide = 1 << 24;
constexpr size_t kNumbersPerInput = 3;
constexpr size_t kNumbersPerRendering = 35;
constexpr size_t kNumbersPerOperation = 9;
constexpr double kMostOfOperation = 1e12;

// Reads the numbers of one rendering (or operation) in the order that TypeScript writes them.
class Fields {
 public:
  Fields(const double* at, size_t index, const char* what = "rendering")
      : at(at), index(index), what(what) {}

  double real() {
    const double value = *at++;
    if (!std::isfinite(value)) fail("a number is not finite");
    return value;
  }
  int64_t whole(const char* name, int64_t low, int64_t high) {
    const double value = real();
    if (value != std::floor(value) || value < static_cast<double>(low) ||
        value > static_cast<double>(high)) {
      std::ostringstream text;
      text << std::setprecision(17) << value;
      fail(std::string(name) + " is " + text.str() + ", not a whole number from " +
           std::to_string(low) + " to " + std::to_string(high));
    }
    return static_cast<int64_t>(value);
  }
  int small(const char* name, int64_t low, int64_t high) {
    return static_cast<int>(whole(name, low, high));
  }
  uint32_t word(const char* name) { return static_cast<uint32_t>(whole(name, 0, UINT32_MAX)); }
  image::Interpolation interpolation() {
    return static_cast<image::Interpolation>(small("interpolation", 0, 1));
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw std::invalid_argument(what + (" " + std::to_string(index)) + ": " + why);
  }

 private:
  const double* at;
  size_t index;
  const char* what;
};

void readCrop(Fields& fields, Rendering& rendering, const Input& input,
              const std::vector<double>& draws) {
  // Only pixels have a size that is known by now.
  const bool pixels = input.kind == Input::Kind::kPixels;
  const int height = pixels ? input.height : kMaxImageSide;
  const int width = pixels ? input.width : kMaxImageSide;
  rendering.cropKind = static_cast<Rendering::Crop>(fields.small("kind of crop", 0, 2));
  if (rendering.cropKind == Rendering::Crop::kDraw) {
    const size_t count = draws.size() / image::kCropDrawNumbers;
    const int64_t draw = fields.whole("crop draw", 0, static_cast<int64_t>(count) - 1);
    rendering.draw = draws.data() + static_cast<size_t>(draw) * image::kCropDrawNumbers;
    for (int i = 0; i < 3; ++i) fields.real();
  } else {
    image::Box& box = rendering.box;
    const int least = rendering.cropKind == Rendering::Crop::kBox ? 1 : 0;
    box.top = fields.small("crop top", 0, height - least);
    box.left = fields.small("crop left", 0, width - least);
    box.height = fields.small("crop height", least, height - box.top);
    box.width = fields.small("crop width", least, width - box.left);
  }
}

void readResizing(Fields& fields, Rendering& rendering, int height, int width) {
  image::Resizing& resizing = rendering.resizing;
  rendering.shorter = fields.small("shorter side", 0, kMaxSide);
  resizing.window.height = height;
  resizing.window.width = width;
  if (rendering.shorter > 0) {
    if (rendering.shorter < height || rendering.shorter < width) {
      fields.fail("the shorter side becomes " + std::to_string(rendering.shorter) +
                  ", less than the output's");
    }
    for (int i = 0; i < 4; ++i) fields.real();
  } else {
    resizing.height = fields.small("resized height", 1, kMaxSide);
    resizing.width = fields.small("resized width", 1, kMaxSide);
    resizing.window.top = fields.small("window top", 0, resizing.height - height);
    resizing.window.left = fields.small("window left", 0, resizing.width - width);
  }
}

void readOperations(Fields& fields, View& view) {
  // Each number holds what it can: four operations as the digits of a number of base 5.
  int order = fields.small("jitter order", 0, 5 * 5 * 5 * 5 - 1);
  for (Jitter& operation : view.order) {
    operation = static_cast<Jitter>(order % 5 - 1);
    order /= 5;
  }
  view.brightness = static_cast<float>(fields.real());
  view.contrast = static_cast<float>(fields.real());
  view.saturation = static_cast<float>(fields.real());
  view.hueShift = fields.small("hue shift", -255, 255);
  view.grayscale = fields.small("grayscale", 0, 1) != 0;
  view.blurSigma = static_cast<float>(fields.real());
  if (view.blurSigma < 0 || view.blurSigma > 1000) fields.fail("blur sigma is not in 0 to 1000");
  view.solarizeThreshold = fields.small("solarize threshold", 0, 256);
  view.flip = fields.small("flip", 0, 1) != 0;
}

void readOperationRange(Fields& fields, const ImageRequest& request, View& view) {
  const int64_t count = static_cast<int64_t>(request.operations.size());
  const int64_t first = fields.whole("first operation", 0, count);
  view.operations = request.operations.data() + first;
  view.operationCount = static_cast<size_t>(fields.whole("operations", 0, count - first));
}

void readErasing(Fields& fields, image::Erasing& erasing, int height, int width) {
  erasing.mode = static_cast<image::Erasing::Mode>(fields.small("kind of erasing", 0, 3));
  image::Box& box = erasing.box;
  box.top = fields.small("top of what is erased", 0, height);
  box.left = fields.small("left of what is erased", 0, width);
  box.height = fields.small("height of what is erased", 0, height - box.top);
  box.width = fields.small("width of what is erased", 0, width - box.left);
  image::NoiseKey& noise = erasing.noise;
  noise.seed = {fields.word("seed, low"), fields.word("seed, high")};
  noise.stream = fields.word("stream");
  noise.index = fields.word("index");
  noise.epoch = fields.word("epoch");
}

// In the order that lib/data/augmentation/operations.ts writes.
Operation readOperation(Fields fields) {
  Operation operation;
  const int kind = fields.small("kind of operation", 0, Operation::kKinds - 1);
  operation.kind = static_cast<Operation::Kind>(kind);
  for (double& number : operation.affine.matrix) {
    number = fields.real();
    // Sums of products with a place stay finite, and factors fit single precision.
    if (std::abs(number) > kMostOfOperation) fields.fail("a number is beyond 1e12");
  }
  operation.argument = operation.affine.matrix[0];
  const bool whole = operation.kind == Operation::Kind::kPosterize ||
                     operation.kind == Operation::Kind::kSolarize ||
                     operation.kind == Operation::Kind::kSolarizeAdd;
  if (whole && !(operation.argument >= 0 && operation.argument <= 256)) {
    fields.fail("its argument is not in 0 to 256");
  }
  operation.affine.interpolation = fields.interpolation();
  const int fill = fields.small("fill", 0, 0xffffff);
  for (int channel = 0; channel < 3; ++channel) {
    operation.affine.fill[static_cast<size_t>(channel)] =
        static_cast<uint8_t>(fill >> (16 - 8 * channel));
  }
  return operation;
}

// Answers which image the rendering is of.
size_t readRendering(Fields fields, const ImageRequest& request, Rendering& rendering) {
  const auto last = [](size_t count) { return static_cast<int64_t>(count) - 1; };
  const int64_t image = fields.whole("image", 0, last(request.inputs.size()));
  const int64_t output = fields.whole("output", 0, last(request.outputs.size()));
  const at::Tensor& tensor = request.outputs[static_cast<size_t>(output)];
  const int64_t row = fields.whole("row", 0, tensor.size(0) - 1);
  const int height = static_cast<int>(tensor.size(2));
  const int width = static_cast<int>(tensor.size(3));
  readCrop(fields, rendering, request.inputs[static_cast<size_t>(image)], request.draws);
  readResizing(fields, rendering, height, width);
  readOperations(fields, rendering.view);
  rendering.view.interpolation = fields.interpolation();
  readOperationRange(fields, request, rendering.view);
  readErasing(fields, rendering.erasing, height, width);
  // Tensor handles are not safe to share between threads, the memory behind them is.
  const size_t offset =
      3 * static_cast<size_t>(height) * static_cast<size_t>(width) * static_cast<size_t>(row);
  if (tensor.scalar_type() == at::kByte) {
    rendering.bytes = static_cast<uint8_t*>(tensor.mutable_data_ptr()) + offset;
  } else {
    rendering.floats = static_cast<float*>(tensor.mutable_data_ptr()) + offset;
  }
  return static_cast<size_t>(image);
}

std::vector<at::Tensor> readOutputs(napi_env env, napi_value slots) {
  Environment& environment = Environment::of(env);
  std::vector<at::Tensor> outputs;
  for (const int64_t slot : toInts(env, slots)) {
    const at::Tensor& tensor = environment.tensorAt(slot);
    if (!tensor.device().is_cpu() || !tensor.is_contiguous() || tensor.dim() != 4 ||
        tensor.size(1) != 3 ||
        !(tensor.scalar_type() == at::kByte || tensor.scalar_type() == at::kFloat)) {
      throw std::invalid_argument(
          "views go into contiguous CPU tensors of shape [N, 3, H, W], float32 or uint8");
    }
    if (tensor.size(2) < 1 || tensor.size(3) < 1 || tensor.size(2) > kMaxSide ||
        tensor.size(3) > kMaxSide) {
      throw std::invalid_argument("views of 1 to " + std::to_string(kMaxSide) +
                                  " pixels a side can be made");
    }
    outputs.push_back(tensor);
  }
  return outputs;
}

image::Normalization readNormalization(napi_env env, napi_value value) {
  const auto [moments, count] =
      typedArray<double>(env, value, napi_float64_array, "the normalization as a Float64Array");
  if (count != 6) throw std::invalid_argument("three means and three deviations");
  std::array<float, 3> mean;
  std::array<float, 3> deviation;
  for (size_t i = 0; i < 3; ++i) {
    mean[i] = static_cast<float>(moments[i]);
    deviation[i] = static_cast<float>(moments[i + 3]);
  }
  return image::Normalization(mean, deviation);
}

}  // namespace

Input readInput(napi_env env, napi_value where, const double* numbers, size_t index) {
  Input input;
  const double kind = numbers[0];
  if (kind == 0) {
    input.kind = Input::Kind::kFile;
    input.path = toString(env, where);
    constexpr double kMost = 9007199254740991.0;
    if (!(numbers[1] >= -1 && numbers[1] <= kMost && numbers[2] >= 0 && numbers[2] <= kMost)) {
      throw std::invalid_argument("image " + std::to_string(index) +
                                  ": a part of a file has an offset and a length from 0");
    }
    input.offset = static_cast<int64_t>(numbers[1]);
    input.length = static_cast<int64_t>(numbers[2]);
    return input;
  }
  input.kind = kind == 1 ? Input::Kind::kBytes : Input::Kind::kPixels;
  const auto [bytes, count] =
      typedArray<uint8_t>(env, where, napi_uint8_array, "an image's bytes as a Uint8Array");
  input.bytes = bytes;
  input.byteCount = count;
  if (input.kind == Input::Kind::kBytes) return input;
  const double width = numbers[1];
  const double height = numbers[2];
  if (!(width >= 1 && height >= 1 && width < kMaxImageSide && height < kMaxImageSide) ||
      width != std::floor(width) || height != std::floor(height) ||
      static_cast<double>(count) < width * height * 3) {
    throw std::invalid_argument("image " + std::to_string(index) + ": " + std::to_string(count) +
                                " bytes do not hold its pixels");
  }
  input.width = static_cast<int>(width);
  input.height = static_cast<int>(height);
  return input;
}

ImageRequest readImageRequest(napi_env env, napi_value images, napi_value inputs,
                              napi_value renderings, napi_value draws, napi_value operations,
                              napi_value outputs, napi_value normalization) {
  ImageRequest request{{}, {}, {}, {}, {}, {}, readNormalization(env, normalization), nullptr};
  uint32_t count = 0;
  if (napi_get_array_length(env, images, &count) != napi_ok) {
    throw std::invalid_argument("expected an array of images");
  }
  const auto [numbers, numberCount] =
      typedArray<double>(env, inputs, napi_float64_array, "inputs as a Float64Array");
  if (numberCount != kNumbersPerInput * count) {
    throw std::invalid_argument("an image has " + std::to_string(kNumbersPerInput) + " numbers");
  }
  // A copy of the array, which nobody else can change while threads read the bytes.
  checked(napi_create_array_with_length(env, count, &request.kept), "array");
  request.inputs.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    napi_value element;
    checked(napi_get_element(env, images, i, &element), "array");
    checked(napi_set_element(env, request.kept, i, element), "array");
    request.inputs.push_back(readInput(env, element, numbers + kNumbersPerInput * i, i));
  }

  request.outputs = readOutputs(env, outputs);
  const auto [drawn, drawnCount] =
      typedArray<double>(env, draws, napi_float64_array, "crop draws as a Float64Array");
  if (drawnCount % image::kCropDrawNumbers != 0) {
    throw std::invalid_argument("a crop draw has " + std::to_string(image::kCropDrawNumbers) +
                                " numbers");
  }
  request.draws.assign(drawn, drawn + drawnCount);
  const auto [steps, stepCount] =
      typedArray<double>(env, operations, napi_float64_array, "operations as a Float64Array");
  if (stepCount % kNumbersPerOperation != 0) {
    throw std::invalid_argument("an operation has " + std::to_string(kNumbersPerOperation) +
                                " numbers");
  }
  request.operations.reserve(stepCount / kNumbersPerOperation);
  for (size_t i = 0; i < stepCount / kNumbersPerOperation; ++i) {
    const Fields each(steps + i * kNumbersPerOperation, i, "operation");
    request.operations.push_back(readOperation(each));
  }

  const auto [fields, fieldCount] =
      typedArray<double>(env, renderings, napi_float64_array, "renderings as a Float64Array");
  if (fieldCount % kNumbersPerRendering != 0) {
    throw std::invalid_argument("a rendering has " + std::to_string(kNumbersPerRendering) +
                                " numbers");
  }
  request.renderings.resize(fieldCount / kNumbersPerRendering);
  for (size_t i = 0; i < request.renderings.size(); ++i) {
    const Fields each(fields + i * kNumbersPerRendering, i);
    const size_t image = readRendering(each, request, request.renderings[i]);
    if (image + 1 < request.first.size()) each.fail("renderings come in the order of their images");
    request.first.resize(image + 1, i);
  }
  request.first.resize(static_cast<size_t>(count) + 1, request.renderings.size());
  return request;
}

}  // namespace moco
