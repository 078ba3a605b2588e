#include "tar/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace pyi::tar {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41, bits reversed
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Slicing by 8 (Kounavis & Berry 2005): table k advances a byte by k more bytes.
Tables make_tables() {
  Tables t{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    t[0][i] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t i = 0; i < 256; ++i) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xFF];
  return t;
}

#if defined(__x86_64__)
#if defined(__clang__)
#define PYI_SSE42 "sse4.2,crc32"  // for which SSE 4.2 does not include it
#else
#define PYI_SSE42 "sse4.2"
#endif
// The instruction's answer takes three cycles, and a new one can begin in each: three stretches of the data
// are summed side by side. kStretch is theirs.
constexpr std::size_t kStretch = 4096;

// A register after kStretch bytes of zeros, by its own four bytes: what puts the stretches' sums together.
using Shift = std::array<std::array<std::uint32_t, 256>, 4>;

Shift make_shift() {
  const Tables t = make_tables();
  Shift shift{};
  for (std::size_t byte = 0; byte < 4; ++byte)
    for (std::uint32_t bit = 1; bit < 256; bit *= 2) {
      std::uint32_t c = bit << (8 * byte);
      for (std::size_t i = 0; i < kStretch; ++i) c = (c >> 8) ^ t[0][c & 0xFF];
      for (std::uint32_t i = 0; i < bit; ++i) shift[byte][bit + i] = shift[byte][i] ^ c;  // it is linear
    }
  return shift;
}

__attribute__((target(PYI_SSE42))) std::uint32_t crc32c_sse42(std::uint32_t crc, const void* data,
                                                              std::size_t n) {
  static const Shift shift = make_shift();
  const auto shifted = [](std::uint64_t c) {
    return shift[0][c & 0xFF] ^ shift[1][(c >> 8) & 0xFF] ^ shift[2][(c >> 16) & 0xFF] ^ shift[3][c >> 24];
  };
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint64_t c = static_cast<std::uint32_t>(~crc);
  for (; n >= 3 * kStretch; n -= 3 * kStretch, p += 3 * kStretch) {
    std::uint64_t second = 0, third = 0;
    for (std::size_t i = 0; i < kStretch; i += 8) {
      std::uint64_t words[3];
      for (std::size_t k = 0; k < 3; ++k) std::memcpy(&words[k], p + k * kStretch + i, 8);
      c = _mm_crc32_u64(c, words[0]);
      second = _mm_crc32_u64(second, words[1]);
      third = _mm_crc32_u64(third, words[2]);
    }
    c = shifted(shifted(c) ^ second) ^ third;
  }
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    c = _mm_crc32_u64(c, word);
  }
  auto c32 = static_cast<std::uint32_t>(c);
  for (; n > 0; --n, ++p) c32 = _mm_crc32_u8(c32, *p);
  return ~c32;
}
#endif

}  // namespace

std::uint32_t crc32c_table(std::uint32_t crc, const void* data, std::size_t n) {
  static const Tables t = make_tables();
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint32_t c = ~crc;
  for (; n >= 8; n -= 8, p += 8) {
    const std::uint32_t low = c ^ (p[0] | p[1] << 8 | p[2] << 16 | static_cast<std::uint32_t>(p[3]) << 24);
    c = t[7][low & 0xFF] ^ t[6][(low >> 8) & 0xFF] ^ t[5][(low >> 16) & 0xFF] ^ t[4][low >> 24] ^ t[3][p[4]] ^
        t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]];
  }
  for (; n > 0; --n, ++p) c = (c >> 8) ^ t[0][(c ^ *p) & 0xFF];
  return ~c;
}

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t n) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return crc32c_sse42(crc, data, n);
#endif
  return crc32c_table(crc, data, n);
}

}  // namespace pyi::tar
