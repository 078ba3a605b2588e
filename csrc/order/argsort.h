// Stable argsort of one array by radix: the order of importance of up to billions of scores.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyi::order {

// Writes to order[0..n) the positions 0..n-1 of values[0..n) in ascending (or descending) order of value.
//
// Guarantees
//   stable      equal values keep ascending positions, in both directions
//   floats      -0.0 equals 0.0; NaN, of any sign and payload, comes last in both directions
//   threads     the result does not depend on their number; small arrays take fewer than asked for
// Cost, with 32-bit values: at most 4 passes over n entries of 8 bytes; a pass whose digit is the same in all
//   values is left out. Workspace beyond `order`: 8 n bytes, which is one buffer of entries; the other is
//   `order` itself. With 64-bit values: at most 8 passes over entries of 16 bytes, workspace 32 n bytes.
//   Above 2^32 - 1 values (or with `wide`, which is there to test that case), entries take 16 bytes always.
//   None at all where at most one digit varies.
//
// T: float, double, int32_t, int64_t, uint32_t, uint64_t. n may be 0; threads >= 1. `values` and `order` must
// not overlap. Throws std::bad_alloc where the workspace is not to be had.
//
// Example: {2, NaN, 1, 2} ascending -> {2, 0, 3, 1}; descending -> {0, 3, 2, 1}.
template <class T>
void argsort(const T* values, std::size_t n, bool descending, int threads, bool wide, std::int64_t* order);

}  // namespace pyi::order
