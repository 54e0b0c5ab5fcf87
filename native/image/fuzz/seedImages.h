// JPEGs of every layout that libjpeg writes, small, for the fuzzer to begin with.
#pragma once

#include <string>

namespace moco::image {

void writeSeedImages(const std::string& folder);

}  // namespace moco::image
