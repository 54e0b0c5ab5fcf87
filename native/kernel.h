#pragma once

#include "environment.h"

namespace moco {

void registerKernel(napi_env env, napi_value exports);

}  // namespace moco
