// A history on a CUDA device -> columns on it, in one pass, as reduce.h; on the stream, as rows_cuda.h.
#pragma once

#include "observe/reduce.h"
#include "observe/rows_cuda.h"

namespace pyi::cuda {

// All pointers are to device memory. Series must be floats or doubles, but for `correct` all of one kind.
// *wrong is set to 1 where reduce.h says False; it is not cleared.
cudaError_t reduce(const Columns&, const History&, double most_el2n, std::int32_t* wrong, cudaStream_t);

}  // namespace pyi::cuda
