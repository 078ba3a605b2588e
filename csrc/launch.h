// Starting a kernel on a caller's stream.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pyi::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of every block

// Enqueues `blocks` blocks, none if there are none, and returns the status of that: they are a grid's first
// axis, of at most 2^31 - 1. Every argument is
// converted to what the kernel takes.
template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(Wanted...), std::int64_t blocks, cudaStream_t stream, Given... given) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, given...);
}

// Blocks for one thread an item.
constexpr std::int64_t blocks_for(std::int64_t items) { return (items + kThreads - 1) / kThreads; }

}  // namespace pyi::cuda
