// A history [E, N] -> running state, in one pass over it.
//
// What the fold does observation by observation (fold.h), for numbers that lie in plain arrays of any size:
// nothing is copied or converted, and each number is read once. A NaN is a sample not observed in an epoch.
//
// Sums are of x - x0, x0 being the sample's first observation, and of its square, in double
// (reduce_arithmetic.h). x0 is one of the E numbers itself, so the sum of squared deviations is at least 1/E
// of the sum of squares that it is the small difference of: of 53 bits no more than log2(E) cancel, whatever
// the numbers are.
//
// The columns of a sample are a function of its numbers and the instruction set alone, not of the threads.
#pragma once

#include <cstdint>

#include "observe/fold.h"
#include "observe/reduce_block.h"

namespace pyi {

struct History {
  Series loss, p_true, margin, el2n, entropy, grand, correct;
  std::int64_t epochs, samples;
};

// An array of a history, what it may hold, and the columns that it goes to: those of the mean and the squared
// deviations from it (of the sum of 1 - x besides, where there is `rest`), or that of the sum. The latest
// number is wanted as a double, as a float, or not at all.
struct Quantity {
  Series series;
  Bounds bounds;
  double *mean, *m2, *rest, *sum, *last;
  float* short_last;
};

constexpr int kQuantities = 6, kSpreadQuantities = 2;  // of the first ones the deviations are wanted

struct Quantities {
  Quantity all[kQuantities];
};

inline Quantities quantities_of(const Columns& c, const History& h, double most_el2n) {
  constexpr double kLargest = 0x1.fffffffffffffp+1023, kInfinite = __builtin_inf();
  const auto sum = [](const Series& series, Bounds bounds, double* column, double* last, float* short_last) {
    return Quantity{series, bounds, nullptr, nullptr, nullptr, column, last, short_last};
  };
  const Bounds finite{-kLargest, kLargest}, positive{0, kLargest};
  return {{{h.loss, finite, c.loss_mean, c.loss_m2, nullptr, nullptr, c.loss_last, nullptr},
           {h.p_true, {0, 1}, c.p_mean, c.p_m2, c.q_sum, nullptr, nullptr, nullptr},
           // A margin is infinite where there is but one class.
           sum(h.margin, {-kInfinite, kInfinite}, c.margin_sum, c.margin_last, nullptr),
           sum(h.el2n, {0, most_el2n}, c.el2n_sum, nullptr, c.el2n_last),
           sum(h.entropy, positive, c.entropy_sum, nullptr, c.entropy_last),
           sum(h.grand, positive, c.grand_sum, nullptr, nullptr)}};
}

// The columns of a sample but the latest, from its Moments.
PYI_HD void settle(const Quantity& q, double count, double first, double sum, double squares,
                   std::int64_t sample) {
  if (q.m2 == nullptr) {
    q.sum[sample] = sum;
    return;
  }
  settle(count, first, sum, squares, q.mean + sample, q.m2 + sample,
         q.rest != nullptr ? q.rest + sample : nullptr);
}

// Sets the columns that there are arrays for (they need not be zeroed; a sample never observed gets zeros).
// False where numbers are not what they must be: NaN in one array and none in another, p_true outside
// [0, 1], el2n outside [0, most_el2n], entropy or grand negative or infinite, a loss infinite, correct
// neither 0 nor 1. The columns are then worth nothing.
bool reduce(const Columns&, const History&, double most_el2n, int threads);

}  // namespace pyi
