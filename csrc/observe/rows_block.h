// From the sums over the classes of kLanes rows to their statistics, features included. A part of the row
// kernel.
#pragma once

#include "observe/rows.h"
#include "observe/rows_vectors.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr float kNaN = __builtin_nanf("");

// What a row's statistics are made of (arithmetic.h), for kLanes rows.
struct Block {
  Doubles top, second, target, is_right;
  Sums<Doubles> sums;
};

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
  Doubles lanes = even + odd;
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
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

PYI_HD void finish_block(const Block& block, const Inputs& in, std::int64_t begin, std::int64_t end,
                         Row* out) {
  const auto right = block.is_right != 0.0;
  const Statistics<Doubles> row = finish(block.target, block.top, block.second, block.sums, right);
  const Doubles el2n = square_root(row.el2n_squared);
  const Doubles unsure = (block.top - block.top) + (row.loss - row.loss) + (row.entropy - row.entropy);
  const auto all = [](std::uint64_t code) { return Words{} + code; };
  const Words sound = right ? all(kCorrect) : all(kWrong);
  const Words code = unsure == 0.0 ? sound : all(kNonFinite);  // else it is NaN
  for (int lane = 0; lane < kLanes && begin + lane < end; ++lane) {
    const std::int64_t i = begin + lane;
    out[i] = {row.loss[lane],
              row.margin[lane],
              static_cast<float>(el2n[lane]),
              static_cast<float>(row.entropy[lane]),
              static_cast<std::int32_t>(code[lane]),
              kNaN};
    if (in.mask != nullptr && !in.mask[i]) {
      out[i] = Row{};
    } else if (in.features != nullptr && code[lane] != kNonFinite) {
      add_features(out[i], el2n[lane], *in.features, i);
    }
  }
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
