// The row kernel for x86-64 processors of about 2013 and later.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Only what follows may use these instructions: the standard headers above must not.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // no vector is passed to a function that is not inlined

#define PYI_ISA avx2
#define PYI_VECTOR_BYTES 32
#define PYI_MAX(a, b) _mm256_max_pd(a, b)
#define PYI_SQRT(x) _mm256_sqrt_pd(x)
#define PYI_MAX_FLOATS(a, b) _mm256_max_ps(a, b)
#define PYI_ANY(mask) (_mm256_movemask_ps((__m256)(mask)) != 0)
#define PYI_HALVES(x) _mm_cvtph_ps(_mm_cvtsi64_si128((long long)(x)))
#define PYI_WIDE_HALVES(x) _mm256_cvtph_ps((__m128i)(x))
#include "observe/rows_kernel.h"

// Uses what the rows' defines.
#include "observe/ensemble_kernel.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
