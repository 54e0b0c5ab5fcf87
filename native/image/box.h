// A rectangle of pixels.
#pragma once

namespace moco::image {

struct Box {
  int top = 0;
  int left = 0;
  int height = 0;
  int width = 0;
};

}  // namespace moco::image
