// Lanes that share a row, and what they come to together.
#pragma once

#include "launch.h"

namespace pyi::cuda {

constexpr unsigned kAll = 0xffffffffu;  // every lane of a warp

__device__ inline float team_max(float x, int team) {
  for (int distance = team / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, distance));
  return x;
}

// team: a power of two up to a warp. All lanes of the warp must be there.
template <class V>
__device__ V team_sum(V x, int team) {
  for (int distance = team / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kAll, x, distance);
  return x;
}

// Of a block, which all of must be there.
template <class V>
__device__ V block_sum(V x) {
  __shared__ V parts[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp;
  x = team_sum(x, kWarp);
  __syncthreads();  // the parts of the sum before this one have been read
  if (lane == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  return team_sum(lane < kThreads / kWarp ? parts[lane] : V{}, kWarp);
}

}  // namespace pyi::cuda
