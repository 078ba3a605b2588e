// The numbers that logits come in, each as the float of equal value (a double, as itself).
#pragma once

#include <cstdint>

#include "observe/arithmetic.h"
#include "observe/ptx.h"

namespace pyi {

struct Half {  // IEEE binary16
  std::uint16_t bits;
};
struct BFloat16 {  // the upper half of a float
  std::uint16_t bits;
};

PYI_HD float float_of_bits(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

PYI_HD double widen(double x) { return x; }
PYI_HD float widen(float x) { return x; }
PYI_HD float widen(BFloat16 x) { return float_of_bits(static_cast<std::uint32_t>(x.bits) << 16); }
PYI_HD float widen(Half x) {
#ifdef __CUDA_ARCH__
  return ptx::from_half(x.bits);
#else
  // Without branches, so that loops become vectors, and without a subnormal step, which a process may flush.
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  const float tiny = (float_of_bits(rest | 0x4b000000u) - 0x1p+23f) * 0x1p-24f;
  const float normal = float_of_bits((rest << 13) + (rest < 0x7c00u ? 112u << 23 : 224u << 23));
  const float size = rest < 0x400u ? tiny : normal;
  return sign != 0 ? -size : size;
#endif
}

}  // namespace pyi
