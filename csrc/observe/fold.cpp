#include "observe/fold.h"

#include "parallel.h"

namespace pyi {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // observations a thread is worth starting for

}  // namespace

void fold_rows(const Columns& columns, const Row* rows, std::int64_t samples, std::int32_t epoch,
               int threads) {
  parallel_for(samples, useful_threads(threads, samples, kGrain), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (rows[i].code != kUnseen) fold(columns, i, rows[i], epoch);
    }
  });
}

void reduce(const Columns& columns, const History& h, int threads) {
  const auto value = [](const double* array, std::int64_t at) { return array != nullptr ? array[at] : 0.0; };
  const int useful = useful_threads(threads, h.samples * h.epochs, kGrain);
  parallel_for(h.samples, useful, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t epoch = 0; epoch < h.epochs; ++epoch) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t at = epoch * h.samples + i;
        if (!h.seen[at]) continue;
        const double p = value(h.p_true, at);
        const bool right = h.correct != nullptr && h.correct[at];
        const Observation seen{
            value(h.loss, at),  p,    1.0 - p, value(h.margin, at), value(h.el2n, at), value(h.entropy, at),
            value(h.grand, at), right};
        fold(columns, i, seen, static_cast<std::int32_t>(epoch));
      }
    }
  });
}

}  // namespace pyi
