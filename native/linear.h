// Linear layers of the CPU by oneDNN.
#pragma once

#include <napi.h>

namespace moco {

// Whether they go that way, for the whole process.
void setOneDnnLinear(bool on);

void registerLinear(napi_env env, napi_value exports);

}  // namespace moco
