// The order that samples come in: lists merged in proportion, and shuffled.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyi::load {

// Element j of list i has the key (j + u) / sizes[i], and the merge is sorted by (key, i, j). u, in [0, 1),
// is number j of the stream that seeds[i] begins: the top 53 bits of SplitMix64's words (Steele, Lea and
// Flood, Fast splittable pseudorandom number generators, OOPSLA 2014), each of which is had by itself.
struct Lists {
  std::size_t n;
  const std::int64_t* sizes;
  const std::uint64_t* seeds;
};

// Writes to ends[0..n) where the first `total` elements of the merge of start[i] <= j < sizes[i] end, 0 <=
// total <= all of these. O(n log N).
void taken(const Lists& lists, const std::int64_t* start, std::int64_t total, std::int64_t* ends);

// The merge of elements start[i] <= j < end[i]: writes to order[0..m) the places that they have when the
// lists lie one after another. O(m log n).
void merge(const Lists& lists, const std::int64_t* start, const std::int64_t* end, std::int64_t* order);

// Positions 0 .. of runs of counts[i] each, every run by itself in ascending order of random[position]; equal
// ones keep their order.
void shuffle(const std::uint64_t* random, const std::int64_t* counts, std::size_t n, std::int64_t* order);

}  // namespace pyi::load
