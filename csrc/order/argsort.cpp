// LSD radix sort of (key, position) entries, 8 bits a pass, least significant digit first.
//
// Each pass counts the digits of every thread's stretch, turns the counts into where each stretch's share of
// each bucket begins (bucket by bucket, stretch by stretch: that keeps the pass stable), and scatters. The
// first pass reads the values themselves, the last writes positions only. Not for short keys in long records,
// nor for arrays of a few hundred: there a comparison sort is as good.
#include "order/argsort.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "order/keys.h"
#include "parallel.h"

namespace pyi::order {
namespace {

constexpr int kBits = 8;
constexpr std::size_t kBuckets = std::size_t{1} << kBits;
constexpr std::int64_t kWorthAThread = std::int64_t{1} << 16;

template <class Key, class Index>
struct Entry {
  Key key;
  Index index;
};

// Entries in raw memory: the caller's `order` lends itself as a buffer before it holds the result.
template <class E>
struct Buffer {
  unsigned char* data;
  E load(std::size_t i) const {
    E entry;
    std::memcpy(&entry, data + i * sizeof(E), sizeof(E));
    return entry;
  }
  void store(std::size_t i, E entry) const { std::memcpy(data + i * sizeof(E), &entry, sizeof(E)); }
};

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
  std::size_t begin(std::int64_t t) const {
    const auto i = static_cast<std::size_t>(t);
    return n_ / count() * i + std::min(i, n_ % count());
  }

  std::size_t n_;
  int count_;
};

// read(i) gives the i-th entry of the pass, write(j, entry) puts it at its place j.
template <class Read, class Write>
void pass(const Stretches& stretches, int shift, const Read& read, const Write& write) {
  using Counts = std::array<std::size_t, kBuckets>;
  std::vector<Counts> places(stretches.count());
  const auto digit = [shift](auto key) { return static_cast<std::size_t>(key >> shift) & (kBuckets - 1); };

  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    Counts counts{};
    for (std::size_t i = begin; i < end; ++i) ++counts[digit(read(i).key)];
    places[t] = counts;
  });
  std::size_t place = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket)
    for (Counts& counts : places) place += std::exchange(counts[bucket], place);
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    Counts next = places[t];
    for (std::size_t i = begin; i < end; ++i) {
      const auto entry = read(i);
      write(next[digit(entry.key)]++, entry);
    }
  });
}

// The lowest bits of the digits that are not the same in all keys.
template <class T>
std::vector<int> varying_shifts(const T* values, bool descending, const Stretches& stretches) {
  using Key = KeyOf<T>;
  const Key first = key_of(values[0], descending);
  std::vector<Key> differing(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    Key bits = 0;
    for (std::size_t i = begin; i < end; ++i) bits |= key_of(values[i], descending) ^ first;
    differing[t] = bits;
  });
  const Key bits = std::accumulate(differing.begin(), differing.end(), Key{0}, std::bit_or<Key>());
  std::vector<int> shifts;
  for (int shift = 0; shift < static_cast<int>(sizeof(Key)) * 8; shift += kBits)
    if ((bits >> shift) & (kBuckets - 1)) shifts.push_back(shift);
  return shifts;
}

template <class Index, class T>
void sort(const T* values, bool descending, const std::vector<int>& shifts, const Stretches& stretches,
          std::size_t n, std::int64_t* order) {
  using E = Entry<KeyOf<T>, Index>;
  const std::size_t last = shifts.size() - 1;
  constexpr bool order_lends = sizeof(E) <= sizeof(std::int64_t);

  // Pass `last` reads `near` and writes `order`, so the passes before it write near, far, near.. backwards.
  std::unique_ptr<unsigned char[]> near_memory, far_memory;
  if (last >= 1) near_memory.reset(new unsigned char[n * sizeof(E)]);
  if (last >= 2 && !order_lends) far_memory.reset(new unsigned char[n * sizeof(E)]);
  const Buffer<E> near{near_memory.get()};
  const Buffer<E> far{order_lends ? reinterpret_cast<unsigned char*>(order) : far_memory.get()};

  const auto read_values = [=](std::size_t i) {
    return E{key_of(values[i], descending), static_cast<Index>(i)};
  };
  const auto write_order = [=](std::size_t j, E entry) { order[j] = static_cast<std::int64_t>(entry.index); };
  const auto reads = [](Buffer<E> from) { return [from](std::size_t i) { return from.load(i); }; };
  const auto writes = [](Buffer<E> to) { return [to](std::size_t j, E entry) { to.store(j, entry); }; };
  const auto target = [&](std::size_t p) { return (last - p) % 2 == 1 ? near : far; };

  if (last == 0) return pass(stretches, shifts[0], read_values, write_order);
  pass(stretches, shifts[0], read_values, writes(target(0)));
  for (std::size_t p = 1; p < last; ++p) pass(stretches, shifts[p], reads(target(p - 1)), writes(target(p)));
  pass(stretches, shifts[last], reads(near), write_order);
}

}  // namespace

template <class T>
void argsort(const T* values, std::size_t n, bool descending, int threads, bool wide, std::int64_t* order) {
  if (n == 0) return;
  const Stretches stretches(n, threads);
  const std::vector<int> shifts = varying_shifts(values, descending, stretches);
  if (shifts.empty()) return std::iota(order, order + n, std::int64_t{0});
  if (wide || n > std::numeric_limits<std::uint32_t>::max())
    sort<std::uint64_t>(values, descending, shifts, stretches, n, order);
  else
    sort<std::uint32_t>(values, descending, shifts, stretches, n, order);
}

template void argsort(const float*, std::size_t, bool, int, bool, std::int64_t*);
template void argsort(const double*, std::size_t, bool, int, bool, std::int64_t*);
template void argsort(const std::int32_t*, std::size_t, bool, int, bool, std::int64_t*);
template void argsort(const std::int64_t*, std::size_t, bool, int, bool, std::int64_t*);
template void argsort(const std::uint32_t*, std::size_t, bool, int, bool, std::int64_t*);
template void argsort(const std::uint64_t*, std::size_t, bool, int, bool, std::int64_t*);

}  // namespace pyi::order
