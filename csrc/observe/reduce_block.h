// The part of a reduction that is compiled once per instruction set: one array over a block of samples.
//
// Nothing here is inline, so that no function with wide instructions can be picked by the linker for
// everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "observe/reduce_arithmetic.h"

namespace pyi {

constexpr std::int64_t kReduceBlock = 512;  // samples whose sums stay in the first-level cache

// One array [E, N] of a history: the numbers of an epoch adjacent, the epochs anywhere. May be missing.
struct Series {
  enum Kind { kMissing, kFloat, kDouble, kByte };  // kByte: bools, none of them unobserved
  const char* data;
  std::ptrdiff_t stride;  // bytes from one epoch to the next
  Kind kind;
};

// What one array leaves behind of a block of samples: the Moments of each, and of all together the rest.
struct BlockSums {
  alignas(64) double first[kReduceBlock];
  alignas(64) double sum[kReduceBlock];
  alignas(64) double squares[kReduceBlock];
  alignas(64) std::int64_t count[kReduceBlock];
  Range<double> range;  // of all numbers
  bool agrees;          // with the others about what was observed
};

// What an array does about `seen`, bytes [E, kReduceBlock] that say what was observed.
enum class Seen { kIgnored, kWritten, kChecked };

// Columns of the samples from the first of a block.
struct EventColumns {
  std::int32_t *count, *correct, *forgotten, *first_learned;
};

struct ReduceFunctions {
  // Sums over the samples [begin, begin + n): of x - first and their squares (`spread`), or of x.
  void (*sums)(const Series&, std::int64_t epochs, std::int64_t begin, std::int64_t n, bool spread, Seen,
               std::uint8_t* seen, BlockSums*);
  // Counts and events of `correct`, each [n]; seen may be null: all are. False where a number is neither 0
  // nor 1, or disagrees about what was observed.
  bool (*events)(const Series&, std::int64_t epochs, std::int64_t begin, std::int64_t n, Seen,
                 std::uint8_t* seen, EventColumns);
};

namespace baseline {
extern const ReduceFunctions reduce_functions;
}
namespace avx2 {
extern const ReduceFunctions reduce_functions;
}
namespace avx512 {
extern const ReduceFunctions reduce_functions;
}

}  // namespace pyi
