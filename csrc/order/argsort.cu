// Two kernels around CUB's: values to order-preserving keys and their positions, and positions to int64. The
// keys lie in `order` while it is not needed for more: both arrays of 32-bit ones, one of the 64-bit ones.
#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "launch.h"
#include "order/argsort_cuda.h"
#include "order/keys.h"

namespace pyi::cuda {
namespace {

template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    make_entries(const T* values, std::size_t n, bool descending, order::KeyOf<T>* keys, Index* positions) {
  const std::size_t i = blockIdx.x * static_cast<std::size_t>(kThreads) + threadIdx.x;
  if (i >= n) return;
  keys[i] = order::key_of(values[i], descending);
  positions[i] = static_cast<Index>(i);
}

template <class Index>
__global__ void __launch_bounds__(kThreads)
    write_order(const Index* positions, std::size_t n, std::int64_t* order) {
  const std::size_t i = blockIdx.x * static_cast<std::size_t>(kThreads) + threadIdx.x;
  if (i < n) order[i] = static_cast<std::int64_t>(positions[i]);
}

constexpr std::size_t kAligned = 256;
constexpr std::size_t padded(std::size_t nbytes) { return (nbytes + kAligned - 1) / kAligned * kAligned; }

// Where everything lies; with null pointers, how much of it there is.
template <class T, class Index>
struct Layout {
  using Key = order::KeyOf<T>;

  Layout(std::size_t n, void* workspace, std::int64_t* order) {
    auto* at = reinterpret_cast<char*>(padded(reinterpret_cast<std::uintptr_t>(workspace)));
    const auto take = [&](std::size_t length) {
      char* const from = at;
      if (at != nullptr) at += padded(length);
      nbytes += padded(length);
      return from;
    };
    auto* const key = reinterpret_cast<Key*>(order);
    if (sizeof(Key) == 4) {
      keys = {key, key == nullptr ? nullptr : key + n};
    } else {
      keys = {key, reinterpret_cast<Key*>(take(n * sizeof(Key)))};
    }
    auto* const near = reinterpret_cast<Index*>(take(n * sizeof(Index)));
    positions = {near, reinterpret_cast<Index*>(take(n * sizeof(Index)))};
    rest = at;
  }
  // With null `temporary`, only says how much CUB needs.
  cudaError_t sort(void* temporary, std::size_t& length, std::size_t n, cudaStream_t stream) {
    return cub::DeviceRadixSort::SortPairs(temporary, length, keys, positions, static_cast<std::int64_t>(n),
                                           0, static_cast<int>(sizeof(Key)) * 8, stream);
  }

  cub::DoubleBuffer<Key> keys;
  cub::DoubleBuffer<Index> positions;
  char* rest = nullptr;
  std::size_t nbytes = 0;
};

template <class T, class Index>
cudaError_t workspace_of(std::size_t n, std::size_t* nbytes) {
  Layout<T, Index> layout(n, nullptr, nullptr);
  std::size_t length = 0;
  const cudaError_t status = layout.sort(nullptr, length, n, nullptr);
  *nbytes = kAligned - 1 + layout.nbytes + length;
  return status;
}

template <class T, class Index>
cudaError_t sort(const T* values, std::size_t n, bool descending, void* workspace, std::int64_t* order,
                 cudaStream_t stream) {
  Layout<T, Index> layout(n, workspace, order);
  std::size_t length = 0;
  cudaError_t status = layout.sort(nullptr, length, n, stream);
  if (status != cudaSuccess) return status;
  const std::int64_t blocks = blocks_for(static_cast<std::int64_t>(n));
  status = launch(make_entries<T, Index>, blocks, stream, values, n, descending, layout.keys.Current(),
                  layout.positions.Current());
  if (status != cudaSuccess) return status;
  status = layout.sort(layout.rest, length, n, stream);
  if (status != cudaSuccess) return status;
  return launch(write_order<Index>, blocks, stream, layout.positions.Current(), n, order);
}

bool few(std::size_t n) { return n <= std::numeric_limits<std::uint32_t>::max(); }

}  // namespace

template <class T>
cudaError_t argsort_workspace(std::size_t n, std::size_t* nbytes) {
  return few(n) ? workspace_of<T, std::uint32_t>(n, nbytes) : workspace_of<T, std::uint64_t>(n, nbytes);
}

template <class T>
cudaError_t argsort(const T* values, std::size_t n, bool descending, void* workspace, std::int64_t* order,
                    cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  return few(n) ? sort<T, std::uint32_t>(values, n, descending, workspace, order, stream)
                : sort<T, std::uint64_t>(values, n, descending, workspace, order, stream);
}

#define PYI_SORTABLE(T)                                                 \
  template cudaError_t argsort_workspace<T>(std::size_t, std::size_t*); \
  template cudaError_t argsort<T>(const T*, std::size_t, bool, void*, std::int64_t*, cudaStream_t);
PYI_SORTABLE(float)
PYI_SORTABLE(double)
PYI_SORTABLE(std::int32_t)
PYI_SORTABLE(std::int64_t)
PYI_SORTABLE(std::uint32_t)
PYI_SORTABLE(std::uint64_t)
#undef PYI_SORTABLE

}  // namespace pyi::cuda
