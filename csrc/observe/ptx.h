// Instructions of a device that C++ has no word for. What is written here runs on a device only: the tests,
// which run the kernels on the host, have functions of their own in this file's place, with the same results.
#pragma once

#ifdef __CUDA_ARCH__
#include <cstdint>

namespace pyi::ptx {

// The larger, but NaN if one is. From sm_80 on.
__device__ __forceinline__ float max_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// 2^t to 2^-22 relative; subnormal numbers are zeros.
__device__ __forceinline__ float ex2(float t) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(t));
  return power;
}

// The number whose bits as IEEE binary16 these are.
__device__ __forceinline__ float from_half(std::uint16_t bits) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
  return wide;
}

}  // namespace pyi::ptx
#endif
