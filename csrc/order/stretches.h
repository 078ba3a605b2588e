// An array cut into stretches, a thread each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "parallel.h"

namespace pyi::order {

// n entries, cut into consecutive stretches of nearly equal length, a thread each.
class Stretches {
 public:
  Stretches(std::size_t n, int threads)
      : n_(n), count_(useful_threads(threads, static_cast<std::int64_t>(n), kWorthAThread)) {}

  std::size_t count() const { return static_cast<std::size_t>(count_); }

  // Calls f(t, begin, end) for every stretch t.
  template <class F>
  void for_each(const F& f) const {
    parallel_for(count_, count_, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t t = first; t < last; ++t) f(static_cast<std::size_t>(t), begin(t), begin(t + 1));
    });
  }

 private:
  static constexpr std::int64_t kWorthAThread = std::int64_t{1} << 16;
  std::size_t begin(std::int64_t t) const {
    const auto i = static_cast<std::size_t>(t);
    return n_ / count() * i + std::min(i, n_ % count());
  }

  std::size_t n_;
  int count_;
};

}  // namespace pyi::order
