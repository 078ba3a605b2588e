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

}  // namespace pyi
