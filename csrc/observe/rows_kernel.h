// The row kernel, compiled once per instruction set: the including file defines PYI_ISA (a namespace) and
// PYI_VECTOR_BYTES, and has set the compiler's target before. It may define macros for what the compiler does
// not make of plain code: the larger of two vectors (the second if one is NaN), whether any lanes are equal,
// square roots, conversions of floats and halves, a table of 16 doubles (rows_vectors.h).
//
// rows_across.h and rows_along.h round differently, so the number of classes alone chooses. There is no test
// for the end of a row or for j inside their loops: what does not count is set to -inf, which adds nothing
// (kFloor).
#include "observe/rows_across.h"
#include "observe/rows_along.h"

namespace pyi {
namespace PYI_ISA {
namespace {

template <class T>
void rows_of(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  (in.logits.width <= kMaxTransposed ? rows_across<T> : rows_along<T>)(in, begin, end, out);
}

}  // namespace

void rows(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  with_type(in.logits.type, [&](auto kind) { rows_of<decltype(kind)>(in, begin, end, out); });
}

}  // namespace PYI_ISA
}  // namespace pyi
