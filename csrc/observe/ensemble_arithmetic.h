// What is computed of a member's predictions, for a double and for a vector of them, host and device.
//
// With j the (first) most probable class, e_k = p_k / p_j and d_k = log e_k: then p_k = e_k / sum e and the
// entropy is log(sum e) - sum(e d) / sum e, where e_j = 1 and d_j = 0 are left out of the sums, so that the
// entropy of a sure row keeps its digits.
#pragma once

#include "observe/arithmetic.h"

namespace pyi {

constexpr double kSumTolerance = 0.01;  // what 16-bit floats leave of a sum of 1

// Whether there can be such a logit, or such a probability.
PYI_HD bool is_prediction(double x, bool probability) {
  return probability ? x >= 0 && x <= 1 + kSumTolerance : x <= __DBL_MAX__;
}

PYI_HD bool is_one(double sum) { return sum >= 1 - kSumTolerance && sum <= 1 + kSumTolerance; }

template <class V>
struct Ratio {
  V e, d;
};

// Of logits divided by 1 / sharpness, the largest of which is top.
template <class V>
PYI_HD Ratio<V> ratio_of_logits(V z, V top, double sharpness) {
  const V d = at_least_floor((z - top) * sharpness);
  return {exp_negative(d), d};
}

// Of what is proportional to probabilities.
template <class V>
PYI_HD Ratio<V> ratio_of_probabilities(V p, V top) {
  const V e = p / top;
  return {e, log_positive(e)};
}

// sum: of e, ed: of -e d, both without class j.
template <class V>
PYI_HD V entropy_of(V sum, V ed) {
  return log1p_positive(sum) + ed / (sum + 1.0);
}

}  // namespace pyi
