// A warp a row, in two passes over it: the largest logit, its first place and the largest of the others; then
// the sums over all classes but that one. The second pass finds the row in a cache.
#include <algorithm>

#include "observe/arithmetic.h"
#include "observe/rows_cuda.h"

namespace pyi::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kRowsPerBlock = 8;
constexpr std::int64_t kMaxBlocks = 1 << 16;  // more rows than these hold go round again
constexpr unsigned kAll = 0xffffffffu;

struct Top {
  float first, second;
  int place;
};

// As in one pass from left to right: of equal logits the first place stands, and the other is second.
__device__ Top joined(Top a, Top b) {
  const bool b_wins = b.first > a.first || (b.first == a.first && b.place < a.place);
  const Top winner = b_wins ? b : a, loser = b_wins ? a : b;
  return {winner.first, fmaxf(winner.second, loser.first), winner.place};
}

__device__ Top top_of(const float* z, int classes, int lane) {
  Top top{-INFINITY, -INFINITY, INT32_MAX};
  for (int k = lane; k < classes; k += kWarp) top = joined(top, {z[k], -INFINITY, k});
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Top other{__shfl_xor_sync(kAll, top.first, distance), __shfl_xor_sync(kAll, top.second, distance),
                    __shfl_xor_sync(kAll, top.place, distance)};
    top = joined(top, other);
  }
  return top;
}

__device__ Sums<double> sums_of(const float* z, int classes, Top top, int lane) {
  Sums<double> sums{};
  for (int k = lane; k < classes; k += kWarp) {
    if (k != top.place) add_class<double>(sums, z[k], top.first);
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    sums.s += __shfl_xor_sync(kAll, sums.s, distance);
    sums.q += __shfl_xor_sync(kAll, sums.q, distance);
    sums.a += __shfl_xor_sync(kAll, sums.a, distance);
  }
  return sums;
}

__device__ Row finished(float target, Top top, const Sums<double>& sums, bool right) {
  const Statistics<double> row = finish<double>(target, top.first, top.second, sums, right);
  // A NaN logit loses every comparison and shows in the entropy; with nothing but NaN or -inf top is -inf.
  if (!isfinite(top.first) || !isfinite(row.loss) || !isfinite(row.entropy))
    return {0, 0, 0, 0, kNonFinite, 0};
  return {row.loss,
          row.margin,
          static_cast<float>(sqrt(row.el2n_squared)),
          static_cast<float>(row.entropy),
          right ? kCorrect : kWrong,
          NAN};
}

__global__ void rows_kernel(Logits logits, const std::int64_t* targets, std::int64_t n, Row* out) {
  const int lane = threadIdx.x % kWarp, classes = static_cast<int>(logits.classes);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kRowsPerBlock) + threadIdx.x / kWarp; i < n;
       i += step) {
    const float* z = logits.data + i * logits.stride;
    const std::int64_t target = targets[i];
    if (target < 0 || target >= classes) {  // the same for all lanes of the warp
      if (lane == 0) out[i] = {0, 0, 0, 0, kNonFinite, 0};
      continue;
    }
    const Top top = top_of(z, classes, lane);
    const Sums<double> sums = sums_of(z, classes, top, lane);
    if (lane == 0) out[i] = finished(z[target], top, sums, target == top.place);
  }
}

}  // namespace

cudaError_t compute_rows(const Logits& logits, const std::int64_t* targets, std::int64_t n, Row* out,
                         cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  const std::int64_t blocks = std::min((n + kRowsPerBlock - 1) / kRowsPerBlock, kMaxBlocks);
  rows_kernel<<<static_cast<unsigned>(blocks), kWarp * kRowsPerBlock, 0, stream>>>(logits, targets, n, out);
  return cudaGetLastError();
}

}  // namespace pyi::cuda
