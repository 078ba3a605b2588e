// From the sums over the classes of kWide rows to their statistics, features included. A part of the row
// kernel.
#pragma once

#include "observe/rows.h"
#include "observe/rows_powers.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr float kNaN = __builtin_nanf("");

// What the statistics of kWide rows are made of (arithmetic.h).
struct Block {
  WideFloats target, top, reference;
  WideInts right;  // of all ones or zeros, as comparisons are
  Sums<Doubles> sums[2];
};

PYI_HD Doubles value_of(const Sum<WideFloats>& sum, int half) {
  return widened(sum.high, half) - widened(sum.low, half);
}

PYI_HD Sums<Doubles> sums_of(const Share<WideFloats>& share, int half) {
  return {value_of(share.s, half), value_of(share.q, half), value_of(share.a, half)};
}

// take(a constant of that many) until there have been `count`: eights, then fewer.
template <class Take>
PYI_HD void in_eights(std::int64_t count, const Take& take) {
  for (; count >= 8; count -= 8) take(Count<8>{});
  if (count & 4) take(Count<4>{});
  if (count & 2) take(Count<2>{});
  if (count & 1) take(Count<1>{});
}

// Whether the logit at y, one of the largest, is the first of them.
template <class T>
PYI_HD bool is_first(const T* z, std::int64_t y) {
  const float most = pyi::widen(z[y]);
  for (std::int64_t k = 0; k < y; ++k) {
    if (pyi::widen(z[k]) == most) return false;
  }
  return true;
}

// sum of squares of a row
template <class T>
PYI_HD double squared_norm(const T* h, std::int64_t width) {
  Doubles even{}, odd{};
  std::int64_t k = 0;
  const auto square = [](Floats x) __attribute__((always_inline)) {
    const Doubles wide = widen(x);
    return wide * wide;
  };
  for (; k + kWide <= width; k += kWide) {
    even = even + square(few_at(h + k));
    odd = odd + square(few_at(h + k + kLanes));
  }
  double sum = sum_of_lanes(even + odd);
  for (; k < width; ++k) {
    const double x = pyi::widen(h[k]);
    sum += x * x;
  }
  return sum;
}

double squared_norm(const Matrix& features, std::int64_t row) {
  return with_type(features.type, [&](auto kind) __attribute__((always_inline)) {
    using T = decltype(kind);
    return squared_norm(static_cast<const T*>(features.data) + row * features.stride, features.width);
  });
}

// What the features make of a row that is sound but for them.
PYI_HD void add_features(Row& row, double el2n, const Matrix& features, std::int64_t i) {
  row.grand = static_cast<float>(el2n * __builtin_sqrt(1.0 + squared_norm(features, i)));
  if (row.grand - row.grand != 0.0f) row = {0, 0, 0, 0, kNonFinite, 0};
}

struct Finished {
  Statistics<Doubles> row;
  Doubles el2n;
  Words code;
};

PYI_HD Finished finish_half(const Block& block, int half) {
  const Doubles target = widened(block.target, half);
  const auto right = __builtin_convertvector(half_of<Ints>(block.right, half), SignedWords) != 0;
  const Statistics<Doubles> row =
      finish(target, widened(block.top, half), widened(block.reference, half), block.sums[half], right);
  const Doubles unsure = (target - target) + (row.loss - row.loss) + (row.entropy - row.entropy);
  const auto all = [](std::uint64_t code) { return Words{} + code; };
  const Words sound = right ? all(kCorrect) : all(kWrong);
  return {row, square_root(row.el2n_squared), unsure == 0.0 ? sound : all(kNonFinite)};  // else it is NaN
}

PYI_HD void finish_block(const Block& block, const Inputs& in, std::int64_t begin, std::int64_t end,
                         Row* out) {
  // Both before either is written: the processor works on one while the other waits.
  const Finished halves[2] = {finish_half(block, 0), finish_half(block, 1)};
  for (int lane = 0; lane < kWide && begin + lane < end; ++lane) {
    const std::int64_t i = begin + lane;
    const Finished& from = halves[lane / kLanes];
    const int at = lane % kLanes;
    out[lane] = {from.row.loss[at],
                 from.row.margin[at],
                 static_cast<float>(from.el2n[at]),
                 static_cast<float>(from.row.entropy[at]),
                 static_cast<std::int32_t>(from.code[at]),
                 kNaN};
    if (in.mask != nullptr && !in.mask[i]) {
      out[lane] = Row{};
    } else if (in.features != nullptr && out[lane].code != kNonFinite) {
      add_features(out[lane], from.el2n[at], *in.features, i);
    }
  }
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
