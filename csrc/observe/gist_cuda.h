// What a thread of a device keeps of a row of logits (gist.h), and the Row that follows from it.
#pragma once

#include <cmath>

#include "observe/gist.h"
#include "observe/ptx.h"
#include "observe/row.h"

namespace pyi {

struct Gist {
  double s;    // sum of e_k = exp(z_k - reference) over all classes but the target; or the loss (kLossOnly)
  float q, a;  // sum of e_k^2, and of e_k (reference - z_k)
  float reference;  // no further below top than kSlack
  float top;        // the largest logit but the target's; -inf if there is none
  float target;     // z_y
  std::int32_t code;
};
static_assert(sizeof(Gist) == 32);

template <>
struct Larger<float> {
  PYI_HD float keeping_nan(float least, float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return ptx::max_nan(least, x);
#else
    return least > x ? least : x;
#endif
  }
  PYI_HD float dropping_nan(float least, float x) { return fmaxf(least, x); }
};

// 2^t to 2^-22 relative.
PYI_HD float power_of_two(float t) {
#ifdef __CUDA_ARCH__
  return ptx::ex2(t);
#else
  return exp2f(t);
#endif
}

template <>
struct Lanes<float> {
  PYI_HD float fused(float a, float b, float c) { return fmaf(a, b, c); }

  PYI_HD float exp(float d, float lost) {
    const float t = d * 0x1.715476p+0f;                    // d log2(e), rounded;
    const float rest = fmaf(t, -0x1.62e43p-1f, d) + lost;  // what that leaves of d
    const float e = power_of_two(t);
    return fmaf(e, rest, e);
  }
};

// The row of a gist whose code is kWrong, kCorrect or kLossOnly. norm: |h| of the last layer's features; NaN
// if there are none.
PYI_HD Row row_of(const Gist& gist, float norm) {
  const float nan = __builtin_nanf("");
  if (gist.code == kLossOnly) return {gist.s, nan, nan, nan, kLossOnly, nan};
  // Terms that were cut off may come out a little below 0 (kExact), and there may be no others.
  const Sums<double> sums{gist.s < 0 ? 0.0 : gist.s, gist.q, gist.a};
  const Statistics<double> row =
      finish<double>(gist.target, gist.top, gist.reference, sums, gist.code == kCorrect);
  const double el2n = sqrt(row.el2n_squared), h = norm;
  return {row.loss,
          row.margin,
          static_cast<float>(el2n),
          static_cast<float>(row.entropy),
          gist.code,
          static_cast<float>(el2n * sqrt(1.0 + h * h))};
}

}  // namespace pyi
