// Unsigned keys whose order is the order of the values: what a radix sort can compare digit by digit.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace pyi::order {

template <class T>
using KeyOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
constexpr bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) return value != value;
  return false;
}

// Ascending: a < b  <=>  key(a) < key(b). Descending: the complement. NaN has the largest key in both; no
// number has it: it would be the key of a NaN with all bits set, or (descending) with only the sign clear.
template <class T>
inline KeyOf<T> key_of(T value, bool descending) {
  using Key = KeyOf<T>;
  constexpr Key sign = Key{1} << (sizeof(Key) * 8 - 1);
  Key key;
  if constexpr (std::is_floating_point_v<T>) {
    if (is_nan(value)) return std::numeric_limits<Key>::max();
    value += T{0};  // -0.0 becomes 0.0
    std::memcpy(&key, &value, sizeof key);
    key = (key & sign) ? ~key : key | sign;  // negative: larger magnitude first
  } else {
    key = static_cast<Key>(value);
    if constexpr (std::is_signed_v<T>) key ^= sign;
  }
  return descending ? ~key : key;
}

}  // namespace pyi::order
