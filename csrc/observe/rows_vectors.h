// Vectors of one instruction set, and how logits get into them: a part of the row kernel, whose macros it
// heeds.
#pragma once

#include "observe/gist.h"
#include "observe/narrow.h"

namespace pyi {
namespace PYI_ISA {

constexpr int kLanes = PYI_VECTOR_BYTES / 8;  // doubles in a vector
constexpr int kWide = 2 * kLanes;             // floats in one
typedef double Doubles __attribute__((vector_size(kLanes * 8)));
typedef std::uint64_t Words __attribute__((vector_size(kLanes * 8)));
typedef float Floats __attribute__((vector_size(kLanes * 4)));  // as many as Doubles
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::int64_t SignedWords __attribute__((vector_size(kLanes * 8)));
typedef std::uint16_t Shorts __attribute__((vector_size(kLanes * 2)));
typedef float WideFloats __attribute__((vector_size(kWide * 4)));  // a whole vector of them
typedef std::int32_t WideInts __attribute__((vector_size(kWide * 4)));
typedef std::uint32_t WideWords __attribute__((vector_size(kWide * 4)));
typedef std::uint16_t WideShorts __attribute__((vector_size(kWide * 2)));

}  // namespace PYI_ISA

template <>
struct BitsOf<PYI_ISA::Doubles> {
  using type = PYI_ISA::Words;
};

template <>
struct BitsOf<PYI_ISA::WideFloats> {
  using type = PYI_ISA::WideWords;
};

#ifdef PYI_MAX  // the second if one is NaN
template <>
struct Larger<PYI_ISA::Doubles> {
  using V = PYI_ISA::Doubles;
  PYI_HD V keeping_nan(V least, V x) { return PYI_MAX(least, x); }
  PYI_HD V dropping_nan(V least, V x) { return PYI_MAX(x, least); }
};
template <>
struct Larger<PYI_ISA::WideFloats> {
  using V = PYI_ISA::WideFloats;
  PYI_HD V keeping_nan(V least, V x) { return PYI_MAX_FLOATS(least, x); }
  PYI_HD V dropping_nan(V least, V x) { return PYI_MAX_FLOATS(x, least); }
};
#endif

namespace PYI_ISA {
namespace {

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

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

// One half of a vector.
template <class Half, class V>
PYI_HD Half half_of(V x, int half) {
  Half halves[2];
  __builtin_memcpy(halves, &x, sizeof x);
  return halves[half];
}

PYI_HD Doubles widened(WideFloats x, int half) { return widen(half_of<Floats>(x, half)); }

PYI_HD Doubles square_root(Doubles x) {
#ifdef PYI_SQRT
  return PYI_SQRT(x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

PYI_HD WideFloats larger(WideFloats least, WideFloats x) {
  return Larger<WideFloats>::dropping_nan(least, x);
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

PYI_HD bool any(WideInts mask) {
#ifdef PYI_ANY
  return PYI_ANY(mask);
#else
  std::int32_t any = 0;
  for (int lane = 0; lane < kWide; ++lane) any |= mask[lane];
  return any != 0;
#endif
}

// kNothing where the mask says so.
PYI_HD WideFloats without(WideFloats x, WideInts mask) { return mask ? WideFloats{} + kNothing : x; }

PYI_HD double sum_of_lanes(Doubles v) {
  double total = v[0];
  for (int lane = 1; lane < kLanes; ++lane) total += v[lane];
  return total;
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
