// Vectors of one instruction set, and how logits get into them: a part of the row kernel, whose macros it
// heeds.
#pragma once

#include "observe/arithmetic.h"
#include "observe/narrow.h"

namespace pyi {
namespace PYI_ISA {

constexpr int kLanes = PYI_VECTOR_BYTES / 8;  // doubles in a vector
constexpr int kWide = 2 * kLanes;             // floats in one
typedef double Doubles __attribute__((vector_size(kLanes * 8)));
typedef std::uint64_t Words __attribute__((vector_size(kLanes * 8)));
typedef float Floats __attribute__((vector_size(kLanes * 4)));  // as many as Doubles
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t Shorts __attribute__((vector_size(kLanes * 2)));
typedef float WideFloats __attribute__((vector_size(kWide * 4)));  // a whole vector of them
typedef std::int32_t WideInts __attribute__((vector_size(kWide * 4)));
typedef std::uint16_t WideShorts __attribute__((vector_size(kWide * 2)));

}  // namespace PYI_ISA

template <>
struct BitsOf<PYI_ISA::Doubles> {
  using type = PYI_ISA::Words;
};

#ifdef PYI_MAX
template <>
struct Larger<PYI_ISA::Doubles> {
  PYI_HD PYI_ISA::Doubles of(PYI_ISA::Doubles a, PYI_ISA::Doubles b) { return PYI_MAX(a, b); }
};
#endif

#ifdef PYI_TABLE
// 2^(n + i/16 + f) = 2^n 2^(i/16) (1 + f Q(f)), Q of degree 3 and off by 2.6e-12 (Remez exchange) for |f| <=
// 1/32. n and i lie side by side in shifted's low bits, and what i would add to the exponent is taken off the
// table.
template <>
struct Power<PYI_ISA::Doubles> {
  static constexpr double kRound = 0x1.8p+48;
  PYI_HD PYI_ISA::Doubles of(PYI_ISA::Doubles shifted, PYI_ISA::Doubles f) {
    using namespace PYI_ISA;
    constexpr Doubles low{0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0,
                          0x1.2387a6e756238p+0, 0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0,
                          0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0};
    constexpr Doubles high{0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0,
                           0x1.9c49182a3f090p+0, 0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0,
                           0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
    constexpr Words eighth{0, 1, 2, 3, 4, 5, 6, 7};
    const Words bits = to_bits(shifted);
    const Words entry =
        to_bits<Doubles>(PYI_TABLE(from_bits<Doubles>(to_bits(low) - (eighth << 48)),
                                   from_bits<Doubles>(to_bits(high) - ((eighth + 8) << 48)), bits));
    const Doubles power = from_bits<Doubles>(entry + (bits << 48));
    Doubles q = f * 0x1.3b2f7b5451112p-7 + 0x1.c6b3fda1ef28cp-5;
    q = q * f + 0x1.ebfbdff02b7e9p-3;
    q = q * f + 0x1.62e42fec2d02cp-1;
    return power + (power * f) * q;
  }
};
#endif

namespace PYI_ISA {
namespace {

constexpr float kNone = -__builtin_inff();

template <class V>
PYI_HD V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

PYI_HD Doubles widen(Floats x) {
#ifdef PYI_WIDEN
  return PYI_WIDEN(x);
#else
  return __builtin_convertvector(x, Doubles);
#endif
}

PYI_HD Doubles square_root(Doubles x) {
#ifdef PYI_SQRT
  return PYI_SQRT(x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

// b where one is NaN, as the instructions have it.
PYI_HD WideFloats larger(WideFloats a, WideFloats b) {
#ifdef PYI_MAX_FLOATS
  return PYI_MAX_FLOATS(a, b);
#else
  return a > b ? a : b;
#endif
}

template <int kHalf>
PYI_HD float largest_of(float* lanes) {
  for (int lane = 0; lane < kHalf; ++lane) {
    lanes[lane] = lanes[lane] > lanes[lane + kHalf] ? lanes[lane] : lanes[lane + kHalf];
  }
  if constexpr (kHalf > 1) return largest_of<kHalf / 2>(lanes);
  return lanes[0];
}

PYI_HD float largest_lane(WideFloats x) {
  float lanes[kWide];
  __builtin_memcpy(lanes, &x, sizeof lanes);
  return largest_of<kLanes>(lanes);
}

PYI_HD bool any_equal(WideFloats a, WideFloats b) {
#ifdef PYI_ANY_EQUAL
  return PYI_ANY_EQUAL(a, b);
#else
  const WideInts equal = a == b;
  std::int32_t any = 0;
  for (int lane = 0; lane < kWide; ++lane) any |= equal[lane];
  return any != 0;
#endif
}

// A vector's worth of narrow.h.
template <class F, class I, class S>
PYI_HD F from_halves(S halves) {
  const I bits = __builtin_convertvector(halves, I), rest = bits & 0x7fff, small = rest | 0x4b000000;
  const F tiny = (load<F>(&small) - 0x1p+23f) * 0x1p-24f;
  const I normal = (rest << 13) + (rest < 0x7c00 ? I{} + (112 << 23) : I{} + (224 << 23));
  const I size = rest < 0x400 ? load<I>(&tiny) : normal;
  const I whole = size | ((bits & 0x8000) << 16);
  return load<F>(&whole);
}

template <class F, class I, class S>
PYI_HD F from_bfloats(S bfloats) {
  const I bits = __builtin_convertvector(bfloats, I) << 16;
  return load<F>(&bits);
}

// The largest logit, its first place, and the largest of the others, per lane.
template <class F, class I>
struct Top {
  F first, second;
  I place;
};

template <class F, class I>
PYI_HD void meet(Top<F, I>& top, F z, I place) {
  const F lesser = z < top.first ? z : top.first;
  top.second = lesser > top.second ? lesser : top.second;
  top.place = z > top.first ? place : top.place;
  top.first = z > top.first ? z : top.first;
}

template <class T>
struct Stored;

template <>
struct Stored<float> {
  using Few = Floats;
  using Many = WideFloats;
  PYI_HD float bits(float x) { return x; }
  PYI_HD Floats few(Few x) { return x; }
  PYI_HD WideFloats many(Many x) { return x; }
};

template <>
struct Stored<Half> {
  using Few = Shorts;
  using Many = WideShorts;
  PYI_HD std::uint16_t bits(Half x) { return x.bits; }
#ifdef PYI_HALVES
  PYI_HD Floats few(Few x) { return PYI_HALVES(x); }
  PYI_HD WideFloats many(Many x) { return PYI_WIDE_HALVES(x); }
#else
  PYI_HD Floats few(Few x) { return from_halves<Floats, Ints>(x); }
  PYI_HD WideFloats many(Many x) { return from_halves<WideFloats, WideInts>(x); }
#endif
};

template <>
struct Stored<BFloat16> {
  using Few = Shorts;
  using Many = WideShorts;
  PYI_HD std::uint16_t bits(BFloat16 x) { return x.bits; }
  PYI_HD Floats few(Few x) { return from_bfloats<Floats, Ints>(x); }
  PYI_HD WideFloats many(Many x) { return from_bfloats<WideFloats, WideInts>(x); }
};

// kLanes and kWide of them as floats.
template <class T>
PYI_HD Floats few_at(const T* from) {
  return Stored<T>::few(load<typename Stored<T>::Few>(from));
}

template <class T>
PYI_HD WideFloats many_at(const T* from) {
  return Stored<T>::many(load<typename Stored<T>::Many>(from));
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
