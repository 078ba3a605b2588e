// Observations -> running state: one observation of one sample at a time, in the order of the epochs.
//
// The state is columns [N], any of which may be missing (null). Means and their squared deviations follow
// Welford, so that nothing is lost over thousands of epochs; the other columns are plain sums in double.
// Everything here is basic IEEE arithmetic on doubles (no libm), so that equal rows give equal bits on every
// rank.
#pragma once

#include <cstdint>

#include "observe/arithmetic.h"
#include "observe/row.h"

namespace pyi {

struct Columns {
  std::int32_t* count;  // observations; never missing
  // What an observation still weighs, where some weigh less than 1: sum of the weights and of their squares.
  double* weight;
  double* weight_sq;
  double *loss_mean, *loss_m2;  // m2: sum of (weighted) squared deviations from the mean
  double *p_mean, *p_m2;        // of p_y
  double* q_sum;                // of 1 - p_y, which for p_y near 1 has digits that p_y has not
  double *margin_sum, *el2n_sum, *entropy_sum, *grand_sum;
  // Of the latest observation. The first two are exponents, subtracted from each other.
  double *loss_last, *margin_last;
  float *el2n_last, *entropy_last;
  std::int32_t* correct;        // how often correct
  std::int32_t* forgotten;      // how often correct, and then not at the next observation
  std::int32_t* first_learned;  // the first epoch in which it was correct; valid where correct > 0
  std::uint8_t* ends;           // bit 0: correct at its first observation; bit 1: at its last
};

// Whether the count, and of each quantity all of its columns or none, are there.
inline bool complete(const Columns& c) {
  const auto together = [](bool all, bool any) { return all || !any; };
  return c.count != nullptr && together(c.weight && c.weight_sq, c.weight) &&
         together(c.loss_mean && c.loss_m2 && c.loss_last, c.loss_mean) &&
         together(c.p_mean && c.p_m2 && c.q_sum, c.p_mean) &&
         together(c.margin_sum && c.margin_last, c.margin_sum) &&
         together(c.el2n_sum && c.el2n_last, c.el2n_sum) &&
         together(c.entropy_sum && c.entropy_last, c.entropy_sum) &&
         together(c.correct && c.forgotten && c.first_learned && c.ends, c.correct);
}

struct Observation {
  double loss, p, q, margin, el2n, entropy, grand;
  bool right;
};

PYI_HD void welford(double x, double weight, double* mean, double* m2) {
  const double off = x - *mean;
  *mean += off / weight;
  // Where the past weighs nothing against x, rounding can take the mean past it.
  const double step = off * (x - *mean);
  *m2 += step > 0 ? step : 0;
}

PYI_HD void fold(const Columns& c, std::int64_t i, const Observation& seen, std::int32_t epoch) {
  const std::int32_t before = c.count[i]++;
  double weight = c.count[i];
  if (c.weight != nullptr) {
    weight = c.weight[i] += 1.0;
    c.weight_sq[i] += 1.0;
  }
  if (c.loss_mean != nullptr) {
    welford(seen.loss, weight, &c.loss_mean[i], &c.loss_m2[i]);
    c.loss_last[i] = seen.loss;
  }
  if (c.p_mean != nullptr) {
    welford(seen.p, weight, &c.p_mean[i], &c.p_m2[i]);
    c.q_sum[i] += seen.q;
  }
  if (c.margin_sum != nullptr) {
    c.margin_sum[i] += seen.margin;
    c.margin_last[i] = seen.margin;
  }
  const auto add = [i](double* sum, float* last, double x) {
    if (sum == nullptr) return;
    sum[i] += x;
    last[i] = static_cast<float>(x);
  };
  add(c.el2n_sum, c.el2n_last, seen.el2n);
  add(c.entropy_sum, c.entropy_last, seen.entropy);
  if (c.grand_sum != nullptr) c.grand_sum[i] += seen.grand;
  if (c.correct != nullptr) {
    const bool was_right = before > 0 && (c.ends[i] & 2) != 0;
    c.forgotten[i] += was_right && !seen.right;
    if (seen.right && c.correct[i]++ == 0) c.first_learned[i] = epoch;
    const int first = before > 0 ? c.ends[i] & 1 : seen.right;
    c.ends[i] = static_cast<std::uint8_t>(first | (seen.right ? 2 : 0));
  }
}

// What a row says. One of kLossOnly folds into the loss alone.
PYI_HD void fold(const Columns& c, std::int64_t i, const Row& row, std::int32_t epoch) {
  const Probability<double> y = probability(row.loss);
  const Observation seen{row.loss, y.p,         y.q,       row.margin,
                         row.el2n, row.entropy, row.grand, row.code == kCorrect};
  if (row.code != kLossOnly) {
    fold(c, i, seen, epoch);
    return;
  }
  Columns loss{};
  loss.count = c.count;
  loss.weight = c.weight;
  loss.weight_sq = c.weight_sq;
  loss.loss_mean = c.loss_mean;
  loss.loss_m2 = c.loss_m2;
  loss.loss_last = c.loss_last;
  fold(loss, i, seen, epoch);
}

// Folds an epoch's rows [samples]; unseen ones change nothing.
void fold_rows(const Columns&, const Row* rows, std::int64_t samples, std::int32_t epoch, int threads);

}  // namespace pyi
