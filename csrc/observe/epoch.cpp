#include "observe/epoch.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "errors.h"
#include "lines.h"
#include "parallel.h"

namespace pyi {
namespace {

constexpr std::int64_t kGrain = 1 << 13;  // rows that a thread is worth waking for, a tenth of a millisecond

std::string at(const char* name, std::int64_t position, std::int64_t value, std::int64_t limit) {
  return std::string(name) + ": " + std::to_string(value) + " at position " + std::to_string(position) +
         "; must be at least 0 and below " + std::to_string(limit);
}

bool outside(std::int64_t value, std::int64_t limit) {
  return static_cast<std::uint64_t>(value) >= static_cast<std::uint64_t>(limit);
}

// What is wrong with a batch: the first entry of each kind, so that what is said of it depends on no thread.
struct Wrong {
  First id, target, row;
};

// Whether the values [begin, end) are, where they are looked at.
bool in_range(const std::int64_t* values, const bool* mask, std::int64_t begin, std::int64_t end,
              std::int64_t limit, First& wrong) {
  for (std::int64_t i = begin; i < end; ++i) {
    if (outside(values[i], limit) && (mask == nullptr || mask[i])) {
      wrong.at(i);
      return false;
    }
  }
  return true;
}

void check(const char* name, const std::int64_t* values, const First& wrong, std::int64_t limit) {
  if (wrong.any()) throw ArgumentError(at(name, wrong.get(), values[wrong.get()], limit));
}

// Stores `count` rows, the j-th of them being row at(j). Their lines are all over memory: several are on
// their way. To ask for them earlier, while the rows are computed, made batches of 65,536 rows of 10 classes
// 1.2 times as slow (on an EPYC; 1.3 to 1.5 times on two threads).
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

int threads_to_scatter(std::int64_t n, int threads) { return useful_threads(threads, n, kGrain); }

Then then_scatter(std::int64_t n, int threads) {
  return threads_to_scatter(n, threads) > 1 ? Then::kAnother : Then::kSleep;
}

// Each thread goes through all ids in their order and stores those of its part of the samples: the first of
// an id stands, however many threads there are. It picks them without branches, which nothing could predict.
void scatter(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples,
             int threads) {
  constexpr std::int64_t kBlock = 2048;
  threads = threads_to_scatter(n, threads);
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

// Takes those of the rows [begin, end), which lie at `rows`, that are not finite out, and returns how many,
// where they are to be skipped.
std::int64_t take_out(const Batch& batch, Row* rows, std::int64_t begin, std::int64_t end, First& wrong) {
  std::int64_t skipped = 0;
  for (std::int64_t i = 0; i < end - begin; ++i) {
    if (rows[i].code != kNonFinite) continue;
    if (!batch.skip_nonfinite) {
      wrong.at(begin + i);
      return 0;
    }
    rows[i] = Row{};
    ++skipped;
  }
  return skipped;
}

// Writes rows past the caches, by whole lines where `to` begins one.
void stream_rows(const Row* from, std::int64_t count, Row* to) {
  constexpr std::int64_t kPair = kLine / sizeof(Row);
  std::int64_t i = 0;
  if (reinterpret_cast<std::uintptr_t>(to) % kLine == 0) {
    for (Line line; i + kPair <= count; i += kPair) {
      std::memcpy(line.bytes, from + i, kLine);
      stream_line(to + i, line);
    }
  }
  std::copy(from + i, from + count, to + i);
}

// Has make(begin, end, to) make the rows [begin, end), a block at a time, that are then looked through in the
// cache. Returns how many were skipped.
//
// Where threads share the rows, each reads in scatter() what others wrote. To write to a line that another
// processor has read is to wait until that has given it up: 34 ns where the two share no cache (an EPYC's,
// and it takes no two at a time), which is more than all else that is done with a row of 10 classes. So
// shared rows are written past the caches.
template <class Make>
std::int64_t make_rows(const Batch& batch, std::int64_t begin, std::int64_t end, Row* scratch, bool shared,
                       First& wrong, const Make& make) {
  constexpr std::int64_t kBlock = 256;
  Row block[kBlock];
  std::int64_t skipped = 0;
  for (std::int64_t to; begin < end; begin = to) {
    to = std::min(begin + kBlock, end);
    Row* const rows = shared ? block : scratch + begin;
    make(begin, to, rows);
    skipped += take_out(batch, rows, begin, to, wrong);
    if (shared) stream_rows(rows, to - begin, scratch + begin);
  }
  fence_lines();
  return skipped;
}

void check_rows(const char* what, const Batch& batch, const First& wrong) {
  if (!wrong.any()) return;
  throw ArgumentError(std::string(what) + " of sample " + std::to_string(batch.ids[wrong.get()]) +
                      " (position " + std::to_string(wrong.get()) +
                      "); nonfinite=\"skip\" leaves such samples out and counts them");
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
constexpr const char* kBadFeatures = "logits or features: NaN or infinite, or a loss or gradient that is,";

std::string no_tokens(std::int64_t id, std::int64_t position) {
  return "targets of sample " + std::to_string(id) + " (position " + std::to_string(position) +
         "): no token that counts; nonfinite=\"skip\" leaves such samples out and counts them";
}

}  // namespace

std::int64_t observe_logits(const Batch& batch, const Matrix& logits, const Matrix* features,
                            const std::int64_t* targets, Row* scratch, Row* epoch, std::int64_t samples,
                            int threads) {
  const Inputs inputs{logits, features, targets, batch.mask};
  const RowsFunction rows = rows_function();
  Wrong wrong;
  std::atomic<std::int64_t> skipped{0};
  const int useful = threads_for_rows(inputs, batch.rows, threads);
  const auto make = [&](std::int64_t begin, std::int64_t end, Row* to) { rows(inputs, begin, end, to); };
  const auto compute = [&](std::int64_t begin, std::int64_t end) {
    const bool ids = in_range(batch.ids, batch.mask, begin, end, samples, wrong.id);
    if (!in_range(targets, batch.mask, begin, end, logits.width, wrong.target) || !ids) return;
    skipped += make_rows(batch, begin, end, scratch, useful > 1, wrong.row, make);
  };
  parallel_pieces(batch.rows, useful, least_rows(inputs), compute, then_scatter(batch.rows, threads));
  check("ids", batch.ids, wrong.id, samples);
  check("targets", targets, wrong.target, logits.width);
  check_rows(features == nullptr ? kBadLogits : kBadFeatures, batch, wrong.row);
  scatter(batch.ids, scratch, batch.rows, epoch, samples, threads);
  return skipped;
}

std::int64_t observe_tokens(const Batch& batch, const Tokens& tokens, Row* scratch, Row* epoch,
                            std::int64_t samples, int threads) {
  Wrong wrong;
  in_range(batch.ids, batch.mask, 0, batch.rows, samples, wrong.id);
  check("ids", batch.ids, wrong.id, samples);
  Row* const of_tokens = scratch + batch.rows;
  const RowsFunction rows = rows_function();
  const std::int64_t all = batch.rows * tokens.length;
  const bool together = tokens.sequence_stride == tokens.logits.stride * tokens.length;
  const std::int64_t length = together ? all : tokens.length;  // of rows that one stride leads through
  const auto compute = [&](std::int64_t begin, std::int64_t end) {
    if (!in_range(tokens.targets, tokens.live, begin, end, tokens.logits.width, wrong.target)) {
      return;
    }
    for (std::int64_t to; begin < end; begin = to) {
      const std::int64_t sequence = begin / length, from = sequence * length;
      to = std::min(from + length, end);
      Matrix logits = tokens.logits;
      logits.data =
          static_cast<const char*>(logits.data) + sequence * tokens.sequence_stride * size_of(logits.type);
      rows({logits, nullptr, tokens.targets + from, tokens.live + from}, begin - from, to - from,
           of_tokens + begin);
    }
  };
  const Inputs any{tokens.logits, nullptr, nullptr, nullptr};
  parallel_pieces(all, threads_for_rows(any, all, threads), least_rows(any), compute);
  check("targets", tokens.targets, wrong.target, tokens.logits.width);
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    scratch[i] = mean_loss(of_tokens + i * tokens.length, tokens.length);
    if (batch.mask != nullptr && !batch.mask[i]) {
      scratch[i] = Row{};
    } else if (scratch[i].code == kUnseen) {
      if (!batch.skip_nonfinite) throw ArgumentError(no_tokens(batch.ids[i], i));
      scratch[i].code = kNonFinite;
    }
  }
  const std::int64_t skipped = take_out(batch, scratch, 0, batch.rows, wrong.row);
  check_rows(kBadLogits, batch, wrong.row);
  scatter(batch.ids, scratch, batch.rows, epoch, samples, threads);
  return skipped;
}

std::int64_t observe_losses(const Batch& batch, const double* losses, Row* scratch, Row* epoch,
                            std::int64_t samples, int threads) {
  constexpr float nan = __builtin_nanf("");
  Wrong wrong;
  std::atomic<std::int64_t> skipped{0};
  const int useful = useful_threads(threads, batch.rows, kGrain);
  const auto make = [&](std::int64_t begin, std::int64_t end, Row* to) {
    for (std::int64_t i = begin; i < end; ++i) {
      const bool live = batch.mask == nullptr || batch.mask[i];
      const bool finite = losses[i] - losses[i] == 0;
      *to++ = !live ? Row{} : Row{losses[i], nan, nan, nan, finite ? kLossOnly : kNonFinite, nan};
    }
  };
  const auto write = [&](std::int64_t begin, std::int64_t end) {
    in_range(batch.ids, batch.mask, begin, end, samples, wrong.id);
    skipped += make_rows(batch, begin, end, scratch, useful > 1, wrong.row, make);
  };
  parallel_pieces(batch.rows, useful, kGrain / 4, write, then_scatter(batch.rows, threads));
  check("ids", batch.ids, wrong.id, samples);
  check_rows("loss: NaN or infinite", batch, wrong.row);
  scatter(batch.ids, scratch, batch.rows, epoch, samples, threads);
  return skipped;
}

void commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples,
                 int threads) {
  Wrong wrong;
  parallel_for(n, useful_threads(threads, n, kGrain), [&](std::int64_t begin, std::int64_t end) {
    in_range(ids, nullptr, begin, end, samples, wrong.id);
    for (std::int64_t i = begin; i < end; ++i) {
      if (rows[i].code < kWrong || rows[i].code > kLossOnly) return wrong.row.at(i);
    }
  });
  check("ids", ids, wrong.id, samples);
  if (wrong.row.any()) {
    const std::int64_t i = wrong.row.get();
    throw ArgumentError(at("rows: code", i, rows[i].code, kLossOnly + 1));
  }
  scatter(ids, rows, n, epoch, samples, threads);
}

}  // namespace pyi
