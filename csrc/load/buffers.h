// Memory to read into, used again and again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pyi::load {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Buffer {
  std::unique_ptr<unsigned char, Free> data;
  std::size_t capacity = 0;
};

// Keeps the buffers that are not in use: memory that is new costs as much as reading into it. As many
// buffers exist as were in use at a time. Threads may share it.
class Buffers {
 public:
  // At least n bytes. Throws std::bad_alloc.
  Buffer take(std::size_t n) {
    Buffer buffer;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!spare_.empty()) {
        buffer = std::move(spare_.back());
        spare_.pop_back();
      }
    }
    if (buffer.capacity >= n) return buffer;
    buffer = {};  // frees it first
    const std::size_t unit = n < kUnit ? 64 : kUnit;
    buffer.capacity = (n + unit - 1) / unit * unit;
    buffer.data.reset(static_cast<unsigned char*>(std::aligned_alloc(unit, std::max(buffer.capacity, unit))));
    if (buffer.data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (buffer.capacity >= 2 * kUnit) madvise(buffer.data.get(), buffer.capacity, MADV_HUGEPAGE);
#endif
    return buffer;
  }
  void give_back(Buffer&& buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(std::move(buffer));
  }

 private:
  static constexpr std::size_t kUnit = std::size_t{1} << 21;  // a large page
  std::mutex mutex_;
  std::vector<Buffer> spare_;
};

}  // namespace pyi::load
