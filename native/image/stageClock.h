// Where a thread's time goes, stage by stage.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace moco::image {

enum class Stage { kRead, kDecode, kCrop, kColour, kBlur, kWrite };
constexpr size_t kStages = 6;

class StageClock {
 public:
  void start() { last = Clock::now(); }
  // The time since `start` or the last `stop` belongs to this stage.
  void stop(Stage stage) {
    const Clock::time_point now = Clock::now();
    nanoseconds[static_cast<size_t>(stage)] += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - last).count());
    last = now;
  }

  std::array<uint64_t, kStages> nanoseconds{};

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last;
};

}  // namespace moco::image
