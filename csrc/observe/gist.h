// What a device keeps of a row of logits after one pass over it, and the Row that follows from it.
//
// Per class the arithmetic is float, because devices have a 2nd to a 64th as many units for doubles and
// reading the logits is all the time there is; per row it is double (arithmetic.h). What makes float enough:
//   - The target stays out of the sums, so that a loss of 1e-9 keeps its digits.
//   - d = z_k - reference carries the rounding of the difference along (kExact), so that e_k = exp(d) has the
//     error of exp alone: 2^-22 of the device's power of two, 6e-8 of the rest, 2e-9 for each unit of d.
//   - A lane adds a handful of terms at a time in float, and those sums with compensation (Kahan); lanes are
//     added as doubles.
// Bound, to the oracle in float64: 1e-6 relative for the loss, 1 - p_y and EL2N; the margin is exact.
// Entropy: 1e-6 of 1 + its value. Terms below exp(-87) of the largest are 0. f16 and bf16 logits go without
// the rounding of the difference: it is 0 unless one logit is 2^-12 (bf16: 2^-15) of another, and 6e-8 for
// each unit of d at most. So of losses that hardly change, a standard deviation below 1e-6 of their mean is
// noise.
#pragma once

#include <cmath>
#include <cstdint>

#include "observe/arithmetic.h"
#include "observe/row.h"

#ifdef __CUDACC__
#define PYI_UNROLL _Pragma("unroll")
#else
#define PYI_UNROLL
#endif

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

constexpr float kNothing = -INFINITY;         // a logit that is not there adds nothing
constexpr float kLowest = -0x1.fffffep+127f;  // the reference before there is one: finite, that 0 * it is 0
constexpr float kSlack = 4.0f;                // sums are good for terms up to exp(kSlack)
constexpr float kLeast = -100.0f;             // exp of this is 0 as a float

// The larger; NaN if x is. The bound is a number.
PYI_HD float at_least(float x, float bound) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(x), "f"(bound));
  return larger;
#else
  return x < bound ? bound : x;
#endif
}

// 2^t to 2^-22 relative; 0 where that is below the least normal number.
PYI_HD float power_of_two(float t) {
#ifdef __CUDA_ARCH__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(t));
  return power;
#else
  return t < -126.0f ? 0.0f : exp2f(t);
#endif
}

struct Term {
  float e, d;  // exp(z - reference), and z - reference, at least kLeast
};

template <bool kExact>
PYI_HD Term term(float z, float reference) {
  const float d = at_least(z - reference, kLeast);
  const float t = d * 0x1.715476p+0f;       // d log2(e), rounded;
  float rest = fmaf(t, -0x1.62e43p-1f, d);  // what that leaves of d
  if (kExact) {
    const float back = d - z;  // d and this give z - reference exactly (Knuth's two-sum);
    const float lost = (z - (d - back)) - (reference + back);
    rest += fmaxf(lost, -1.0f);  // where d was cut off it means nothing, and e is 0
  }
  const float e = power_of_two(t);
  return {fmaf(e, rest, e), d};
}

// A sum of numbers >= 0 that keeps what rounding takes (Kahan): its value is high - low.
struct Sum {
  float high = 0, low = 0;
};

PYI_HD void add(Sum& sum, float x) {
  const float y = x - sum.low;
  const float high = sum.high + y;
  sum.low = (high - sum.high) - y;
  sum.high = high;
}

// What one lane has of a row, relative to a reference that all lanes of the row share.
struct Share {
  Sum s, q, a;
};

// Adds N logits, no further above the reference than kSlack; kNothing adds nothing. NaN shows in s.
template <bool kExact, int N>
PYI_HD void add_logits(Share& share, const float (&z)[N], float reference) {
  constexpr int kChains = N < 4 ? N : 4;
  float s[kChains] = {}, q[kChains] = {}, a[kChains] = {};
  PYI_UNROLL
  for (int i = 0; i < N; ++i) {
    const Term x = term<kExact>(z[i], reference);
    s[i % kChains] += x.e;
    q[i % kChains] = fmaf(x.e, x.e, q[i % kChains]);
    a[i % kChains] = fmaf(x.e, -x.d, a[i % kChains]);
  }
  PYI_UNROLL
  for (int half = kChains / 2; half > 0; half /= 2) {
    PYI_UNROLL
    for (int i = 0; i < half; ++i) {
      s[i] += s[i + half];
      q[i] += q[i + half];
      a[i] += a[i + half];
    }
  }
  add(share.s, s[0]);
  add(share.q, q[0]);
  add(share.a, a[0]);
}

// The same sums relative to another reference, at least kSlack above the one they had.
PYI_HD void move_reference(Share& share, float from, float to) {
  const Term shift = term<true>(from, to);
  const float s = share.s.high - share.s.low, q = share.q.high - share.q.low, a = share.a.high - share.a.low;
  share.s = {s * shift.e, 0};
  share.q = {q * shift.e * shift.e, 0};
  share.a = {(a - shift.d * s) * shift.e, 0};
}

// The sums relative to a reference not below theirs, in double.
PYI_HD Sums<double> relative_to(double reference, double s, double q, double a, double to) {
  const double f = exp_negative(at_least_floor(reference - to));
  return {s * f, q * f * f, (a + (to - reference) * s) * f};
}

// The row of a gist whose code is kWrong, kCorrect or kLossOnly. norm: |h| of the last layer's features; NaN
// if there are none.
PYI_HD Row row_of(const Gist& gist, float norm) {
  const float nan = __builtin_nanf("");
  if (gist.code == kLossOnly) return {gist.s, nan, nan, nan, kLossOnly, nan};
  const bool right = gist.code == kCorrect;
  const double target = gist.target, peak = right ? target : static_cast<double>(gist.top);
  Sums<double> sums = relative_to(gist.reference, gist.s, gist.q, gist.a, peak);
  if (!right) {  // then the sums hold the 1 of the largest logit and lack the target
    const double gap = target - peak, e = exp_negative(at_least_floor(gap));
    sums.s = (sums.s > 1.0 ? sums.s - 1.0 : 0.0) + e;
    sums.q = (sums.q > 1.0 ? sums.q - 1.0 : 0.0) + e * e;
    sums.a -= gap * e;
  }
  const Statistics<double> row = finish<double>(target, peak, gist.top, sums, right);
  const double el2n = sqrt(row.el2n_squared), h = norm;
  return {row.loss,
          row.margin,
          static_cast<float>(el2n),
          static_cast<float>(row.entropy),
          gist.code,
          static_cast<float>(el2n * sqrt(1.0 + h * h))};
}

}  // namespace pyi
