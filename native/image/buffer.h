// Memory that a thread reuses from image to image.
#pragma once

#include <cstddef>
#include <new>

namespace moco::image {

// Room for trivial values, uninitialised. It grows to the largest image it has seen, but gives a
// giant's memory back when the next images are small. Whole cache lines of its own, so no other
// thread's writes disturb it.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }

  // At least `count` values; what was there before is lost.
  T* require(size_t count) {
    const bool wasteful = room > kKeptBytes / sizeof(T) && count < room / 8;
    if (count > room || wasteful) {
      release();
      const size_t bytes = (count * sizeof(T) + kLine - 1) / kLine * kLine;
      values = static_cast<T*>(::operator new(bytes, std::align_val_t{kLine}));
      room = count;
    }
    return values;
  }
  T* data() { return values; }
  const T* data() const { return values; }

 private:
  static constexpr size_t kLine = 64;
  static constexpr size_t kKeptBytes = size_t{8} << 20;

  void release() {
    if (values != nullptr) ::operator delete(values, std::align_val_t{kLine});
    values = nullptr;
    room = 0;
  }

  T* values = nullptr;
  size_t room = 0;
};

}  // namespace moco::image
