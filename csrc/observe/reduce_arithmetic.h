// What is kept of a sample's numbers as its epochs come, and what they may be.
//
// Written once for lanes of V: a thread of a device has one (double, int32), a processor has vectors of
// doubles and of bytes (reduce_sums.h, reduce_events.h). As arithmetic.h, it is for any instruction set.
#pragma once

#include <cstdint>

#include "observe/arithmetic.h"

namespace pyi {

// Which lanes hold a number: all bits of a word or none, as vectors compare.
PYI_HD std::int64_t present(double x) { return -static_cast<std::int64_t>(x == x); }

template <class V>
PYI_HD auto present(V x) {
  return x == x;
}

// Sums of a quantity's numbers x: of x - first and its square (kSpread; reduce.h says why), or of x alone.
template <class V>
struct Moments {
  V first;  // NaN before there is one
  V sum, squares;
  decltype(present(V{})) count;
};

// Adds x to lanes that have had a first number; kMasked: to those in which there is one now, of which it may
// be the first. Returns which these were.
template <bool kSpread, bool kMasked, class V>
PYI_HD auto add(Moments<V>& to, V x) {
  decltype(present(x)) is{};
  if (kMasked) {
    is = present(x);
    to.first = present(to.first) ? to.first : x;
    to.count -= is;
  }
  V d = kSpread ? x - to.first : x;
  if (kMasked) d = is ? d : V{};
  to.sum += d;
  if (kSpread) to.squares += d * d;
  return is;
}

// The mean, the squared deviations from it and, if wanted, the sum of 1 - x, of `count` numbers x.
PYI_HD void settle(double count, double first, double sum, double squares, double* mean, double* m2,
                   double* rest) {
  const double x0 = count > 0 ? first : 0, divisor = count > 0 ? count : 1;
  *mean = x0 + sum / divisor;
  const double deviations = squares - sum / divisor * sum;
  // Rounding can take it below 0; a square beyond the largest double makes it no number.
  *m2 = deviations >= 0 ? deviations : (squares - squares == 0 ? 0.0 : __builtin_inf());
  if (rest == nullptr) return;
  const double left = count > 0 ? count * (1 - x0) - sum : 0;
  *rest = left > 0 ? left : 0;
}

// The least and the largest of the numbers met; before any, infinities the other way round.
template <class V>
struct Range {
  V low, high;
};

template <class V>
PYI_HD Range<V> no_range() {
  return {V{} + __builtin_inff(), V{} - __builtin_inff()};
}

// A NaN is none of them.
template <class V>
PYI_HD void meet(Range<V>& range, V x) {
  range.low = x < range.low ? x : range.low;
  range.high = x > range.high ? x : range.high;
}

struct Bounds {
  double low, high;
};

template <class T>
PYI_HD bool within(const Range<T>& range, const Bounds& bounds) {
  return range.high < range.low || (range.low >= bounds.low && range.high <= bounds.high);
}

// What a number of `correct` says, each 0 or 1: whether the sample was observed, whether it was right, and
// whether the number is none of those that there may be.
struct Answer {
  std::uint8_t here, right, wrong;
};

template <class T>
PYI_HD Answer answer(T x) {
  const std::uint8_t is = x == x, zero = x == 0, one = x == 1;
  return {is, one, static_cast<std::uint8_t>(is & (zero ^ 1) & (one ^ 1))};
}

// Events of a sample. A lane may be as narrow as a byte, of 255 epochs at most.
template <class V>
struct Events {
  V count, correct, forgotten;
  V unlearned;      // epochs before the first in which it was right, which is that epoch's number
  V learned, last;  // 0 or 1
};

// Adds an epoch; right and here are 0 or 1.
template <class V>
PYI_HD void add(Events<V>& to, V right, V here) {
  const V hit = right & here, miss = here ^ hit;
  to.count += here;
  to.correct += hit;
  to.forgotten += to.last & miss;
  to.learned |= hit;
  to.unlearned += to.learned ^ 1;
  to.last = (to.last | hit) & ~miss;
}

}  // namespace pyi
