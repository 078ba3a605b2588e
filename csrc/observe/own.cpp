#include "observe/own.h"

#include <limits>

#include "parallel.h"

namespace pyi {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // numbers a thread is worth starting for; nobody knows what is done

}  // namespace

std::int64_t score_histories(HistoryFunction function, const std::vector<const double*>& arrays,
                             std::int64_t epochs, std::int64_t samples, double* scores, int threads) {
  First failure;  // each thread ends at its own
  const std::int64_t series = static_cast<std::int64_t>(arrays.size());
  const int useful = useful_threads(threads, samples * epochs * series, kGrain);
  parallel_for(samples, useful, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> numbers(epochs * series);
    std::vector<std::int64_t> seen(epochs);
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t n = 0;
      for (std::int64_t e = 0; e < epochs; ++e) {
        const double x = arrays[0][e * samples + i];
        seen[n] = e;
        n += x == x;
      }
      scores[i] = std::numeric_limits<double>::quiet_NaN();
      if (n == 0) continue;
      for (std::int64_t s = 0; s < series; ++s) {
        for (std::int64_t k = 0; k < n; ++k) numbers[s * n + k] = arrays[s][seen[k] * samples + i];
      }
      if (function(numbers.data(), n, &scores[i]) != 0) {
        failure.at(i);
        return;
      }
    }
  });
  return failure.get();
}

std::int64_t score_rows(LogitsFunction function, const Matrix& logits, const std::int64_t* targets,
                        std::int64_t rows, double* scores, int threads) {
  First failure;  // each thread ends at its own
  const int useful = useful_threads(threads, rows * logits.width, kGrain);
  parallel_for(rows, useful, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> row(logits.width);
    for (std::int64_t i = begin; i < end; ++i) {
      with_type(logits.type, [&](auto kind) {
        const auto* from = static_cast<const decltype(kind)*>(logits.data) + i * logits.stride;
        for (std::int64_t c = 0; c < logits.width; ++c) row[c] = widen(from[c]);
      });
      if (function(row.data(), logits.width, targets[i], &scores[i]) != 0) {
        failure.at(i);
        return;
      }
    }
  });
  return failure.get();
}

}  // namespace pyi
