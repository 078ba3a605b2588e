#include "observe/ensemble.h"

#include <atomic>
#include <cstdio>
#include <memory>
#include <vector>

#include "errors.h"
#include "observe/narrow.h"
#include "observe/rows.h"
#include "parallel.h"

namespace pyi {
namespace {

constexpr std::int64_t kLine = 8;         // doubles in a line of the cache
constexpr std::int64_t kGrain = 1 << 17;  // classes of rows: what a thread's start is worth

const EnsembleKernel& kernel() {
#if defined(__x86_64__)
  const std::string name = instruction_set();
  if (name == "avx512") return avx512::ensemble_kernel;
  if (name == "avx2") return avx2::ensemble_kernel;
#endif
  return baseline::ensemble_kernel;
}

// Calls f(begin, end, scratch) for parts of [0, n) on as many threads as n rows are worth.
template <class F>
void by_parts(std::int64_t n, std::int64_t classes, int threads, const F& f) {
  const int useful = useful_threads(threads, n * classes, kGrain);
  const std::int64_t size = (kScratch + 3 * classes + kLine - 1) / kLine * kLine;
  std::vector<double> scratch(static_cast<std::size_t>(size * useful + kLine));
  void* start = scratch.data();
  std::size_t room = scratch.size() * sizeof(double);
  double* aligned = static_cast<double*>(std::align(kLine * sizeof(double), sizeof(double), start, room));
  std::atomic<std::int64_t> taken{0};
  parallel_for(n, useful, [&](std::int64_t begin, std::int64_t end) {
    f(begin, end, aligned + size * taken.fetch_add(1));
  });
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", x);
  return x != x ? "nan" : text;
}

double value_at(const Predictions& from, std::int64_t row, std::int64_t k) {
  const std::ptrdiff_t at = row * from.row_stride + k * from.class_stride;
  switch (from.element) {
    case Element::kFloat:
      return static_cast<const float*>(from.data)[at];
    case Element::kDouble:
      return static_cast<const double*>(from.data)[at];
    case Element::kHalf:
      return widen(static_cast<const Half*>(from.data)[at]);
    case Element::kBfloat:
      return widen(static_cast<const BFloat16*>(from.data)[at]);
  }
  return 0;
}

std::string place_of(const Predictions& from, std::int64_t row) {
  const std::string at = "row " + std::to_string(row);
  return from.ids == nullptr ? at : at + " (sample " + std::to_string(from.ids[row]) + ")";
}

// Says what is wrong with a row that first_bad has found.
[[noreturn]] void refuse(const Predictions& from, std::int64_t row) {
  double sum = 0;
  for (std::int64_t k = 0; k < from.classes; ++k) {
    const double x = value_at(from, row, k);
    if (!is_prediction(x, from.probabilities)) {
      throw ArgumentError((from.probabilities ? "probs: " : "logits: ") + number(x) + " at " +
                          place_of(from, row) + ", class " + std::to_string(k) +
                          (from.probabilities ? "; must be within 0..1" : "; must be finite, or -inf"));
    }
    sum += x;
  }
  throw ArgumentError(from.probabilities ? "probs: " + place_of(from, row) + " sums to " + number(sum) +
                                               "; must be 1, give or take 0.01"
                                         : "logits: " + place_of(from, row) + " is -inf for every class");
}

void check_targets(const Predictions& from) {
  for (std::int64_t i = 0; from.targets != nullptr && i < from.rows; ++i) {
    const std::int64_t target = from.targets[i];
    if (target < 0 || target >= from.classes) {
      throw ArgumentError("targets: " + std::to_string(target) + " at " + place_of(from, i) +
                          "; must be at least 0 and below " + std::to_string(from.classes));
    }
  }
}

void check_predictions(const Predictions& from, int threads) {
  std::atomic<std::int64_t> first{from.rows};
  by_parts(from.rows, from.classes, threads, [&](std::int64_t begin, std::int64_t end, double* scratch) {
    const std::int64_t bad = kernel().first_bad(from, begin, end, scratch);
    std::int64_t lowest = first.load();
    while (bad < end && bad < lowest && !first.compare_exchange_weak(lowest, bad)) {
    }
  });
  if (first < from.rows) refuse(from, first);
}

// Marks the samples as seen by the member in progress. Throws, unmarking them, for one that is already.
void mark(const EnsembleState& state, const Predictions& from) {
  for (std::int64_t i = 0; i < from.rows; ++i) {
    const std::int64_t id = from.ids[i];
    const bool outside = id < 0 || id >= state.samples;
    if (!outside && !state.seen[id]) {
      state.seen[id] = true;
      continue;
    }
    for (std::int64_t k = 0; k < i; ++k) state.seen[from.ids[k]] = false;
    throw ArgumentError("ids: " + std::to_string(id) + " at position " + std::to_string(i) +
                        (outside ? "; must be at least 0 and below " + std::to_string(state.samples)
                                 : " was given before; must be once in a member"));
  }
}

}  // namespace

void add_predictions(const EnsembleState& state, const Predictions& from, int threads) {
  if (from.ids != nullptr) mark(state, from);
  try {
    check_targets(from);
    check_predictions(from, threads);
  } catch (...) {
    for (std::int64_t i = 0; from.ids != nullptr && i < from.rows; ++i) state.seen[from.ids[i]] = false;
    throw;
  }
  by_parts(from.rows, from.classes, threads, [&](std::int64_t begin, std::int64_t end, double* scratch) {
    kernel().add(state, from, begin, end, scratch);
  });
}

void ensemble_entropy(const EnsembleState& state, double* out, int threads) {
  by_parts(state.samples, state.classes, threads, [&](std::int64_t begin, std::int64_t end, double* scratch) {
    kernel().entropy(state, begin, end, out, scratch);
  });
}

}  // namespace pyi
