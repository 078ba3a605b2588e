// The arithmetic of an observation, written once for a double and for a vector of doubles, host and device.
//
// Templates over V: double, or a GCC vector of doubles for which Bits<V> names the vector of unsigned 64-bit
// integers. Included by one translation unit per instruction set, so everything here is static, and nothing
// here calls into the standard library (an inline function of which could be emitted with wide instructions
// and then be picked by the linker for everybody).
//
// Symbols: z logits, y target; s = sum_{k != y} e_k, q = sum_{k != y} e_k^2, a = sum_{k != y} e_k (r - z_k),
//   where e_k = exp(z_k - r), r the reference.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PYI_INLINE __host__ __device__ __forceinline__
#else
#define PYI_INLINE inline __attribute__((always_inline))
#endif
#define PYI_HD static PYI_INLINE

namespace pyi {

template <class V>
struct BitsOf;
template <>
struct BitsOf<double> {
  using type = std::uint64_t;
};
template <>
struct BitsOf<float> {
  using type = std::uint32_t;
};
template <class V>
using Bits = typename BitsOf<V>::type;

// The larger of x and of least, a number. A NaN x, which tells of a logit that is one, is kept, or least
// taken for it: instructions do either, so each use says which. Specialised where one instruction does it and
// the compiler does not see so.
template <class V>
struct Larger {
  PYI_HD V keeping_nan(V least, V x) { return least > x ? least : x; }
  PYI_HD V dropping_nan(V least, V x) { return x > least ? x : least; }
};

template <class V>
PYI_HD Bits<V> to_bits(V x) {
  Bits<V> b;
  __builtin_memcpy(&b, &x, sizeof b);
  return b;
}

template <class V>
PYI_HD V from_bits(Bits<V> b) {
  V x;
  __builtin_memcpy(&x, &b, sizeof x);
  return x;
}

// Exponents below this count as this (e^-300 = 5e-131, nothing in any result): -inf needs no test of its own,
// and neither e_k nor e_k^2 is ever subnormal, which some processors compute slowly.
constexpr double kFloor = -300.0;

// A NaN stays one.
template <class V>
PYI_HD V at_least_floor(V d) {
  return Larger<V>::keeping_nan(V{} + kFloor, d);
}

constexpr double kLog2E = 0x1.71547652b82fep+0;

// 2^f - 1 for |f| <= 1/2: f Q(f), where Q is the degree 7 polynomial of least relative error for (2^f - 1) /
// f, 4.5e-12; 2e-12 for 2^f (Remez exchange).
template <class V>
PYI_HD V power_less_one(V f) {
  V q = f * 0x1.62c0127068f64p-20 + 0x1.00c080f804e26p-16;
  q = q * f + 0x1.43099b4cdbd3cp-13;
  q = q * f + 0x1.5d87762dfb04dp-10;
  q = q * f + 0x1.3b2ab6a0e1da6p-7;
  q = q * f + 0x1.c6b08da69c988p-5;
  q = q * f + 0x1.ebfbdff85f48cp-3;
  q = q * f + 0x1.62e42fef9cdf7p-1;
  return f * q;
}

// 2^(n + f), n a multiple of the last digit of kRound that was added to it: x + kRound has the n next to x in
// its low bits. Specialised where a vector has faster means, with n that lie closer.
template <class V>
struct Power {
  static constexpr double kRound = 0x1.8p+52;
  PYI_HD V of(V shifted, V f) {
    return from_bits<V>(to_bits(1.0 + power_less_one(f)) + (to_bits(shifted) << 52));
  }
};

// exp(d) for kFloor <= d < 5, relative error below 3e-12; exactly 1 at 0. d log2(e), in one rounding, makes
// 1e-13 of it.
template <class V>
PYI_HD V exp_negative(V d) {
  const V t = d * kLog2E, shifted = t + Power<V>::kRound;
  return Power<V>::of(shifted, t - (shifted - Power<V>::kRound));
}

// p = exp(-loss) and q = 1 - p, each to a relative error below 1e-11, however close to 0 or 1.
template <class V>
struct Probability {
  V p, q;
};

template <class V>
PYI_HD Probability<V> probability(V loss) {
  constexpr double kInteger = 0x1.8p+52;  // x + kInteger has the integer next to x in its low bits
  const V t = at_least_floor(-loss) * kLog2E, shifted = t + kInteger;
  const V r = power_less_one(t - (shifted - kInteger));
  const V scale = from_bits<V>((to_bits(shifted) << 52) + to_bits(V{} + 1.0));
  return {scale * r + scale, -(scale * r + (scale - 1.0))};
}

// log(1 + g) for 1 + g in [sqrt(1/2), sqrt(2)): 2 artanh(g / (2 + g)) by its series, whose argument is at
// most 0.172.
template <class V>
PYI_HD V log1p_series(V g) {
  const V x = g / (g + 2.0);
  const V x2 = x * x;
  V series = x2 * (1.0 / 15) + (1.0 / 13);
  series = series * x2 + (1.0 / 11);
  series = series * x2 + (1.0 / 9);
  series = series * x2 + (1.0 / 7);
  series = series * x2 + (1.0 / 5);
  series = series * x2 + (1.0 / 3);
  return (x + x) * (series * x2 + 1.0);
}

// x = 2^k m with m in [sqrt(1/2), sqrt(2)).
template <class V>
struct Scaled {
  V k, m;
};

template <class V>
PYI_HD Scaled<V> scaled(V x) {
  constexpr std::uint64_t one = 0x3ff0000000000000, root_half = 0x3fe6a09e667f3bcd,
                          two52 = 0x4330000000000000;
  const Bits<V> u = to_bits(x);
  const Bits<V> biased = (u + (one - root_half)) >> 52;
  return {from_bits<V>(biased | two52) - (0x1p+52 + 1023.0), from_bits<V>(u - ((biased - 1023) << 52))};
}

constexpr double kLn2 = 0x1.62e42fefa39efp-1;

// log(x) for normal x > 0, relative error below 1e-13, also next to 1: given x - 1, which may have more
// digits. Finite at 0, so that 0 log 0 is 0.
template <class V>
PYI_HD V log_of(V x, V less_one) {
  const Scaled<V> parts = scaled(x);
  return parts.k * kLn2 + log1p_series(parts.k == 0.0 ? less_one : parts.m - 1.0);
}

template <class V>
PYI_HD V log_positive(V x) {
  return log_of(x, x - 1.0);
}

template <class V>
PYI_HD V log1p_positive(V s) {
  return log_of(1.0 + s, s);
}

template <class V>
struct Sums {
  V s, q, a;
};

template <class V>
struct Statistics {
  V loss, margin, el2n_squared, entropy;
};

// target is z_y, top the largest other logit, right whether y is the (first) argmax; the sums are relative to
// a reference that is not far from top. Sums that are infinite or NaN yield such a loss or entropy. An
// entropy is not negative, though what rounding leaves of one that is next to 0 might be.
template <class V, class Mask>
PYI_HD Statistics<V> finish(V target, V top, V reference, Sums<V> sums, Mask right) {
  const V one = V{} + 1.0, over = target - reference;
  const V e = exp_negative(at_least_floor(right ? -over : over));
  // From here on relative to the target, if that is the largest, and else to the reference as before.
  const V f = right ? e : one, e_y = right ? one : e;
  const V s = sums.s * f, a = right ? (sums.a + over * sums.s) * f : sums.a - over * e;
  const V total = s + e_y, part = 1.0 / total;
  const V log_total = log_of(total, right ? s : total - 1.0);
  return {right ? log_total : log_total - over, target - top, (s * s + sums.q * (f * f)) * (part * part),
          Larger<V>::keeping_nan(V{}, log_total + a * part)};
}

}  // namespace pyi
