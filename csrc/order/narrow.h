// Keys of no more bits than the values at hand need.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "order/entries.h"
#include "order/keys.h"
#include "order/stretches.h"

namespace pyi::order {

// What the keys of all numbers (not NaN) span: low..high, and the bits that some have and others have not.
template <class Key>
struct Span {
  Key low = std::numeric_limits<Key>::max(), high = 0, some = 0, all = std::numeric_limits<Key>::max();
  bool nan = false;
  void add(const Span& other) {
    low = std::min(low, other.low);
    high = std::max(high, other.high);
    some |= other.some;
    all &= other.all;
    nan |= other.nan;
  }
};

// Of entries that add(span, i) adds one by one.
template <class Key, class Add>
Span<Key> span_of(const Stretches& stretches, const Add& add) {
  std::vector<Span<Key>> spans(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    Span<Key> span;
    for (std::size_t i = begin; i < end; ++i) add(span, i);
    spans[t] = span;
  });
  for (std::size_t t = 1; t < spans.size(); ++t) spans[0].add(spans[t]);
  return spans[0];
}

template <class T>
Span<KeyOf<T>> span_of(const T* values, bool descending, const Stretches& stretches) {
  return span_of<KeyOf<T>>(stretches, [=](Span<KeyOf<T>>& span, std::size_t i) {
    const KeyOf<T> key = key_of(values[i], descending);
    if (is_nan(values[i])) {
      span.nan = true;
    } else {
      span.add({key, key, key, key, false});
    }
  });
}

// Keys from 0, without the low bits that all have in common; NaN above them all.
template <class T>
struct Narrow {
  explicit Narrow(const Span<KeyOf<T>>& span, bool descending_) : descending(descending_) {
    if (span.low > span.high) return;  // nothing but NaN
    low = span.low;
    const KeyOf<T> varying = span.some & ~span.all;
    while (varying != 0 && ((varying >> dropped) & 1) == 0) ++dropped;
    largest = (span.high - low) >> dropped;
    nan = largest + 1;
    if (span.nan) largest = nan;
  }
  KeyOf<T> operator()(T value) const {
    return is_nan(value) ? nan : (key_of(value, descending) - low) >> dropped;
  }
  int bits() const { return width_of(largest); }
  // Whether the value can be told from its key: not of a NaN, nor of a zero, which may be -0.0.
  bool tells(KeyOf<T> key) const { return key != nan && (key << dropped) + low != key_of(T{0}, descending); }
  T value_of(KeyOf<T> key) const { return order::value_of<T>((key << dropped) + low, descending); }
  bool descending;
  int dropped = 0;
  KeyOf<T> low = 0, largest = 0, nan = 0;
};

}  // namespace pyi::order
