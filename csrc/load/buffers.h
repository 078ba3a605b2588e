// Memory to read into, used again and again.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "load/region.h"

namespace pyi::load {

struct Free {
  std::shared_ptr<Region> region = nullptr;  // that it is of
  void operator()(unsigned char* memory) const {
    region != nullptr ? region->give_back(memory) : std::free(memory);
  }
};

struct Buffer {
  std::unique_ptr<unsigned char, Free> data;
  std::size_t capacity = 0;
};

// At least n bytes, of large pages where it fills some. It comes from the process's allocator, so that who
// has this one keep what was freed gets memory whose pages are there: to have them made takes longer than to
// read into them. Throws std::bad_alloc.
inline Buffer allocate(std::size_t n) {
  constexpr std::size_t kPage = 4 << 10, kLargePage = 2 << 20;
  const std::size_t unit = n < kPage ? 64 : n < 2 * kLargePage ? kPage : kLargePage;
  const std::size_t capacity = std::max((n + unit - 1) / unit, std::size_t{1}) * unit;
  auto* const data = static_cast<unsigned char*>(std::aligned_alloc(unit, capacity));
  if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (unit == kLargePage) madvise(data, capacity, MADV_HUGEPAGE);
#endif
  return {{data, {}}, capacity};
}

// Keeps buffers that are not in use, the latest first: memory that is new costs as much as reading into it.
// Not for several threads at a time.
class Buffers {
 public:
  // At least n bytes. What is `sent` in a loader process is in memory that it shares, while there is room.
  // Throws std::bad_alloc.
  Buffer take(std::size_t n, bool sent) {
    if (const auto region = sent ? region_to_read_into() : nullptr) {
      if (unsigned char* const data = region->take(n)) return {{data, {region}}, n};
    }
    largest_ = std::max(largest_, n);
    const auto fits = [n](const Buffer& b) { return b.capacity >= n && b.capacity / 2 <= n; };
    const auto found = std::find_if(spare_.rbegin(), spare_.rend(), fits);
    if (found == spare_.rend()) return allocate(n);
    Buffer buffer = std::move(*found);
    spare_.erase(std::next(found).base());
    bytes_ -= buffer.capacity;
    return buffer;
  }
  void give_back(Buffer buffer) {
    if (buffer.data == nullptr || buffer.data.get_deleter().region != nullptr) return;
    bytes_ += buffer.capacity;
    spare_.push_back(std::move(buffer));
    std::size_t oldest = 0;
    for (; bytes_ > 2 * (window_ + largest_); ++oldest) bytes_ -= spare_[oldest].capacity;
    spare_.erase(spare_.begin(), spare_.begin() + static_cast<std::ptrdiff_t>(oldest));
  }
  // Keeps as much as two windows of so many bytes need, and the two batches that they begin and end in.
  void expect(std::size_t window) { window_ = std::max(window_, window); }

 private:
  std::vector<Buffer> spare_;
  std::size_t bytes_ = 0, window_ = 0, largest_ = 0;
};

}  // namespace pyi::load
