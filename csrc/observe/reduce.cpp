#include "observe/reduce.h"

#include <atomic>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "observe/rows.h"
#include "parallel.h"

namespace pyi {
namespace {

const ReduceFunctions& functions() {
  const std::string name = instruction_set();
#if defined(__x86_64__)
  if (name == "avx512") return avx512::reduce_functions;
  if (name == "avx2") return avx2::reduce_functions;
#endif
  return baseline::reduce_functions;
}

template <class T, class Latest>
void find_latest(const Series& series, std::int64_t epochs, const BlockSums& block, std::int64_t begin,
                 std::int64_t n, Latest* last) {
  for (std::int64_t i = begin; i < begin + n; ++i) {
    last[i] = 0;
    if (block.count[i - begin] == 0) continue;
    T x;
    std::int64_t epoch = epochs;
    do {
      --epoch;
      std::memcpy(&x, series.data + epoch * series.stride + i * static_cast<std::int64_t>(sizeof x),
                  sizeof x);
    } while (x != x);
    last[i] = static_cast<Latest>(x);
  }
}

// One thread's part: the blocks [from, to).
bool reduce_blocks(const Columns& c, const History& h, const std::vector<Quantity>& quantities,
                   std::int64_t from, std::int64_t to) {
  const ReduceFunctions& run = functions();
  const bool events = h.correct.kind != Series::kMissing;
  const bool shared = quantities.size() + events > 1 && !quantities.empty();
  std::vector<std::uint8_t> seen(shared ? h.epochs * kReduceBlock : 0);
  BlockSums block;
  for (std::int64_t b = from; b < to; ++b) {
    const std::int64_t begin = b * kReduceBlock, n = std::min(kReduceBlock, h.samples - begin);
    Seen how = shared ? Seen::kWritten : Seen::kIgnored;
    for (const Quantity& q : quantities) {
      run.sums(q.series, h.epochs, begin, n, q.m2 != nullptr, how, seen.data(), &block);
      if (!block.agrees || !within(block.range, q.bounds)) return false;
      for (std::int64_t i = 0; i < n; ++i) {
        const auto count = static_cast<std::int32_t>(block.count[i]);
        settle(q, count, block.first[i], block.sum[i], block.squares[i], begin + i);
        c.count[begin + i] = count;
      }
      const auto latest = [&](auto* last) {
        using Latest = std::remove_pointer_t<decltype(last)>;
        if (last == nullptr) return;
        const auto find =
            q.series.kind == Series::kFloat ? find_latest<float, Latest> : find_latest<double, Latest>;
        find(q.series, h.epochs, block, begin, n, last);
      };
      latest(q.last);
      latest(q.short_last);
      if (shared) how = Seen::kChecked;
    }
    if (!events) continue;
    const EventColumns columns{c.count + begin, c.correct + begin, c.forgotten + begin,
                               c.first_learned + begin};
    if (!run.events(h.correct, h.epochs, begin, n, how, shared ? seen.data() : nullptr, columns)) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool reduce(const Columns& c, const History& h, double most_el2n, int threads) {
  constexpr std::int64_t kGrain = 1 << 18;  // numbers a thread is worth starting for
  std::vector<Quantity> quantities;
  for (const Quantity& q : quantities_of(c, h, most_el2n).all) {
    if (q.series.kind != Series::kMissing) quantities.push_back(q);
  }
  const std::int64_t blocks = (h.samples + kReduceBlock - 1) / kReduceBlock;
  const std::int64_t arrays = static_cast<std::int64_t>(quantities.size()) + 1;
  std::atomic<bool> good{true};
  parallel_for(blocks, useful_threads(threads, h.samples * h.epochs * arrays, kGrain),
               [&](std::int64_t from, std::int64_t to) {
                 if (!reduce_blocks(c, h, quantities, from, to)) good = false;
               });
  return good;
}

}  // namespace pyi
