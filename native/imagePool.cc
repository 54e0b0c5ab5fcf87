#include "imagePool.h"

#include <utility>

#include "environment.h"

namespace moco {
namespace {

constexpr int kMaxThreads = 1024;

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

Pool& poolOf(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_valuetype type;
  checked(napi_typeof(env, value, &type), "typeof");
  if (type != napi_external) throw std::invalid_argument("expected an image pool");
  checked(napi_get_value_external(env, value, &data), "external");
  return **static_cast<std::shared_ptr<Pool>*>(data);
}

std::string reasonOf(const image::Work& work) {
  if (!work.failure) return "the work was taken back before it was done";
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

}  // namespace

Pool& openPoolOf(napi_env env, napi_value value) {
  Pool& pool = poolOf(env, value);
  if (pool.closed) throw std::invalid_argument("the image pool is closed");
  return pool;
}

void PromiseWork::finished() {
  // Fails only when the environment is ending, and then nobody waits.
  auto* report = new std::shared_ptr<PromiseWork>(self);
  self.reset();
  if (napi_call_threadsafe_function(pool.done, report, napi_tsfn_nonblocking) != napi_ok) {
    delete report;
  }
}

void PromiseWork::count(image::StageClock& clock, size_t views) {
  for (size_t stage = 0; stage < image::kStages; ++stage) {
    pool.stageTimes[stage].fetch_add(std::exchange(clock.nanoseconds[stage], 0),
                                     std::memory_order_relaxed);
  }
  pool.images.fetch_add(1, std::memory_order_relaxed);
  pool.views.fetch_add(views, std::memory_order_relaxed);
}

// On the JavaScript thread, or with env null when the environment has ended.
void settle(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<std::shared_ptr<PromiseWork>> report(
      static_cast<std::shared_ptr<PromiseWork>*>(data));
  if (env == nullptr) return;
  PromiseWork& work = **report;
  Pool& pool = work.pool;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  work.release();
  napi_value result = nullptr;
  std::string reason;
  if (work.failure || work.cancelled) {
    reason = reasonOf(work);
  } else {
    try {
      result = work.resolution(env);
    } catch (const std::exception& error) {
      reason = error.what();
    }
  }
  if (result != nullptr) {
    napi_resolve_deferred(env, work.deferred, result);
  } else {
    napi_value message;
    napi_value error;
    napi_create_string_utf8(env, reason.c_str(), NAPI_AUTO_LENGTH, &message);
    napi_create_error(env, nullptr, message, &error);
    napi_reject_deferred(env, work.deferred, error);
  }
  if (--pool.inFlight == 0 && !pool.closed) napi_unref_threadsafe_function(env, pool.done);
  napi_delete_reference(env, work.kept);
  napi_close_handle_scope(env, scope);
}

napi_value PromiseWork::submit(napi_env env, const std::shared_ptr<PromiseWork>& work,
                               napi_value kept) {
  Pool& pool = work->pool;
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
}

namespace {

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

// cancelImageWork(pool): what no thread has begun is rejected; the pool stays open.
napi_value cancelImageWork(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Pool& pool = poolOf(env, arguments[0]);
    if (!pool.closed) pool.threads.cancelQueued();
    return nullptr;
  });
}

// imagePoolTimes(pool) -> nanoseconds of reading, decoding, cropping, colour, blur and writing;
// images; views
napi_value imagePoolTimes(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const Pool& pool = poolOf(env, arguments[0]);
    std::array<uint64_t, image::kStages + 2> counters;
    for (size_t i = 0; i < image::kStages; ++i) counters[i] = pool.stageTimes[i].load();
    counters[image::kStages] = pool.images.load();
    counters[image::kStages + 1] = pool.views.load();
    napi_value result;
    checked(napi_create_array_with_length(env, counters.size(), &result), "array");
    for (size_t i = 0; i < counters.size(); ++i) {
      const double value = static_cast<double>(counters[i]);
      checked(napi_set_element(env, result, static_cast<uint32_t>(i), fromDouble(env, value)),
              "array");
    }
    return result;
  });
}

}  // namespace

void registerImagePool(napi_env env, napi_value exports) {
  define(env, exports, "imagePool", imagePool);
  define(env, exports, "closeImagePool", closeImagePool);
  define(env, exports, "cancelImageWork", cancelImageWork);
  define(env, exports, "imagePoolTimes", imagePoolTimes);
}

}  // namespace moco
