// Logits -> rows on a CUDA device: the contract of rows.h, with the same arithmetic (arithmetic.h).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "observe/row.h"

namespace pyi::cuda {

struct Logits {
  const float* data;      // device
  std::ptrdiff_t stride;  // floats from one row to the next; the classes of a row are adjacent
  std::int64_t classes;   // 1 .. 2^31 - 1
};

// out[i] for 0 <= i < n, all on the device, enqueued on `stream` without waiting for it. A target outside
// 0 .. classes - 1 gives a row of kNonFinite, and nothing is read for it. Returns the status of the launch.
cudaError_t compute_rows(const Logits& logits, const std::int64_t* targets, std::int64_t n, Row* out,
                         cudaStream_t stream);

}  // namespace pyi::cuda
