// The epoch in progress: a buffer of one row per sample, zeroed at its start, in which the first row that
// arrives for a sample stands.
#pragma once

#include <cstdint>

#include "observe/row.h"
#include "observe/rows.h"

namespace pyi {

struct Batch {
  const std::int64_t* ids;
  const bool* mask;  // may be null; where false, nothing of the row is looked at
  std::int64_t rows;
  bool skip_nonfinite;  // else they are an error
};

// All check every id, target and number before the first row is stored, so that a call that throws
// ArgumentError has changed nothing. They return how many rows were skipped as not finite. scratch:
// batch.rows rows, and of tokens one more for each of them.
std::int64_t observe_logits(const Batch&, const Matrix& logits, const Matrix* features,
                            const std::int64_t* targets, Row* scratch, Row* epoch, std::int64_t samples,
                            int threads);

// Sequences of tokens: logits [batch.rows, length, classes], of which the loss alone is recorded, its mean
// over the tokens that are live. A sequence without any counts as not finite.
struct Tokens {
  Matrix logits;                   // of one sequence [length, classes]; the first one's
  std::ptrdiff_t sequence_stride;  // elements from one sequence to the next
  std::int64_t length;
  const std::int64_t* targets;  // [batch.rows, length]
  const bool* live;             // [batch.rows, length]; false where the target is not looked at
};
std::int64_t observe_tokens(const Batch&, const Tokens&, Row* scratch, Row* epoch, std::int64_t samples,
                            int threads);
std::int64_t observe_losses(const Batch&, const double* losses, Row* scratch, Row* epoch,
                            std::int64_t samples, int threads);

// Rows that were observed elsewhere. Throws ArgumentError for an id or code that cannot be, changing nothing.
void commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples,
                 int threads);

}  // namespace pyi
