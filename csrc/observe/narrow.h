// The numbers that logits come in on a device, each as the float of equal value.
#pragma once

#include <cstdint>

#include "observe/arithmetic.h"

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

PYI_HD float widen(float x) { return x; }
PYI_HD float widen(BFloat16 x) { return float_of_bits(static_cast<std::uint32_t>(x.bits) << 16); }
PYI_HD float widen(Half x) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#else
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // A float of the same digits is 2^112 too small, whether they are normal or not.
  const float scaled = float_of_bits(rest << 13) * 0x1p+112f;
  return sign != 0 ? -scaled : scaled;
#endif
}

}  // namespace pyi
