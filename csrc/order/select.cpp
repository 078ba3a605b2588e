// The values selected lie between the keys at rank `start` and at rank `stop - 1`; among those equal to one
// of the two, their numbers in the order of positions decide.
#include "order/select.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "order/narrow.h"
#include "order/stretches.h"

namespace pyi::order {
namespace {

constexpr int kBits = 11;

struct Threshold {
  std::uint64_t key;  // of the value at a rank
  std::size_t below;  // how many keys are smaller
};

template <class T>
Threshold key_at(const T* values, const Narrow<T>& narrow, const Stretches& stretches, std::size_t rank) {
  Threshold found{0, 0};
  for (int known = narrow.bits(); known > 0;) {  // found.key holds the bits from `known` upwards
    const int shift = std::max(known - kBits, 0);
    const std::size_t buckets = std::size_t{1} << (known - shift);
    std::vector<std::vector<std::size_t>> counts(stretches.count());
    stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
      counts[t].resize(buckets);
      for (std::size_t i = begin; i < end; ++i) {
        const std::uint64_t digit = (std::uint64_t{narrow(values[i])} >> shift) - found.key * buckets;
        if (digit < buckets) ++counts[t][digit];  // below the known bits it wraps around
      }
    });
    std::size_t bucket = 0;
    for (;; ++bucket) {
      std::size_t here = 0;
      for (const auto& of_stretch : counts) here += of_stretch[bucket];
      if (rank < found.below + here) break;
      found.below += here;
    }
    found.key = found.key * buckets + bucket;
    known = shift;
  }
  return found;
}

// Values of a stretch: those between the thresholds, and those equal to one of them.
struct Counts {
  std::size_t between = 0, low = 0, high = 0;
};

// How many of the numbers from..from + count - 1 lie in [begin, end).
std::size_t overlap(std::size_t from, std::size_t count, std::size_t begin, std::size_t end) {
  return std::max(begin, std::min(from + count, end)) - std::max(begin, std::min(from, end));
}

}  // namespace

template <class T>
void select_ranks(const T* values, std::size_t n, bool descending, int threads, std::size_t start,
                  std::size_t stop, Positions positions) {
  if (start == stop) return;
  const Stretches stretches(n, threads);
  const Narrow<T> narrow(span_of(values, descending, stretches), descending);
  const Threshold low = key_at(values, narrow, stretches, start);
  const Threshold high = key_at(values, narrow, stretches, stop - 1);
  const bool same = low.key == high.key;
  // Of the values equal to `low` those numbered from here on, of those equal to `high` those before.
  const std::size_t low_from = start - low.below, high_end = stop - high.below;
  const std::size_t low_end = same ? high_end : n;

  std::vector<Counts> counts(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    Counts here;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint64_t key = narrow(values[i]);
      here.between += key > low.key && key < high.key;
      here.low += key == low.key;
      here.high += key == high.key;
    }
    counts[t] = here;
  });
  Counts before;
  std::vector<std::pair<Counts, std::size_t>> starts;  // what precedes a stretch, and where it writes
  std::size_t place = 0;
  for (const Counts& here : counts) {
    starts.emplace_back(before, place);
    place += here.between + overlap(before.low, here.low, low_from, low_end);
    if (!same) place += overlap(before.high, here.high, 0, high_end);
    before.low += here.low;
    before.high += here.high;
  }
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    auto [number, to] = starts[t];
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint64_t key = narrow(values[i]);
      bool taken = key > low.key && key < high.key;
      if (key == low.key) {
        taken = number.low >= low_from && number.low < low_end;
        ++number.low;
      } else if (key == high.key) {
        taken = number.high++ < high_end;
      }
      if (taken) positions.set(to++, i);
    }
  });
}

template void select_ranks(const float*, std::size_t, bool, int, std::size_t, std::size_t, Positions);

}  // namespace pyi::order
