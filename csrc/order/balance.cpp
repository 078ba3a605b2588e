#include "order/balance.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace pyi::order {
namespace {

__extension__ using Wide = __int128;

}  // namespace

void balance(const std::int64_t* sizes, const std::int64_t* edges, std::size_t strata,
             const std::int64_t* shares, std::size_t workers, std::int32_t* owner) {
  std::vector<std::int64_t> spread(strata), by_spread(strata), samples;
  for (std::size_t s = 0; s < strata; ++s) {
    const auto [low, high] = std::minmax_element(sizes + edges[s], sizes + edges[s + 1]);
    spread[s] = low == sizes + edges[s + 1] ? 0 : *high - *low;
  }
  std::iota(by_spread.begin(), by_spread.end(), 0);
  std::stable_sort(by_spread.begin(), by_spread.end(),
                   [&](std::int64_t a, std::int64_t b) { return spread[a] > spread[b]; });

  // excess: n times the bytes a worker has, less its share of all bytes; places: how many it has left.
  std::vector<std::int64_t> places(workers, 0), left(workers);
  std::vector<Wide> excess(workers);
  for (std::size_t s = 0; s < strata; ++s) {
    for (std::size_t w = 0; w < workers; ++w) places[w] += shares[s * workers + w];
  }
  const std::int64_t n = edges[strata];
  const std::int64_t total = std::accumulate(sizes, sizes + n, std::int64_t{0});
  for (std::size_t w = 0; w < workers; ++w) excess[w] = -static_cast<Wide>(total) * places[w];
  // The worker that is to get the next sample is at the top of the heap, so "less" is "later".
  const auto later = [&](std::int32_t a, std::int32_t b) {
    const Wide x = excess[a] * places[b], y = excess[b] * places[a];
    return x != y ? x > y : a > b;
  };
  std::vector<std::int32_t> heap;
  heap.reserve(workers);
  for (const std::int64_t s : by_spread) {
    samples.resize(static_cast<std::size_t>(edges[s + 1] - edges[s]));
    std::iota(samples.begin(), samples.end(), edges[s]);
    std::stable_sort(samples.begin(), samples.end(),
                     [&](std::int64_t a, std::int64_t b) { return sizes[a] > sizes[b]; });
    heap.clear();
    for (std::size_t w = 0; w < workers; ++w) {
      left[w] = shares[static_cast<std::size_t>(s) * workers + w];
      if (left[w] > 0) heap.push_back(static_cast<std::int32_t>(w));
    }
    std::make_heap(heap.begin(), heap.end(), later);
    for (const std::int64_t sample : samples) {
      std::pop_heap(heap.begin(), heap.end(), later);
      const std::int32_t w = heap.back();
      owner[sample] = w;
      excess[w] += static_cast<Wide>(n) * sizes[sample];
      --places[w];
      if (--left[w] > 0) {
        std::push_heap(heap.begin(), heap.end(), later);
      } else {
        heap.pop_back();
      }
    }
  }
}

}  // namespace pyi::order
