// LSD radix sort of (key, position) entries, least significant digit first.
//
// One pass over the values finds the bits that there are to sort by: without those that all keys have in
// common at the low end, and no more than the largest difference takes. They are cut into digits of at most
// kMostBits. Each pass counts the digits of every thread's stretch, turns the counts into where each
// stretch's share of each bucket begins (bucket by bucket, stretch by stretch: that keeps the pass stable),
// and scatters by whole cache lines. The first pass reads the values themselves, the last writes positions
// only. Not for short keys in long records, nor for arrays of a few hundred: there a comparison sort is as
// good.
#include "order/argsort.h"

#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "order/narrow.h"
#include "order/scatter.h"
#include "order/stretches.h"
#include "order/workspace.h"

namespace pyi::order {
namespace {

constexpr int kMostBits = 11;

template <class Key, class Index>
struct Entry {
  Key key;
  Index index;
};

struct Digit {
  int shift, bits;
  std::size_t buckets() const { return std::size_t{1} << bits; }
};

std::vector<Digit> digits_of(int bits) {
  std::vector<Digit> digits;
  const int passes = (bits + kMostBits - 1) / kMostBits;
  for (int p = 0; p < passes; ++p) {
    const int begin = bits * p / passes;
    digits.push_back({begin, bits * (p + 1) / passes - begin});
  }
  return digits;
}

// read(i) gives the i-th entry of the pass; item(entry) goes to its place in the array `to`.
template <class Read, class ItemOf>
void pass(const Stretches& stretches, Digit digit, const Read& read, const ItemOf& item, void* to) {
  using Item = decltype(item(read(0)));
  const auto bucket = [shift = digit.shift, mask = digit.buckets() - 1](auto key) {
    return static_cast<std::size_t>(key >> shift) & mask;
  };
  std::vector<std::vector<std::size_t>> places(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    places[t].resize(digit.buckets());
    std::size_t* const counts = places[t].data();
    for (std::size_t i = begin; i < end; ++i) ++counts[bucket(read(i).key)];
  });
  std::size_t place = 0;
  for (std::size_t b = 0; b < digit.buckets(); ++b)
    for (auto& of_stretch : places) place += std::exchange(of_stretch[b], place);
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    const auto of = [&read, &item, bucket](std::size_t i) {
      const auto entry = read(i);
      return std::pair<std::size_t, Item>(bucket(entry.key), item(entry));
    };
    scatter<Item>(begin, end, of, std::move(places[t]), to);
  });
}

template <class E, class T>
void sort(const T* values, std::size_t n, const Narrow<T>& narrow, const Stretches& stretches,
          ConstPositions carried, Positions order) {
  using Key = decltype(E::key);
  using Index = decltype(E::index);
  const std::vector<Digit> digits = digits_of(narrow.bits());
  const std::size_t last = digits.size() - 1;
  constexpr bool order_lends = sizeof(E) <= sizeof(std::int64_t);

  // Pass `last` reads `near` and writes `order`, so the passes before it write near, far, near.. backwards.
  const Workspace near(last >= 1 ? n * sizeof(E) : 0);
  const Workspace lent(last >= 2 && !order_lends ? n * sizeof(E) : 0);
  void* const far = order_lends ? order.data : lent.data();
  const auto target = [&](std::size_t p) { return (last - p) % 2 == 1 ? near.data() : far; };

  const auto read_values = [=](std::size_t i) {
    return E{static_cast<Key>(narrow(values[i])), static_cast<Index>(carried[i])};
  };
  const auto reads = [](const void* from) {
    return [entries = static_cast<const unsigned char*>(from)](std::size_t i) {
      E entry;  // in raw memory: `order` lends itself as a buffer before it holds the result
      std::memcpy(&entry, entries + i * sizeof(E), sizeof(E));
      return entry;
    };
  };
  const auto whole = [](E entry) { return entry; };
  const auto end = [&](const auto& read) {
    const auto wide = [](E entry) { return static_cast<std::int64_t>(entry.index); };
    const auto narrow_one = [](E entry) { return static_cast<std::uint32_t>(entry.index); };
    if (order.wide) return pass(stretches, digits[last], read, wide, order.data);
    pass(stretches, digits[last], read, narrow_one, order.data);
  };

  if (last == 0) return end(read_values);
  pass(stretches, digits[0], read_values, whole, target(0));
  for (std::size_t p = 1; p < last; ++p) pass(stretches, digits[p], reads(target(p - 1)), whole, target(p));
  end(reads(near.data()));
}

}  // namespace

template <class T>
void argsort(const T* values, std::size_t n, const Sorting& how, ConstPositions carried, Positions order) {
  if (n == 0) return;
  const Stretches stretches(n, how.threads);
  const Narrow<T> narrow(span_of(values, how.descending, stretches), how.descending);
  const bool few = !how.wide && n <= std::numeric_limits<std::uint32_t>::max();
  if (narrow.bits() == 0) {
    for (std::size_t i = 0; i < n; ++i) order.set(i, carried[i]);
  } else if (few && narrow.bits() <= 32) {
    sort<Entry<std::uint32_t, std::uint32_t>>(values, n, narrow, stretches, carried, order);
  } else if (few) {
    sort<Entry<std::uint64_t, std::uint32_t>>(values, n, narrow, stretches, carried, order);
  } else {
    sort<Entry<std::uint64_t, std::uint64_t>>(values, n, narrow, stretches, carried, order);
  }
}

template void argsort(const float*, std::size_t, const Sorting&, ConstPositions, Positions);
template void argsort(const double*, std::size_t, const Sorting&, ConstPositions, Positions);
template void argsort(const std::int32_t*, std::size_t, const Sorting&, ConstPositions, Positions);
template void argsort(const std::int64_t*, std::size_t, const Sorting&, ConstPositions, Positions);
template void argsort(const std::uint32_t*, std::size_t, const Sorting&, ConstPositions, Positions);
template void argsort(const std::uint64_t*, std::size_t, const Sorting&, ConstPositions, Positions);

}  // namespace pyi::order
