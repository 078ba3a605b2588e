// A history [E, N] -> running state, in one pass over it.
//
// What the fold does observation by observation (fold.h), for numbers that lie in plain arrays of any size:
// nothing is copied or converted, and each number is read once. A NaN is a sample not observed in an epoch.
//
// Sums are of x - x0, x0 being the sample's first observation, and of its square, in double. x0 is one of the
// E numbers itself, so the sum of squared deviations is at least 1/E of the sum of squares that it is the
// small difference of: of 53 bits no more than log2(E) cancel, whatever the numbers are.
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

// The mean, the squared deviations from it and, if wanted, the sum of 1 - x, of `count` numbers x, from the
// sums of x - first and of its square.
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

// Sets the columns that there are arrays for (they need not be zeroed; a sample never observed gets zeros).
// False where numbers are not what they must be: NaN in one array and none in another, p_true outside
// [0, 1], el2n outside [0, most_el2n], entropy or grand negative or infinite, a loss infinite, correct
// neither 0 nor 1. The columns are then worth nothing.
bool reduce(const Columns&, const History&, double most_el2n, int threads);

}  // namespace pyi
