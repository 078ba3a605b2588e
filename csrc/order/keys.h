// Unsigned keys whose order is the order of the values: what a radix sort can compare digit by digit.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#define PYI_KEY static __host__ __device__ __forceinline__
#else
#define PYI_KEY static inline
#endif

namespace pyi::order {

template <class T>
using KeyOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
PYI_KEY bool is_nan(T value) {
  return value != value;  // no integer is
}

// Ascending: a < b  <=>  key(a) < key(b). Descending: the complement. NaN has the largest key in both; no
// number has it: it would be the key of a NaN with all bits set, or (descending) with only the sign clear.
template <class T>
PYI_KEY KeyOf<T> key_of(T value, bool descending) {
  using Key = KeyOf<T>;
  constexpr Key sign = Key{1} << (sizeof(Key) * 8 - 1);
  if (is_nan(value)) return static_cast<Key>(~Key{0});
  if constexpr (std::is_floating_point_v<T>) value += T{0};  // -0.0 becomes 0.0
  Key key;
  std::memcpy(&key, &value, sizeof key);
  if constexpr (std::is_floating_point_v<T>) {
    key = (key & sign) ? static_cast<Key>(~key) : key | sign;  // negative: larger magnitude first
  } else if constexpr (std::is_signed_v<T>) {
    key ^= sign;
  }
  return descending ? static_cast<Key>(~key) : key;
}

// The value of a key, but for the sign of a zero and what NaN it was.
template <class T>
PYI_KEY T value_of(KeyOf<T> key, bool descending) {
  using Key = KeyOf<T>;
  constexpr Key sign = Key{1} << (sizeof(Key) * 8 - 1);
  if (descending) key = static_cast<Key>(~key);
  if constexpr (std::is_floating_point_v<T>) {
    key = (key & sign) ? key ^ sign : static_cast<Key>(~key);
  } else if constexpr (std::is_signed_v<T>) {
    key ^= sign;
  }
  T value;
  std::memcpy(&value, &key, sizeof value);
  return value;
}

}  // namespace pyi::order
