// Memory to read into, used again and again.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace pyi::load {

struct Unmap {
  std::size_t mapped = 0;  // bytes; 0: allocated as usual
  void operator()(unsigned char* memory) const {
    if (mapped != 0)
      munmap(memory, mapped);
    else
      std::free(memory);
  }
};

struct Buffer {
  std::unique_ptr<unsigned char, Unmap> data;
  std::size_t capacity = 0;
};

// At least n bytes. What fills some large pages gets them, and is no part of a heap that it would leave holes
// in. Throws std::bad_alloc.
inline Buffer allocate(std::size_t n) {
  constexpr std::size_t kPage = 4 << 10, kLargePage = 2 << 20;
  const std::size_t unit = n < kPage ? 64 : n < 2 * kLargePage ? kPage : kLargePage;
  const std::size_t capacity = std::max((n + unit - 1) / unit, std::size_t{1}) * unit;
  if (unit != kLargePage) {
    auto* const data = static_cast<unsigned char*>(std::aligned_alloc(unit, capacity));
    if (data == nullptr) throw std::bad_alloc();
    return {{data, {}}, capacity};
  }
  const std::size_t more = capacity + kLargePage;
  void* const mapped = mmap(nullptr, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<unsigned char*>(mapped);
  const std::size_t skipped =
      (kLargePage - reinterpret_cast<std::uintptr_t>(mapped) % kLargePage) % kLargePage;
  if (skipped != 0) munmap(begin, skipped);
  munmap(begin + skipped + capacity, more - skipped - capacity);
#if defined(__linux__)
  madvise(begin + skipped, capacity, MADV_HUGEPAGE);
#endif
  return {{begin + skipped, {capacity}}, capacity};
}

// Keeps buffers that are not in use, the latest first: memory that is new costs as much as reading into it.
// Not for several threads at a time.
class Buffers {
 public:
  // At least n bytes. Throws std::bad_alloc.
  Buffer take(std::size_t n) {
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
