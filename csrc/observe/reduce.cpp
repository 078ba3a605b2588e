#include "observe/reduce.h"

#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "observe/rows.h"
#include "parallel.h"

namespace pyi {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kLargest = std::numeric_limits<double>::max();

const ReduceFunctions& functions() {
  const std::string name = instruction_set();
#if defined(__x86_64__)
  if (name == "avx512") return avx512::reduce_functions;
  if (name == "avx2") return avx2::reduce_functions;
#endif
  return baseline::reduce_functions;
}

// Columns that one array goes to. With `m2` the mean and the squared deviations from it are wanted, else the
// sum; `rest` is the sum of 1 - x. The latest is wanted as a double, as a float, or not at all.
struct Target {
  double *mean, *m2, *rest, *sum, *last;
  float* short_last;
};

// An array of a history, what it may hold, and where it goes.
struct Quantity {
  Series series;
  double low, high;
  Target to;
};

// The columns of the samples from `begin` on.
void settle(const Target& q, const BlockSums& block, std::int64_t begin, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t at = begin + i;
    const double count = static_cast<double>(block.count[i]), sum = block.sum[i];
    if (q.m2 == nullptr) {
      q.sum[at] = sum;
      continue;
    }
    pyi::settle(count, block.first[i], sum, block.squares[i], q.mean + at, q.m2 + at,
                q.rest != nullptr ? q.rest + at : nullptr);
  }
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
      run.sums(q.series, h.epochs, begin, n, q.to.m2 != nullptr, how, seen.data(), &block);
      const bool empty = block.high < block.low;
      if (!block.agrees || (!empty && !(block.low >= q.low && block.high <= q.high))) return false;
      settle(q.to, block, begin, n);
      const auto latest = [&](auto* last) {
        using Latest = std::remove_pointer_t<decltype(last)>;
        if (last == nullptr) return;
        const auto find =
            q.series.kind == Series::kFloat ? find_latest<float, Latest> : find_latest<double, Latest>;
        find(q.series, h.epochs, block, begin, n, last);
      };
      latest(q.to.last);
      latest(q.to.short_last);
      for (std::int64_t i = 0; i < n; ++i) c.count[begin + i] = static_cast<std::int32_t>(block.count[i]);
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
  const auto add = [&](const Series& series, double low, double high, const Target& to) {
    if (series.kind != Series::kMissing) quantities.push_back({series, low, high, to});
  };
  const auto sum = [](double* column, float* last) {
    return Target{nullptr, nullptr, nullptr, column, nullptr, last};
  };
  add(h.loss, -kLargest, kLargest, {c.loss_mean, c.loss_m2, nullptr, nullptr, c.loss_last, nullptr});
  add(h.p_true, 0, 1, {c.p_mean, c.p_m2, c.q_sum, nullptr, nullptr, nullptr});
  // A margin is infinite where there is but one class.
  add(h.margin, -kInfinite, kInfinite, {nullptr, nullptr, nullptr, c.margin_sum, c.margin_last, nullptr});
  add(h.el2n, 0, most_el2n, sum(c.el2n_sum, c.el2n_last));
  add(h.entropy, 0, kLargest, sum(c.entropy_sum, c.entropy_last));
  add(h.grand, 0, kLargest, sum(c.grand_sum, nullptr));
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
