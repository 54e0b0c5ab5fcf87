#pragma once

#include <stdexcept>

namespace moco::image {

// One bad image. The message is shown after the file's name: "truncated JPEG: it ends after 12 of
// 375 rows".
class ImageError : public std::runtime_error {
  using runtime_error::runtime_error;
};

}  // namespace moco::image
