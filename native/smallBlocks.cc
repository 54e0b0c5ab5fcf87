// Keeps the memory of small tensors for the next ones.
//
// libtorch takes each tensor's memory aligned to 64 bytes, for which glibc has no cache: a call of
// a small operator spends a fifth of its time there (measured with 8x8 tensors). Tensors die in
// bulk at the end of a scope here, and the next scope makes as many of the same sizes.
#include "environment.h"

// Elsewhere the system's allocator is asked, as it is where it looks for errors.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>

namespace moco {
namespace {

constexpr size_t kStep = 64;  // libtorch's alignment
constexpr size_t kLargest = 1024;
constexpr size_t kSizes = kLargest / kStep;
// Of each size and thread: a megabyte in all at most.
constexpr size_t kKept = 128;

struct Kept {
  void* blocks[kSizes][kKept];
  size_t counts[kSizes];
  enum { kUnused, kOpen, kClosed } state;
};
thread_local Kept kept;  // plain memory: it outlives every destructor of its thread

// Gives back a thread's blocks when the thread ends.
struct AtThreadEnd {
  ~AtThreadEnd() {
    kept.state = Kept::kClosed;
    for (size_t size = 0; size < kSizes; size++) {
      while (kept.counts[size] > 0) c10::free_cpu(kept.blocks[size][--kept.counts[size]]);
    }
  }
};

// The deleter of blocks of any size: oneDNN frees by address alone what it took. The size is what
// the system knows of the block, which is at least what was asked for.
void giveBack(void* block) {
  const size_t steps = malloc_usable_size(block) / kStep;
  if (steps == 0 || steps > kSizes || kept.state != Kept::kOpen ||
      kept.counts[steps - 1] == kKept) {
    return c10::free_cpu(block);
  }
  kept.blocks[steps - 1][kept.counts[steps - 1]++] = block;
}

class SmallBlocks final : public c10::Allocator {
 public:
  explicit SmallBlocks(c10::Allocator* others) : others_(others) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0 || bytes > kLargest) return others_->allocate(bytes);
    if (kept.state == Kept::kUnused) {
      static thread_local const AtThreadEnd atThreadEnd;
      kept.state = Kept::kOpen;
    }
    const size_t size = (bytes - 1) / kStep;
    void* block = kept.counts[size] > 0 ? kept.blocks[size][--kept.counts[size]]
                                        : c10::alloc_cpu((size + 1) * kStep);
    return {block, block, &giveBack, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &giveBack; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* others_;
};

}  // namespace

void keepSmallBlocks() {
  // Never destroyed: tensors of static objects outlive everything. CMakeLists.txt keeps the code.
  static const bool done = [] {
    c10::SetAllocator(c10::DeviceType::CPU, new SmallBlocks(c10::GetCPUAllocator()));
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace moco

#else

void moco::keepSmallBlocks() {}

#endif
