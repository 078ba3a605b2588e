// A radix sort of what the caches hold: least significant digit first, entries written one by one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "order/entries.h"

namespace pyi::order {

// Sorts n < 2^32 entries by keys below 2^bits, stably. `spare` has room for as many; returns the one of the
// two that holds the result.
template <class E>
Entries<E> sort_cached(Entries<E> entries, Entries<E> spare, std::size_t n, int bits) {
  constexpr std::size_t kFew = 24;
  if (n <= kFew) {  // by insertion
    for (std::size_t i = 1; i < n; ++i) {
      const E entry = entries[i];
      std::size_t to = i;
      for (; to > 0 && entries[to - 1].key > entry.key; --to) entries.set(to, entries[to - 1]);
      entries.set(to, entry);
    }
    return entries;
  }
  const int most =
      std::clamp(width_of(n) - 4, 6, 11);  // of a digit: there is a counter for each of its values
  const int digits = (bits + most - 1) / most, width = digits == 0 ? 0 : (bits + digits - 1) / digits;
  const std::size_t buckets = std::size_t{1} << width;
  std::vector<std::uint32_t> counts(static_cast<std::size_t>(digits) * buckets);
  const auto digit_of = [=](typename E::Key key, int digit) {
    return static_cast<std::size_t>(key >> (digit * width)) & (buckets - 1);
  };
  for (std::size_t i = 0; i < n; ++i) {
    const auto key = entries[i].key;
    std::uint32_t* count = counts.data();
    for (int d = 0; d < digits; ++d, count += buckets) ++count[digit_of(key, d)];
  }
  for (int d = 0; d < digits; ++d) {
    std::uint32_t* const next = counts.data() + static_cast<std::size_t>(d) * buckets;
    if (next[digit_of(entries[0].key, d)] == n) continue;  // the same in all
    std::uint32_t place = 0;
    for (std::size_t b = 0; b < buckets; ++b) place += std::exchange(next[b], place);
    for (std::size_t i = 0; i < n; ++i) {
      const E entry = entries[i];
      spare.set(next[digit_of(entry.key, d)]++, entry);
    }
    std::swap(entries, spare);
  }
  return entries;
}

}  // namespace pyi::order
