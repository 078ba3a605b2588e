// argsort of what lies on a device, by CUB's radix sort: the order of order/argsort.h, bit for bit.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace pyi::cuda {

// Bytes of workspace that n values of T take: two arrays of positions, of 4 bytes up to 2^32 - 1 values and
// of 8 beyond, one of keys where these are 64-bit, and what CUB asks for. Asks the current device, enqueues
// nothing.
template <class T>
cudaError_t argsort_workspace(std::size_t n, std::size_t* nbytes);

// Enqueues what writes to order[0..n) the positions of values[0..n), and waits for nothing: it may be
// captured in a graph. All memory is the device's, `workspace` aligned to 256 bytes and `order` to 8 n bytes
// of its own; none of it overlaps. T as for pyi::order::argsort; n may be 0.
template <class T>
cudaError_t argsort(const T* values, std::size_t n, bool descending, void* workspace, std::int64_t* order,
                    cudaStream_t stream);

}  // namespace pyi::cuda
