#include "load/mixing.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "order/argsort.h"

namespace pyi::load {
namespace {

double jitter(std::uint64_t seed, std::int64_t element) {
  std::uint64_t z = seed + (static_cast<std::uint64_t>(element) + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// Never less than that of the element before.
double key_of(const Lists& lists, std::size_t i, std::int64_t element) {
  return (static_cast<double>(element) + jitter(lists.seeds[i], element)) /
         static_cast<double>(lists.sizes[i]);
}

// A heap of the lists that are not used up, by (key of the next element, list).
class Heads {
 public:
  Heads(const Lists& lists, std::vector<std::int64_t> next, const std::int64_t* end)
      : lists_(lists), next_(std::move(next)), end_(end) {
    for (std::size_t i = 0; i < lists.n; ++i)
      if (next_[i] < end[i]) heap_.emplace_back(key_of(lists, i, next_[i]), i);
    for (std::size_t at = heap_.size() / 2; at-- > 0;) sink(at);
  }
  // The list that has the next element, of which there must be one.
  std::size_t pop() {
    const std::size_t i = heap_.front().second;
    if (++next_[i] < end_[i]) {
      heap_.front().first = key_of(lists_, i, next_[i]);
    } else {
      heap_.front() = heap_.back();
      heap_.pop_back();
    }
    sink(0);
    return i;
  }
  const std::vector<std::int64_t>& next() const { return next_; }

 private:
  void sink(std::size_t at) {
    const std::size_t n = heap_.size();
    for (;;) {
      std::size_t child = 2 * at + 1;
      if (child >= n) return;
      if (child + 1 < n && heap_[child + 1] < heap_[child]) ++child;
      if (!(heap_[child] < heap_[at])) return;
      std::swap(heap_[at], heap_[child]);
      at = child;
    }
  }

  const Lists& lists_;
  std::vector<std::int64_t> next_;
  const std::int64_t* end_;
  std::vector<std::pair<double, std::size_t>> heap_;
};

// How many elements of list i have a smaller key, never fewer than `start`.
std::int64_t below(const Lists& lists, std::size_t i, std::int64_t start, double key) {
  const std::int64_t size = lists.sizes[i];
  if (size == 0) return start;
  // It lies in the place of this element, or next to it as products and quotients are rounded.
  std::int64_t count = std::min(static_cast<std::int64_t>(key * static_cast<double>(size)), size);
  while (count < size && key_of(lists, i, count) < key) ++count;
  while (count > 0 && key_of(lists, i, count - 1) >= key) --count;
  return std::max(count, start);
}

}  // namespace

void taken(const Lists& lists, const std::int64_t* start, std::int64_t total, std::int64_t* ends) {
  // Bisect the keys until few elements are left between the two ends, then merge those.
  double low = 0, high = 2;
  std::vector<std::int64_t> low_ends(start, start + lists.n), ends_here(lists.n);
  std::int64_t at = 0, all = 0;
  for (std::size_t i = 0; i < lists.n; ++i) all += lists.sizes[i] - start[i];
  const auto few = static_cast<std::int64_t>(lists.n) + 64;
  while (all - at > few) {
    const double middle = (low + high) / 2;
    if (!(low < middle && middle < high)) break;
    std::int64_t here = 0;
    for (std::size_t i = 0; i < lists.n; ++i) {
      ends_here[i] = below(lists, i, start[i], middle);
      here += ends_here[i] - start[i];
    }
    if (here <= total) {
      low = middle;
      at = here;
      low_ends.swap(ends_here);
    } else {
      high = middle;
      all = here;
    }
  }
  Heads heads(lists, std::move(low_ends), lists.sizes);
  for (; at < total; ++at) heads.pop();
  std::copy(heads.next().begin(), heads.next().end(), ends);
}

void merge(const Lists& lists, const std::int64_t* start, const std::int64_t* end, std::int64_t* order) {
  std::vector<std::int64_t> place(lists.n);
  std::int64_t m = 0;
  for (std::size_t i = 0; i < lists.n; ++i) {
    place[i] = m;
    m += std::max(end[i] - start[i], std::int64_t{0});
  }
  Heads heads(lists, std::vector<std::int64_t>(start, start + lists.n), end);
  for (std::int64_t at = 0; at < m; ++at) order[at] = place[heads.pop()]++;
}

void shuffle(const std::uint64_t* random, const std::int64_t* counts, std::size_t n, std::int64_t* order) {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t count = counts[i];
    order::argsort(random + begin, static_cast<std::size_t>(count), {false, 1, false}, {nullptr, false},
                   {order + begin, true});
    for (std::int64_t at = begin; at < begin + count; ++at) order[at] += begin;
    begin += count;
  }
}

}  // namespace pyi::load
