// Reads files, or parts of them, on the threads that decode.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moco::image {

// Reads `length` bytes from `offset`, or the whole file when `offset` is negative, into `bytes`,
// whose memory is reused.
//
// Throws ImageError that says what is wrong with the file, and std::runtime_error when it is the
// process that cannot open more files.
void readInputFile(const std::string& path, int64_t offset, int64_t length,
                   std::vector<uint8_t>& bytes);

}  // namespace moco::image
