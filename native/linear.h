#pragma once

namespace moco {

// Whether linear layers on the CPU go by oneDNN, for the whole process.
void setOneDnnLinear(bool on);

}  // namespace moco
