// Lines of the cache, and how one is written past the caches.
#pragma once

#include <cstddef>
#include <cstring>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pyi {

constexpr std::size_t kLine = 64;  // bytes

struct alignas(kLine) Line {
  unsigned char bytes[kLine];
};

// Writes a line past the caches, where the processor can: nobody reads it soon, or not on this processor, and
// what it replaces is not fetched. Others may read it after fence_lines().
inline void stream_line(void* to, const Line& line) {
#if defined(__SSE2__)
  auto* const parts = static_cast<__m128i*>(to);
  for (std::size_t i = 0; i < kLine; i += sizeof(__m128i)) {
    const auto part = _mm_load_si128(reinterpret_cast<const __m128i*>(line.bytes + i));
    _mm_stream_si128(parts + i / sizeof(__m128i), part);
  }
#else
  std::memcpy(to, line.bytes, kLine);
#endif
}

inline void fence_lines() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace pyi
