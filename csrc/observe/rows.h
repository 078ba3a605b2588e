// Logits -> rows: every statistic of a row of logits in one pass over it.
//
// The arithmetic is double throughout (arithmetic.h). A row of the result is a function of its row of logits
// alone: neither its place in the batch nor the number of threads changes a bit of it. The instruction set
// does, within the bounds in arithmetic.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "observe/row.h"

namespace pyi {

struct Logits {
  const float* data;
  std::ptrdiff_t stride;  // floats from one row to the next; the classes of a row are adjacent
  std::int64_t classes;   // at least 1
};

// One per instruction set: out[i] for begin <= i < end. mask may be null; masked rows become kUnseen, and
// their targets are not looked at. Other targets must be in range.
using RowsFunction = void (*)(const Logits&, const std::int64_t* targets, const bool* mask,
                              std::int64_t begin, std::int64_t end, Row* out);

namespace baseline {
void rows(const Logits&, const std::int64_t*, const bool*, std::int64_t, std::int64_t, Row*);
}
namespace avx2 {
void rows(const Logits&, const std::int64_t*, const bool*, std::int64_t, std::int64_t, Row*);
}
namespace avx512 {
void rows(const Logits&, const std::int64_t*, const bool*, std::int64_t, std::int64_t, Row*);
}

// Names of the instruction sets this processor has, best last; the one in use; another one, for tests (throws
// ArgumentError). PYIMPORTANCE_ISA names one at start.
std::vector<std::string> instruction_sets();
std::string instruction_set();
void use_instruction_set(const std::string& name);

void compute_rows(const Logits&, const std::int64_t* targets, const bool* mask, std::int64_t n, Row* out,
                  int threads);

}  // namespace pyi
