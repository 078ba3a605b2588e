// The reduction of a block of samples, compiled once per instruction set as rows_kernel.h is: the including
// file defines PYI_ISA (a namespace) and PYI_VECTOR_BYTES, has set the compiler's target before, and may
// define PYI_WIDEN, the intrinsic for floats to doubles.
#include "observe/reduce_block.h"
#include "observe/reduce_sums.h"
// It goes on with the types of the other.
#include "observe/reduce_events.h"

namespace pyi {
namespace PYI_ISA {

const ReduceFunctions reduce_functions{sums, events};

}  // namespace PYI_ISA
}  // namespace pyi
