// Powers of two where an instruction set has tables: a part of the row kernel, and of the ensemble's.
#pragma once

#include "observe/rows_vectors.h"

namespace pyi {

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

#ifdef PYI_FLOAT_TABLE
// exp(d) likewise: 2^(n + i/32) (1 + r (c + r / 2)) for |r| <= ln(2) / 64, where the polynomial is off
// by 5.4e-8, the power of two by 6e-8 and its product with the other by 6e-8; ln(2) makes 3e-9 for each unit
// of d.
template <>
struct Lanes<PYI_ISA::WideFloats> {
  using V = PYI_ISA::WideFloats;

  PYI_HD V fused(V a, V b, V c) { return a * b + c; }

  PYI_HD V exp(V d, V lost) {
    using namespace PYI_ISA;
    constexpr float kRound = 0x1.8p+18f;
    constexpr V low{0x1.000000p+0f, 0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f,
                    0x1.172b84p+0f, 0x1.1d4874p+0f, 0x1.2387a6p+0f, 0x1.29e9e0p+0f,
                    0x1.306fe0p+0f, 0x1.371a74p+0f, 0x1.3dea64p+0f, 0x1.44e086p+0f,
                    0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f, 0x1.6247ecp+0f};
    constexpr V high{0x1.6a09e6p+0f, 0x1.71f75ep+0f, 0x1.7a1148p+0f, 0x1.82589ap+0f,
                     0x1.8ace54p+0f, 0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f,
                     0x1.ae89fap+0f, 0x1.b7f770p+0f, 0x1.c199bep+0f, 0x1.cb720ep+0f,
                     0x1.d5818ep+0f, 0x1.dfc974p+0f, 0x1.ea4afap+0f, 0x1.f50766p+0f};
    constexpr WideWords place{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const V shifted = d * 0x1.715476p+0f + kRound, n = shifted - kRound;
    const V r = (d - n * 0x1.62e43p-1f) + lost;
    const WideWords bits = to_bits(shifted);
    const V entry = PYI_FLOAT_TABLE(from_bits<V>(to_bits(low) - (place << 18)),
                                    from_bits<V>(to_bits(high) - ((place + 16) << 18)), bits);
    const V power = from_bits<V>(to_bits(entry) + (bits << 18));
    return power + (power * r) * (r * 0.5f + 0x1.0000f6p+0f);
  }
};
#endif

}  // namespace pyi
