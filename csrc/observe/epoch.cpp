#include "observe/epoch.h"

#include <algorithm>
#include <string>

#include "errors.h"
#include "parallel.h"

namespace pyi {
namespace {

std::string at(const char* name, std::int64_t position, std::int64_t value, std::int64_t limit) {
  return std::string(name) + ": " + std::to_string(value) + " at position " + std::to_string(position) +
         "; must be at least 0 and below " + std::to_string(limit);
}

bool outside(std::int64_t value, std::int64_t limit) {
  return static_cast<std::uint64_t>(value) >= static_cast<std::uint64_t>(limit);
}

void check(const char* name, const std::int64_t* values, const bool* mask, std::int64_t n,
           std::int64_t limit) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (outside(values[i], limit) && (mask == nullptr || mask[i])) {
      throw ArgumentError(at(name, i, values[i], limit));
    }
  }
}

// Stores `count` rows, the j-th of them being row at(j). Their lines are all over memory: several are on
// their way.
template <class At>
void store_some(const std::int64_t* ids, const Row* rows, Row* epoch, std::int64_t count, const At& at) {
  constexpr std::int64_t kAhead = 16;
  for (std::int64_t j = 0; j < count; ++j) {
    if (j + kAhead < count) {
      const std::int64_t next = at(j + kAhead);
      if (rows[next].code != kUnseen) __builtin_prefetch(&epoch[ids[next]], 1);
    }
    const std::int64_t i = at(j);
    if (rows[i].code == kUnseen) continue;
    Row& row = epoch[ids[i]];
    if (row.code == kUnseen) row = rows[i];
  }
}

// Each thread goes through all ids in their order and stores those of its part of the samples: the first of
// an id stands, however many threads there are. It picks them without branches, which nothing could predict.
void scatter(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples,
             int threads) {
  constexpr std::int64_t kGrain = 1 << 13;  // rows, a tenth of a millisecond
  constexpr std::int64_t kBlock = 2048;
  threads = useful_threads(threads, n, kGrain);
  if (threads == 1) {
    store_some(ids, rows, epoch, n, [](std::int64_t j) { return j; });
    return;
  }
  parallel_for(samples, threads, [=](std::int64_t begin, std::int64_t end) {
    std::int64_t mine[kBlock];
    for (std::int64_t from = 0; from < n; from += kBlock) {
      std::int64_t count = 0;
      for (std::int64_t i = from; i < std::min(n, from + kBlock); ++i) {
        mine[count] = i;
        count += static_cast<int>(ids[i] >= begin) & static_cast<int>(ids[i] < end);
      }
      store_some(ids, rows, epoch, count, [&](std::int64_t j) { return mine[j]; });
    }
  });
}

// Takes the rows that are not finite out, or throws; then stores the others.
std::int64_t store(const Batch& batch, const char* what, Row* rows, Row* epoch, std::int64_t samples,
                   int threads) {
  std::int64_t skipped = 0;
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    if (rows[i].code != kNonFinite) continue;
    if (!batch.skip_nonfinite) {
      throw ArgumentError(std::string(what) + " of sample " + std::to_string(batch.ids[i]) + " (position " +
                          std::to_string(i) +
                          "); nonfinite=\"skip\" leaves such samples out and counts them");
    }
    rows[i] = Row{};
    ++skipped;
  }
  scatter(batch.ids, rows, batch.rows, epoch, samples, threads);
  return skipped;
}

// kUnseen without any token, kNonFinite where one is.
Row mean_loss(const Row* tokens, std::int64_t length) {
  constexpr float nan = __builtin_nanf("");
  double sum = 0;
  std::int64_t count = 0;
  for (std::int64_t t = 0; t < length; ++t) {
    if (tokens[t].code == kUnseen) continue;
    if (tokens[t].code == kNonFinite) return {0, 0, 0, 0, kNonFinite, 0};
    sum += tokens[t].loss;
    ++count;
  }
  if (count == 0) return {};
  return {sum / static_cast<double>(count), nan, nan, nan, kLossOnly, nan};
}

constexpr const char* kBadLogits =
    "logits: NaN or +inf (what float32 cannot hold is infinite), or a loss that is infinite,";

std::string no_tokens(std::int64_t id, std::int64_t position) {
  return "targets of sample " + std::to_string(id) + " (position " + std::to_string(position) +
         "): no token that counts; nonfinite=\"skip\" leaves such samples out and counts them";
}

}  // namespace

std::int64_t observe_logits(const Batch& batch, const Matrix& logits, const Matrix* features,
                            const std::int64_t* targets, Row* scratch, Row* epoch, std::int64_t samples,
                            int threads) {
  check("ids", batch.ids, batch.mask, batch.rows, samples);
  check("targets", targets, batch.mask, batch.rows, logits.width);
  compute_rows({logits, features, targets, batch.mask}, batch.rows, scratch, threads);
  const char* what = features == nullptr
                         ? kBadLogits
                         : "logits or features: NaN or infinite, or a loss or gradient that is,";
  return store(batch, what, scratch, epoch, samples, threads);
}

std::int64_t observe_tokens(const Batch& batch, const Tokens& tokens, Row* scratch, Row* epoch,
                            std::int64_t samples, int threads) {
  check("ids", batch.ids, batch.mask, batch.rows, samples);
  check("targets", tokens.targets, tokens.live, batch.rows * tokens.length, tokens.logits.width);
  Row* of_tokens = scratch + batch.rows;
  const bool together = tokens.sequence_stride == tokens.logits.stride * tokens.length;
  const std::int64_t parts = together ? 1 : batch.rows;
  const std::int64_t rows = together ? batch.rows * tokens.length : tokens.length;
  for (std::int64_t part = 0; part < parts; ++part) {
    Matrix logits = tokens.logits;
    logits.data =
        static_cast<const char*>(logits.data) + part * tokens.sequence_stride * size_of(logits.type);
    const std::int64_t from = part * rows;
    compute_rows({logits, nullptr, tokens.targets + from, tokens.live + from}, rows, of_tokens + from,
                 threads);
  }
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    scratch[i] = mean_loss(of_tokens + i * tokens.length, tokens.length);
    if (batch.mask != nullptr && !batch.mask[i]) {
      scratch[i] = Row{};
    } else if (scratch[i].code == kUnseen) {
      if (!batch.skip_nonfinite) throw ArgumentError(no_tokens(batch.ids[i], i));
      scratch[i].code = kNonFinite;
    }
  }
  return store(batch, kBadLogits, scratch, epoch, samples, threads);
}

std::int64_t observe_losses(const Batch& batch, const double* losses, Row* scratch, Row* epoch,
                            std::int64_t samples, int threads) {
  check("ids", batch.ids, batch.mask, batch.rows, samples);
  constexpr float nan = __builtin_nanf("");
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    const bool live = batch.mask == nullptr || batch.mask[i];
    const bool finite = losses[i] - losses[i] == 0;
    scratch[i] = !live ? Row{} : Row{losses[i], nan, nan, nan, finite ? kLossOnly : kNonFinite, nan};
  }
  return store(batch, "loss: NaN or infinite", scratch, epoch, samples, threads);
}

void commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples,
                 int threads) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (outside(ids[i], samples)) throw ArgumentError(at("ids", i, ids[i], samples));
    if (rows[i].code < kWrong || rows[i].code > kLossOnly) {
      throw ArgumentError(at("rows: code", i, rows[i].code, kLossOnly + 1));
    }
  }
  scatter(ids, rows, n, epoch, samples, threads);
}

}  // namespace pyi
