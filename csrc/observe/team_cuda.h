// Lanes that share a row, and what they come to together.
#pragma once

#include "launch.h"

namespace pyi::cuda {

constexpr unsigned kAll = 0xffffffffu;  // every lane of a warp

// One of all lanes' x, by a function of two. team: a power of two up to a warp. All lanes of the warp must be
// there.
template <class V, class Join>
__device__ V team_all(V x, int team, const Join& join) {
  for (int distance = team / 2; distance > 0; distance /= 2) x = join(x, __shfl_xor_sync(kAll, x, distance));
  return x;
}

// Of a block, all of which must be there.
template <class V, class Join>
__device__ V block_all(V x, const Join& join) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ V parts[kWarps];
  x = team_all(x, kWarp, join);
  __syncthreads();  // the parts of the call before this one have been read
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  return team_all(parts[threadIdx.x % kWarps], kWarps, join);
}

struct Plus {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a + b;
  }
};

struct Least {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a < b ? a : b;
  }
};

struct Most {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a < b ? b : a;
  }
};

__device__ inline float team_max(float x, int team) {
  for (int distance = team / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, distance));
  return x;
}

template <class V>
__device__ V team_sum(V x, int team) {
  return team_all(x, team, Plus{});
}

}  // namespace pyi::cuda
