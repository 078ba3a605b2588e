// Stable argsort of one array by radix: the order of importance of up to billions of scores.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyi::order {

// Positions in an array: int64 where `wide`, else uint32. Null stands for 0, 1, 2 ..
struct ConstPositions {
  const void* data;
  bool wide;
  std::uint64_t operator[](std::size_t i) const {
    if (data == nullptr) return i;
    if (wide) return static_cast<std::uint64_t>(static_cast<const std::int64_t*>(data)[i]);
    return static_cast<const std::uint32_t*>(data)[i];
  }
};
struct Positions {
  void* data;
  bool wide;
  void set(std::size_t i, std::uint64_t position) const {
    if (wide) {
      static_cast<std::int64_t*>(data)[i] = static_cast<std::int64_t>(position);
    } else {
      static_cast<std::uint32_t*>(data)[i] = static_cast<std::uint32_t>(position);
    }
  }
};

struct Sorting {
  bool descending;
  int threads;  // >= 1
  bool wide;    // to test what more than 2^32 - 1 values take
};

// Writes to order[0..n) the positions 0..n-1 of values[0..n) in ascending (or descending) order of value;
// with `carried`, carried[p] for each position p (what is carried is below 2^32 unless n is not, or `wide`).
//
// Guarantees
//   stable      equal values keep ascending positions, in both directions
//   floats      -0.0 equals 0.0; NaN, of any sign and payload, comes last in both directions
//   threads     the result does not depend on their number; small arrays take fewer than asked for
// With `sorted`, writes to sorted[0..n) the values in that order, bit for bit: NaN's payload, the sign of 0.
//
// Cost: linear. Two passes over the values that find and count the bits there are to sort by, one that
// divides
//   all entries into buckets, and what sorting these takes in the caches; only counting and dividing where
//   the largest difference of keys takes at most 11 bits. Entries take 8 bytes a value whatever T is, and lie
//   where `order` is if that is of int64 and there is no `sorted`; beyond 2^32 - 1 values (or with `wide`) 16
//   bytes, in memory of their own. Each thread has room for a bucket, 2 MB or 1/256 of all. Where many values
//   begin with the same bits, and only then, there is room for these a second time.
//
// T: float, double, int32_t, int64_t, uint32_t, uint64_t. n may be 0. None of the arrays may overlap. Throws
// std::bad_alloc where the workspace is not to be had.
//
// Example: {2, NaN, 1, 2} ascending -> {2, 0, 3, 1}; descending -> {0, 3, 2, 1}.
template <class T>
void argsort(const T* values, std::size_t n, const Sorting& how, ConstPositions carried, Positions order,
             T* sorted = nullptr);

}  // namespace pyi::order
