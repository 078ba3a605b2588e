// The sums that are kept of a row of logits, read once; in float, and why that is enough.
//
// Written once for lanes of V: float, a lane of a device's (gist_cuda.h), or a vector of floats on a
// processor. Only the exponential has ways of its own. Per class the arithmetic is float, per row it is
// double (arithmetic.h). What makes float enough:
//   - The target stays out of the sums, so that a loss of 1e-9 keeps its digits.
//   - e_k = exp(d) has the error of exp, 1.8e-7 on a processor, 3e-7 on a device.
//   - d = z_k - reference is rounded, by 2^-21 at most where |d| < 16. Smaller terms are nothing beside the
//     reference's own 1: of 256,000 classes, 3 % of it. A device, whose exp is worse and whose units for
//     floats wait for memory, carries the rounding along (kExact).
//   - A lane adds a handful of terms at a time in float, and those sums with compensation (Kahan): 3e-7;
//     lanes are added as doubles.
// Bound, to the oracle in float64: 1e-6 relative for the loss, 1 - p_y and EL2N; the margin is exact.
// Entropy: 1e-6 of 1 + its value. Terms below exp(kLeast) of the largest count as that at most. f16 and bf16
// logits have an exact d unless one is 2^-12 (bf16: 2^-15) of another.
//
// So of losses that hardly change, a standard deviation below 1e-6 of their mean is noise. Of a row that is
// sure of another class, whose 1 the sums hold, noise is what that class's probability lacks to 1, and the
// entropy.
#pragma once

#include <cstdint>

#include "observe/arithmetic.h"

#ifdef __CUDACC__
#define PYI_UNROLL _Pragma("unroll")
#elif defined(__clang__)
#define PYI_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PYI_UNROLL _Pragma("GCC unroll 16")
#endif

namespace pyi {

constexpr float kNothing = -__builtin_inff();  // a logit that is not there adds nothing
constexpr float kLowest = -0x1.fffffep+127f;   // the reference before there is one: finite, that 0 * it is 0
constexpr float kSlack = 4.0f;                 // sums are good for terms up to exp(kSlack)
// Less than this below the reference counts as this: 2e-19, nothing beside the reference's own 1, and the
// square of it is a normal number.
constexpr float kLeast = -43.0f;

// What V has ways of its own for. Here, those of a vector.
template <class V>
struct Lanes {
  // a b + c, in one rounding where that costs none
  PYI_HD V fused(V a, V b, V c) { return a * b + c; }

  // exp(d + lost) for kLeast <= d <= kSlack and a small lost, to 2^-22 relative: 2^n exp(r) with |r| <= ln(2)
  // / 2. The polynomial is off by 9e-8 (Remez exchange), its evaluation by 8e-8. A NaN need not stay one.
  PYI_HD V exp(V d, V lost) {
    constexpr float kRound = 0x1.8p+23f;  // x + kRound has the integer next to x in its low bits
    const V shifted = d * 0x1.715476p+0f + kRound, n = shifted - kRound;
    const V r = ((d - n * 0x1.63p-1f) + n * 0x1.bd0106p-13f) + lost;  // the first product is exact
    V p = r * 0x1.0fa328p-7f + 0x1.573a2p-5f;
    p = p * r + 0x1.555a7ap-3f;
    p = p * r + 0x1.fffdc6p-2f;
    p = p * r + 0x1.fffff6p-1f;
    p = p * r + 1.0f;
    return from_bits<V>(to_bits(p) + (to_bits(shifted) << 23));
  }
};

template <class V>
struct Term {
  V e, d;  // exp(z - reference), and z - reference, at least kLeast
};

template <bool kExact, class V>
PYI_HD Term<V> term(V z, V reference) {
  const V d = Larger<V>::keeping_nan(V{} + kLeast, z - reference);
  V lost{};
  if (kExact) {
    const V back = d - z;  // d and this give z - reference exactly (Knuth's two-sum);
    // where d was cut off it means nothing, of kNothing not even a number, and e is next to nothing
    lost = Larger<V>::dropping_nan(V{} - 1.0f, (z - (d - back)) - (reference + back));
  }
  return {Lanes<V>::exp(d, lost), d};
}

// A sum of numbers >= 0 that keeps what rounding takes (Kahan): its value is high - low.
template <class V>
struct Sum {
  V high, low;
};

template <class V>
PYI_HD void add(Sum<V>& sum, V x) {
  const V y = x - sum.low;
  const V high = sum.high + y;
  sum.low = (high - sum.high) - y;
  sum.high = high;
}

// What one lane has of a row, relative to a reference: sums of e_k = exp(z_k - reference), of e_k^2, and of
// e_k (reference - z_k), over all classes but the target.
template <class V>
struct Share {
  Sum<V> s, q, a;
};

// Adds N logits, no further above the reference than kSlack; kNothing adds nothing. NaN shows in a.
template <bool kExact, int N, class V>
PYI_HD void add_logits(Share<V>& share, const V (&z)[N], V reference) {
  constexpr int kChains = N < 2 ? N : 2;
  V s[kChains], q[kChains], a[kChains];
  PYI_UNROLL
  for (int i = 0; i < N; ++i) {
    const Term<V> x = term<kExact>(z[i], reference);
    if (i < kChains) {
      s[i] = x.e;
      q[i] = x.e * x.e;
      a[i] = x.e * -x.d;
    } else {
      s[i % kChains] = s[i % kChains] + x.e;
      q[i % kChains] = Lanes<V>::fused(x.e, x.e, q[i % kChains]);
      a[i % kChains] = Lanes<V>::fused(x.e, -x.d, a[i % kChains]);
    }
  }
  PYI_UNROLL
  for (int half = kChains / 2; half > 0; half /= 2) {
    PYI_UNROLL
    for (int i = 0; i < half; ++i) {
      s[i] = s[i] + s[i + half];
      q[i] = q[i] + q[i + half];
      a[i] = a[i] + a[i + half];
    }
  }
  add(share.s, s[0]);
  add(share.q, q[0]);
  add(share.a, a[0]);
}

// The same sums relative to another reference, at least kSlack above the one they had.
template <class V>
PYI_HD void move_reference(Share<V>& share, V from, V to) {
  const Term<V> shift = term<true>(from, to);
  const V s = share.s.high - share.s.low, q = share.q.high - share.q.low, a = share.a.high - share.a.low;
  share.s = {s * shift.e, V{}};
  share.q = {q * shift.e * shift.e, V{}};
  share.a = {(a - shift.d * s) * shift.e, V{}};
}

}  // namespace pyi
