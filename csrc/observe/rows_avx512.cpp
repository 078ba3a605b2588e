// The row kernel for x86-64 processors with AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Only what follows may use these instructions: the standard headers above must not.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c,prefer-vector-width=512")
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // no vector is passed to a function that is not inlined

#define PYI_ISA avx512
#define PYI_VECTOR_BYTES 64
// With a mask of all ones: GCC 12 warns of uninitialised memory in the plain forms.
#define PYI_MAX(a, b) _mm512_maskz_max_pd(0xff, a, b)
#define PYI_SQRT(x) _mm512_maskz_sqrt_pd(0xff, x)
#define PYI_WIDEN(x) _mm512_maskz_cvtps_pd(0xff, x)
#define PYI_MAX_FLOATS(a, b) _mm512_maskz_max_ps(0xffff, a, b)
#define PYI_ANY(mask) (_mm512_movepi32_mask((__m512i)(mask)) != 0)
#define PYI_HALVES(x) _mm256_cvtph_ps((__m128i)(x))
#define PYI_WIDE_HALVES(x) _mm512_maskz_cvtph_ps(0xffff, (__m256i)(x))
#define PYI_TABLE(low, high, index) _mm512_permutex2var_pd(low, (__m512i)(index), high)
#define PYI_FLOAT_TABLE(low, high, index) _mm512_permutex2var_ps(low, (__m512i)(index), high)
#include "observe/rows_kernel.h"

// Uses what the rows' defines.
#include "observe/ensemble_kernel.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
