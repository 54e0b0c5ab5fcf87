// Linear layers of the CPU by oneDNN.
#pragma once

#include <napi.h>

namespace moco {

// Whether they go that way, for the whole process.
void setOneDnnLinear(bool on);
// The same where nothing has been chosen yet: each thread that loads the library says so.
void setOneDnnLinearDefault(bool on);

void registerLinear(napi_env env, napi_value exports);

}  // namespace moco
