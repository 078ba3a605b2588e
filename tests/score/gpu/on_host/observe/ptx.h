// csrc/observe/ptx.h on the host: the results of a device's instructions, as the manual of PTX has them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// A device's powers of two may be off by 2^-22 (ex2.approx); here they are off by so much of that as a test
// says: the same way all of them, or, beyond 1, every argument its own.
extern "C" {
inline float on_host_powers_off = 0;
}

namespace pyi::ptx {

#if __CUDA_ARCH__ >= 800  // a device before has no such instruction
inline float max_nan(float a, float b) { return a != a || b != b ? NAN : std::fmax(a, b); }
#endif

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

inline float ex2(float t) {
  std::uint32_t bits;
  std::memcpy(&bits, &t, sizeof bits);
  const double off = on_host_powers_off > 1 ? ((bits * 2654435761u) >> 31 ? 1.0 : -1.0) : on_host_powers_off;
  return flushed(static_cast<float>(std::exp2(static_cast<double>(flushed(t))) * (1.0 + off * 0x1p-22)));
}

inline float from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float size =
      std::ldexp(static_cast<float>(fraction + (exponent != 0 ? 1024 : 0)), exponent - (exponent != 0) - 24);
  if (exponent == 31) size = fraction != 0 ? NAN : INFINITY;
  return std::copysign(size, bits >> 15 != 0 ? -1.0f : 1.0f);
}

}  // namespace pyi::ptx
