// What lib/data/imagePool.ts asks of the image threads, read and checked: from here on every number
// is in its range and every pointer is good for as long as `kept` lives.
#pragma once

#include <ATen/core/Tensor.h>
#include <node_api.h>

#include <memory>
#include <utility>
#include <vector>

#include "image/prepare.h"

namespace moco {

template <typename T>
std::pair<T*, size_t> typedArray(napi_env env, napi_value value, napi_typedarray_type wanted,
                                 const char* what) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != wanted) {
    throw std::invalid_argument(std::string("expected ") + what);
  }
  return {static_cast<T*>(data), length};
}

struct ImageRequest {
  std::vector<image::Input> inputs;
  std::vector<image::Rendering> renderings;
  // Renderings of image i: first[i] to first[i + 1].
  std::vector<size_t> first;
  // Numbers of the random crops, which renderings point into.
  std::vector<double> draws;
  // What RandAugment does, which renderings point into, too.
  std::vector<image::Operation> operations;
  // Keep the memory that is written to.
  std::vector<at::Tensor> outputs;
  image::Normalization normalization;
  // A JavaScript array with what is read.
  napi_value kept = nullptr;
};

// One input: `where` is a path or bytes; `numbers` are its kind (0 file, 1 a file's bytes, 2
// pixels) and two more: offset and length of a part of a file (offset -1: all), or width and height
// of pixels.
image::Input readInput(napi_env env, napi_value where, const double* numbers, size_t index);

// The arguments of prepareImages after the pool.
ImageRequest readImageRequest(napi_env env, napi_value images, napi_value inputs,
                              napi_value renderings, napi_value draws, napi_value operations,
                              napi_value outputs, napi_value normalization);

}  // namespace moco
