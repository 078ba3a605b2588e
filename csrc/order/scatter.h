// Scattering to many places at once by whole cache lines.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "lines.h"

namespace pyi::order {

// For i = begin..end-1, `of(i)` is {bucket, item}: the item goes to place next[bucket] of `memory`, an array
// of items, and the bucket's next one to the place after it.
//
// Every bucket collects its items in a line of its own, written when the last place of that line in memory is
// filled: the caches hold as many lines as there are buckets, where items written one by one have every line
// fetched first, and evicted when another needs its room. Of lines that a bucket has only a part of, the rest
// belongs to others, on other threads too: only its items are written. sizeof(Item) divides a line, and the
// distance of `memory` from the last line's start.
template <class Item, class Of>
void scatter(std::size_t begin, std::size_t end, const Of& of, std::vector<std::size_t> next, void* memory) {
  constexpr std::size_t kItems = kLine / sizeof(Item);
  const std::vector<std::size_t> first_places = next;
  std::vector<Line> line_of(next.size());
  // What the loop uses is on the stack: it writes bytes, which could be anything that lies elsewhere.
  auto* const out = static_cast<unsigned char*>(memory);
  const std::size_t skew = reinterpret_cast<std::uintptr_t>(memory) % kLine / sizeof(Item);
  const std::size_t* const first = first_places.data();
  std::size_t* const places = next.data();
  Line* const lines = line_of.data();

  // Writes what bucket b has of the line that place - 1 lies in.
  const auto write_part = [=](std::size_t b, std::size_t place) {
    const std::size_t slots = (place - 1 + skew) % kItems + 1;
    const std::size_t count = std::min(slots, place - first[b]);
    std::memcpy(out + (place - count) * sizeof(Item), lines[b].bytes + (slots - count) * sizeof(Item),
                count * sizeof(Item));
  };
  for (std::size_t i = begin; i < end; ++i) {
    const auto [b, item] = of(i);
    const std::size_t place = places[b]++, slot = (place + skew) % kItems;
    std::memcpy(lines[b].bytes + slot * sizeof(Item), &item, sizeof(Item));
    if (slot < kItems - 1) continue;
    if (place + 1 - first[b] >= kItems) {
      stream_line(out + (place + 1 - kItems) * sizeof(Item), lines[b]);
    } else {
      write_part(b, place + 1);
    }
  }
  for (std::size_t b = 0; b < next.size(); ++b) {
    if ((places[b] + skew) % kItems != 0 && places[b] > first[b]) write_part(b, places[b]);
  }
  fence_lines();
}

}  // namespace pyi::order
