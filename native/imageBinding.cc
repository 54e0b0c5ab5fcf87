// The image kernels for JavaScript: a pool of threads, and jobs that write views of decoded images
// straight into batch tensors while the JavaScript thread goes on.
#include <ATen/core/Tensor.h>

#include <array>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "environment.h"
#include "image/convert.h"
#include "image/normalize.h"
#include "image/threadPool.h"
#include "image/view.h"

namespace moco {
namespace {

using image::Jitter;
using image::Source;
using image::View;

constexpr int kMaxThreads = 1024;
constexpr int kMaxSide = 1 << 16;

void checked(napi_status status, const char* what) {
  if (status != napi_ok) throw std::runtime_error(std::string("Node-API: ") + what);
}

// A pool and the way back to its JavaScript thread. Everything but the threads themselves is used
// on that thread only.
struct Pool {
  explicit Pool(int count) : threads(count) {}

  napi_env env = nullptr;
  napi_threadsafe_function done = nullptr;
  int inFlight = 0;
  bool closed = false;
  image::ThreadPool threads;
};

void poolTeardown(void* data) {
  // The environment ends: threads first, since they report through it. Promises stay unsettled.
  Pool* pool = static_cast<Pool*>(data);
  pool->closed = true;
  pool->threads.close();
}

void closePool(Pool& pool) {
  if (pool.closed) return;
  pool.closed = true;
  pool.threads.close();
  napi_remove_env_cleanup_hook(pool.env, poolTeardown, &pool);
  // Reports still queued are delivered before the function goes.
  napi_release_threadsafe_function(pool.done, napi_tsfn_release);
}

struct ViewItem {
  Source source;
  View view;
  int output;
  int64_t row;
};

class ViewWork : public image::Work {
 public:
  ViewWork(Pool& pool, std::vector<ViewItem> items, std::vector<at::Tensor> outputs,
           const image::Normalization& normalization)
      : Work(items.size()),
        pool(pool),
        views(std::move(items)),
        outputs(std::move(outputs)),
        normalization(normalization) {}

  void run(size_t index, image::Scratch& scratch) override {
    const ViewItem& item = views[index];
    image::renderView(item.source, item.view, scratch);
    // Tensor handles are not safe to share between threads, the memory behind them is.
    const Destination& destination = destinations[static_cast<size_t>(item.output)];
    const size_t offset = 3 * scratch.tile.area() * static_cast<size_t>(item.row);
    if (destination.bytes) {
      image::writeBytes(scratch.tile, item.view.flip,
                        static_cast<uint8_t*>(destination.memory) + offset);
    } else {
      image::writeNormalized(scratch.tile, item.view.flip, normalization,
                             static_cast<float*>(destination.memory) + offset);
    }
  }

  void finished() override {
    // Fails only when the environment is ending, and then nobody waits.
    auto* report = new std::shared_ptr<ViewWork>(self);
    self.reset();
    if (napi_call_threadsafe_function(pool.done, report, napi_tsfn_nonblocking) != napi_ok) {
      delete report;
    }
  }

  struct Destination {
    void* memory;
    bool bytes;
  };

  Pool& pool;
  std::vector<ViewItem> views;
  std::vector<at::Tensor> outputs;
  std::vector<Destination> destinations;
  image::Normalization normalization;
  napi_deferred deferred = nullptr;
  // Keeps the source pixels and the pool alive.
  napi_ref kept = nullptr;
  // The report to JavaScript owns the work.
  std::shared_ptr<ViewWork> self;
};

std::string reasonOf(const ViewWork& work) {
  if (work.cancelled) return "the image pool was closed before its work was done";
  try {
    std::rethrow_exception(work.failure);
  } catch (const std::bad_alloc&) {
    return "out of memory in an image kernel";
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an unknown C++ exception";
  }
}

// On the JavaScript thread, or with env null when the environment has ended.
void settle(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<std::shared_ptr<ViewWork>> report(
      static_cast<std::shared_ptr<ViewWork>*>(data));
  if (env == nullptr) return;
  ViewWork& work = **report;
  Pool& pool = work.pool;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (work.failure || work.cancelled) {
    napi_value message;
    napi_value error;
    napi_create_string_utf8(env, reasonOf(work).c_str(), NAPI_AUTO_LENGTH, &message);
    napi_create_error(env, nullptr, message, &error);
    napi_reject_deferred(env, work.deferred, error);
  } else {
    napi_value undefined;
    napi_get_undefined(env, &undefined);
    napi_resolve_deferred(env, work.deferred, undefined);
  }
  if (--pool.inFlight == 0 && !pool.closed) napi_unref_threadsafe_function(env, pool.done);
  napi_delete_reference(env, work.kept);
  napi_close_handle_scope(env, scope);
}

Pool& poolOf(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_valuetype type;
  checked(napi_typeof(env, value, &type), "typeof");
  if (type != napi_external) throw std::invalid_argument("expected an image pool");
  checked(napi_get_value_external(env, value, &data), "external");
  return **static_cast<std::shared_ptr<Pool>*>(data);
}

// imagePool(threads) -> pool
napi_value imagePool(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const int64_t count = toInt(env, arguments[0]);
    if (count < 1 || count > kMaxThreads) {
      throw std::invalid_argument("an image pool has 1 to " + std::to_string(kMaxThreads) +
                                  " threads, not " + std::to_string(count));
    }
    auto pool = std::make_shared<Pool>(static_cast<int>(count));
    pool->env = env;
    // The threadsafe function and the handle each own the pool; whichever goes last frees it.
    auto context = std::make_unique<std::shared_ptr<Pool>>(pool);
    napi_value name;
    checked(napi_create_string_utf8(env, "moco image pool", NAPI_AUTO_LENGTH, &name), "string");
    checked(
        napi_create_threadsafe_function(
            env, nullptr, nullptr, name, 0, 1, context.get(),
            [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Pool>*>(data); },
            context.get(), settle, &pool->done),
        "threadsafe function");
    context.release();
    // An idle pool does not keep the process alive.
    checked(napi_unref_threadsafe_function(env, pool->done), "unref");
    // Added after the threadsafe function's own hook, so it runs before it.
    checked(napi_add_env_cleanup_hook(env, poolTeardown, pool.get()), "cleanup hook");
    auto handle = std::make_unique<std::shared_ptr<Pool>>(pool);
    napi_value external;
    checked(napi_create_external(
                env, handle.get(),
                [](napi_env, void* data, void*) {
                  const std::unique_ptr<std::shared_ptr<Pool>> owned(
                      static_cast<std::shared_ptr<Pool>*>(data));
                  closePool(**owned);
                },
                nullptr, &external),
            "external");
    handle.release();
    return external;
  });
}

// closeImagePool(pool): waits for the items that run; promises of the others are rejected.
napi_value closeImagePool(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    closePool(poolOf(env, arguments[0]));
    return nullptr;
  });
}

// Reads the numbers of one view in the order that lib/data/imagePool.ts writes them.
class Fields {
 public:
  Fields(const double* at, size_t view) : at(at), view(view) {}

  double real() {
    const double value = *at++;
    if (!std::isfinite(value)) fail("a number is not finite");
    return value;
  }
  int whole(const char* name, int64_t low, int64_t high) {
    const double value = real();
    if (value != std::floor(value) || value < static_cast<double>(low) ||
        value > static_cast<double>(high)) {
      fail(std::string(name) + " is " + std::to_string(value) + ", not a whole number from " +
           std::to_string(low) + " to " + std::to_string(high));
    }
    return static_cast<int>(value);
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("view " + std::to_string(view) + ": " + what);
  }

 private:
  const double* at;
  size_t view;
};

constexpr size_t kFieldsPerView = 23;

ViewItem readView(Fields fields, const std::vector<Source>& sources,
                  const std::vector<at::Tensor>& outputs) {
  ViewItem item;
  const int source = fields.whole("source", 0, static_cast<int64_t>(sources.size()) - 1);
  item.source = sources[static_cast<size_t>(source)];
  item.output = fields.whole("output", 0, static_cast<int64_t>(outputs.size()) - 1);
  const at::Tensor& output = outputs[static_cast<size_t>(item.output)];
  item.row = fields.whole("row", 0, output.size(0) - 1);
  View& view = item.view;
  view.crop.top = fields.whole("crop top", 0, item.source.height - 1);
  view.crop.left = fields.whole("crop left", 0, item.source.width - 1);
  view.crop.height = fields.whole("crop height", 1, item.source.height - view.crop.top);
  view.crop.width = fields.whole("crop width", 1, item.source.width - view.crop.left);
  view.resizedHeight = fields.whole("resized height", 1, kMaxSide);
  view.resizedWidth = fields.whole("resized width", 1, kMaxSide);
  view.window.height = static_cast<int>(output.size(2));
  view.window.width = static_cast<int>(output.size(3));
  view.window.top = fields.whole("window top", 0, view.resizedHeight - view.window.height);
  view.window.left = fields.whole("window left", 0, view.resizedWidth - view.window.width);
  for (Jitter& operation : view.order) {
    operation = static_cast<Jitter>(fields.whole("jitter operation", -1, 3));
  }
  view.brightness = static_cast<float>(fields.real());
  view.contrast = static_cast<float>(fields.real());
  view.saturation = static_cast<float>(fields.real());
  view.hueShift = fields.whole("hue shift", -255, 255);
  view.grayscale = fields.whole("grayscale", 0, 1) != 0;
  view.blurSigma = static_cast<float>(fields.real());
  if (view.blurSigma < 0 || view.blurSigma > 1000) fields.fail("blur sigma is not in 0 to 1000");
  view.solarizeThreshold = fields.whole("solarize threshold", 0, 256);
  view.flip = fields.whole("flip", 0, 1) != 0;
  return item;
}

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

// renderViews(pool, pixels: Uint8Array[], sizes: Float64Array of [width, height] each,
//   views: Float64Array, outputs: slots of [N, 3, H, W] float32 or uint8 tensors,
//   normalization: Float64Array of three means and three standard deviations) -> Promise
// The pixels must not change until the promise settles.
napi_value renderViews(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<6> arguments(env, info);
    Pool& pool = poolOf(env, arguments[0]);
    if (pool.closed) throw std::invalid_argument("the image pool is closed");

    uint32_t sourceCount = 0;
    if (napi_get_array_length(env, arguments[1], &sourceCount) != napi_ok) {
      throw std::invalid_argument("expected an array of pixel buffers");
    }
    const auto [sizes, sizeCount] =
        typedArray<double>(env, arguments[2], napi_float64_array, "image sizes as a Float64Array");
    if (sizeCount != 2 * size_t{sourceCount}) throw std::invalid_argument("two sizes per image");
    // A copy of the array, which nobody else can change while threads read the pixels.
    napi_value kept;
    checked(napi_create_array_with_length(env, sourceCount + 1, &kept), "array");
    checked(napi_set_element(env, kept, sourceCount, arguments[0]), "array");
    std::vector<Source> sources(sourceCount);
    for (uint32_t i = 0; i < sourceCount; ++i) {
      napi_value element;
      checked(napi_get_element(env, arguments[1], i, &element), "array");
      checked(napi_set_element(env, kept, i, element), "array");
      const auto [pixels, length] =
          typedArray<uint8_t>(env, element, napi_uint8_array, "pixels as a Uint8Array");
      const double width = sizes[2 * i];
      const double height = sizes[2 * i + 1];
      if (!(width >= 1 && height >= 1 && width < (1 << 24) && height < (1 << 24)) ||
          static_cast<double>(length) < width * height * 3) {
        throw std::invalid_argument("image " + std::to_string(i) + ": " + std::to_string(length) +
                                    " bytes do not hold its pixels");
      }
      sources[i] = {pixels, static_cast<int>(width), static_cast<int>(height),
                    static_cast<size_t>(width) * 3};
    }

    Environment& environment = Environment::of(env);
    std::vector<at::Tensor> outputs;
    std::vector<ViewWork::Destination> destinations;
    for (const int64_t slot : toInts(env, arguments[4])) {
      const at::Tensor& tensor = environment.tensorAt(slot);
      const bool bytes = tensor.scalar_type() == at::kByte;
      if (!tensor.device().is_cpu() || !tensor.is_contiguous() || tensor.dim() != 4 ||
          tensor.size(1) != 3 || !(bytes || tensor.scalar_type() == at::kFloat)) {
        throw std::invalid_argument(
            "views go into contiguous CPU tensors of shape [N, 3, H, W], float32 or uint8");
      }
      outputs.push_back(tensor);
      destinations.push_back({tensor.mutable_data_ptr(), bytes});
    }

    const auto [fields, fieldCount] =
        typedArray<double>(env, arguments[3], napi_float64_array, "views as a Float64Array");
    if (fieldCount % kFieldsPerView != 0) {
      throw std::invalid_argument("a view has " + std::to_string(kFieldsPerView) + " numbers");
    }
    std::vector<ViewItem> items;
    items.reserve(fieldCount / kFieldsPerView);
    for (size_t i = 0; i < fieldCount / kFieldsPerView; ++i) {
      items.push_back(readView(Fields(fields + i * kFieldsPerView, i), sources, outputs));
    }

    const auto [moments, momentCount] = typedArray<double>(env, arguments[5], napi_float64_array,
                                                           "the normalization as a Float64Array");
    if (momentCount != 6) throw std::invalid_argument("three means and three deviations");
    std::array<float, 3> mean;
    std::array<float, 3> deviation;
    for (size_t i = 0; i < 3; ++i) {
      mean[i] = static_cast<float>(moments[i]);
      deviation[i] = static_cast<float>(moments[i + 3]);
    }

    auto work = std::make_shared<ViewWork>(pool, std::move(items), std::move(outputs),
                                           image::Normalization(mean, deviation));
    work->destinations = std::move(destinations);
    napi_value promise;
    checked(napi_create_reference(env, kept, 1, &work->kept), "reference");
    if (napi_create_promise(env, &work->deferred, &promise) != napi_ok) {
      napi_delete_reference(env, work->kept);
      throw std::runtime_error("Node-API: promise");
    }
    work->self = work;
    if (pool.inFlight++ == 0) napi_ref_threadsafe_function(env, pool.done);
    pool.threads.submit(work);
    return promise;
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

}  // namespace

void registerImage(napi_env env, napi_value exports) {
  define(env, exports, "imagePool", imagePool);
  define(env, exports, "closeImagePool", closeImagePool);
  define(env, exports, "renderViews", renderViews);
  define(env, exports, "cmykToRgb", cmykToRgb);
}

}  // namespace moco
