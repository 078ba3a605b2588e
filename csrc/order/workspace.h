// Memory to sort in.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pyi::order {

// `nbytes` of raw memory, in large pages where the system has them: a sort scatters over all of it, and with
// pages of 4 KiB the processor would have to look up the page of every line. Throws std::bad_alloc.
class Workspace {
 public:
  explicit Workspace(std::size_t nbytes) {
    if (nbytes == 0) return;
    const std::size_t unit = nbytes < kLargePage ? 64 : kLargePage;
    const std::size_t whole = (nbytes + unit - 1) / unit * unit;
    data_.reset(std::aligned_alloc(unit, whole));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (unit == kLargePage) madvise(data_.get(), whole, MADV_HUGEPAGE);  // a refusal changes nothing
#endif
  }
  void* data() const { return data_.get(); }

 private:
  static constexpr std::size_t kLargePage = std::size_t{1} << 21;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> data_;
};

}  // namespace pyi::order
