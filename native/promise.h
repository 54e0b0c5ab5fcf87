// Work that blocks, on a thread of libuv's pool, as a promise.
#pragma once

#include <functional>

#include "environment.h"

namespace moco {

// Runs `body` on another thread; an exception of it rejects the promise. `answer`, back on
// JavaScript's thread, makes the value; `release`, where there is one, runs there in any case.
napi_value promise(napi_env env, const char* name, std::function<void()> body,
                   std::function<napi_value(napi_env)> answer,
                   std::function<void(napi_env)> release = nullptr);

}  // namespace moco
