// A member's rows as they lie: as numbers to compute with, their largest, and whether they are distributions.
// Part of the ensemble's kernel.
#pragma once

#include "observe/ensemble.h"
#include "observe/narrow.h"

namespace pyi {
namespace PYI_ISA {
namespace {

PYI_HD Doubles load_wide(const float* from) { return widen(load<Floats>(from)); }
PYI_HD Doubles load_wide(const double* from) { return load<Doubles>(from); }

// What a type is computed with: double for double, float (exactly) for the others.
template <class T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

PYI_HD const float* in_place(const float* row) { return row; }
PYI_HD const double* in_place(const double* row) { return row; }
PYI_HD const float* in_place(const Half*) { return nullptr; }
PYI_HD const float* in_place(const BFloat16*) { return nullptr; }

// A row of predictions, its classes adjacent: where it lies if it can be, else in the buffer.
template <class T>
PYI_HD const Wide<T>* row_of(const Predictions& from, std::int64_t row, double* buffer) {
  const T* z = static_cast<const T*>(from.data) + row * from.row_stride;
  const std::int64_t classes = from.classes, stride = from.class_stride;
  Wide<T>* to = reinterpret_cast<Wide<T>*>(buffer);
  if (stride == 1) {
    if (const Wide<T>* there = in_place(z)) return there;
    for (std::int64_t k = 0; k < classes; ++k) to[k] = pyi::widen(z[k]);
  } else {
    for (std::int64_t k = 0; k < classes; ++k) to[k] = pyi::widen(z[k * stride]);
  }
  return to;
}

struct Peak {
  double top;
  std::int64_t place;
};

template <class W>
struct IntegerOf {
  using type = std::int32_t;
};
template <>
struct IntegerOf<double> {
  using type = std::int64_t;
};

// The bits of a number as an integer, and back; the integers are in the order of the numbers.
template <class I, class W>
PYI_HD I ordered(W x) {
  I bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits ^ ((bits >> (8 * sizeof bits - 1)) & static_cast<I>(~(I{1} << (8 * sizeof bits - 1))));
}

// The largest and its first place. In integers, whose maximum the compiler makes of lanes (that of numbers it
// does not, for NaN's sake), and without a branch that depends on the values.
template <class W>
PYI_HD Peak peak_of(const W* z, std::int64_t classes) {
  using I = typename IntegerOf<W>::type;
  I most = ordered<I>(z[0]);
  for (std::int64_t k = 1; k < classes; ++k) {
    const I other = ordered<I>(z[k]);
    most = other > most ? other : most;
  }
  W top;
  const I bits = most ^ ((most >> (8 * sizeof most - 1)) & static_cast<I>(~(I{1} << (8 * sizeof most - 1))));
  __builtin_memcpy(&top, &bits, sizeof top);
  I place = static_cast<I>(classes);
  for (std::int64_t k = 0; k < classes; ++k) {
    const I here = z[k] == top ? static_cast<I>(k) : static_cast<I>(classes);
    place = here < place ? here : place;
  }
  return {top, place};
}

// Whether some of the numbers are not within [least, most]; whether some are not above least.
struct Extremes {
  bool outside, low;
};

template <class W>
PYI_HD Extremes extremes(const W* z, std::int64_t count, W least, W most) {
  std::int32_t outside = 0, low = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    outside |= !(z[k] >= least) | !(z[k] <= most);
    low |= !(z[k] > least);
  }
  return {outside != 0, low != 0};
}

template <class T>
PYI_HD bool is_distribution(const Predictions& from, std::int64_t row, double* buffer) {
  using W = Wide<T>;
  const W* z = row_of<T>(from, row, buffer);
  if (!from.probabilities) {
    constexpr W most = sizeof(W) == 4 ? static_cast<W>(__FLT_MAX__) : static_cast<W>(__DBL_MAX__);
    const Extremes found = extremes(z, from.classes, -static_cast<W>(__builtin_inf()), most);
    return !found.outside && (!found.low || peak_of(z, from.classes).top >= -most);
  }
  if (extremes(z, from.classes, W{0}, static_cast<W>(1 + kSumTolerance)).outside) return false;
  Doubles sums{};
  std::int64_t k = 0;
  for (; k + kLanes <= from.classes; k += kLanes) sums += load_wide(z + k);
  double sum = sum_of_lanes(sums);
  for (; k < from.classes; ++k) sum += z[k];
  return is_one(sum);
}

// Of adjacent rows of logits: all are finite, so that nothing has to be known of each.
template <class T>
PYI_HD bool all_finite(const Predictions& from, std::int64_t begin, std::int64_t rows) {
  const Wide<T>* z = in_place(static_cast<const T*>(from.data) + begin * from.row_stride);
  if (from.probabilities || z == nullptr || from.class_stride != 1 || from.row_stride != from.classes) {
    return false;
  }
  std::int32_t wrong = 0;
  for (std::int64_t k = 0; k < rows * from.classes; ++k) wrong |= !(z[k] - z[k] == 0);
  return wrong == 0;
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
