// Logits -> rows: every statistic of a row of logits, while it passes through the first-level cache.
//
// Sums over classes are float with compensation, and keep the bound in gist.h; the rest is double
// (arithmetic.h). A row of the result is a function of its row of logits (and of features) alone: neither its
// place in the batch nor the number of threads changes a bit of it. The instruction set does, within that
// bound.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "observe/matrix.h"
#include "observe/row.h"

namespace pyi {

struct Inputs {
  Matrix logits;           // [n, classes], at least one class
  const Matrix* features;  // [n, any], the input of the last layer; may be null, and grand is then NaN
  const std::int64_t* targets;
  const bool* mask;  // may be null; where false the row becomes kUnseen, and nothing of it is looked at
};

// One per instruction set: the rows [begin, end), to `out`. Targets that are not masked must be in range.
using RowsFunction = void (*)(const Inputs&, std::int64_t begin, std::int64_t end, Row* out);

namespace baseline {
void rows(const Inputs&, std::int64_t, std::int64_t, Row*);
}
namespace avx2 {
void rows(const Inputs&, std::int64_t, std::int64_t, Row*);
}
namespace avx512 {
void rows(const Inputs&, std::int64_t, std::int64_t, Row*);
}

// Names of the instruction sets this processor has, best last; the one in use; another one, for tests (throws
// ArgumentError). PYIMPORTANCE_ISA names one at start.
std::vector<std::string> instruction_sets();
std::string instruction_set();
void use_instruction_set(const std::string& name);

RowsFunction rows_function();
// How many of at most `threads` threads n rows are worth, and how many rows are worth dealing to one of them.
int threads_for_rows(const Inputs&, std::int64_t n, int threads);
std::int64_t least_rows(const Inputs&);

}  // namespace pyi
