// The reduction for x86-64 processors of about 2013 and later.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Only what follows may use these instructions: the standard headers above must not.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // no vector is passed to a function that is not inlined

#define PYI_ISA avx2
#define PYI_VECTOR_BYTES 32
#include "observe/reduce_kernel.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
