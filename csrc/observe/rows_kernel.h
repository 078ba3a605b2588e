// The row kernel, compiled once per instruction set: the including file defines PYI_ISA (a namespace) and
// PYI_VECTOR_BYTES, and has set the compiler's target before. It may define macros for what the compiler does
// not make of plain code: the larger of two vectors (the second if one is NaN), whether any lane of a mask is
// set, square roots, conversions of floats and halves (rows_vectors.h), tables (rows_powers.h).
//
// rows_across.h and rows_along.h round differently, so the number of classes alone chooses. What does not
// count, the target and what is past the end of a row, is set to -inf, which adds nothing (gist.h).
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
