// CUB's radix sort of pairs as far as csrc/ uses it, on the host. What it need not keep it spoils.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>

namespace cub {

template <class T>
struct DoubleBuffer {
  T* buffers[2];
  int selector = 0;
  DoubleBuffer(T* current = nullptr, T* alternate = nullptr) : buffers{current, alternate} {}
  T* Current() { return buffers[selector]; }
  T* Alternate() { return buffers[1 - selector]; }
};

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* temporary, std::size_t& nbytes, DoubleBuffer<Key>& keys,
                               DoubleBuffer<Value>& values, Count n, int first, int last, cudaStream_t) {
    if (temporary == nullptr) {
      nbytes = 1000;
      return cudaSuccess;
    }
    if (nbytes < 1000 || first != 0 || last != static_cast<int>(sizeof(Key)) * 8) std::abort();
    std::memset(temporary, 0xA5, 1000);
    std::vector<std::size_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), std::size_t{0});
    const Key* from = keys.Current();
    std::stable_sort(order.begin(), order.end(), [=](auto a, auto b) { return from[a] < from[b]; });
    Key* to = keys.Alternate();
    Value* into = values.Alternate();
    for (std::size_t i = 0; i < order.size(); ++i) {
      to[i] = from[order[i]];
      into[i] = values.Current()[order[i]];
    }
    std::memset(keys.Current(), 0xA5, order.size() * sizeof(Key));
    std::memset(values.Current(), 0xA5, order.size() * sizeof(Value));
    keys.selector ^= 1;
    values.selector ^= 1;
    return cudaSuccess;
  }
};

}  // namespace cub
