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

// Both check every id, target and number before the first row is stored, so that a call that throws
// ArgumentError has changed nothing. They return how many rows were skipped as not finite. scratch:
// batch.rows rows.
std::int64_t observe_logits(const Batch&, const Logits&, const std::int64_t* targets, Row* scratch,
                            Row* epoch, std::int64_t samples, int threads);
std::int64_t observe_losses(const Batch&, const double* losses, Row* scratch, Row* epoch,
                            std::int64_t samples);

// Rows that were observed elsewhere. Throws ArgumentError for an id or code that cannot be, changing nothing.
void commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch, std::int64_t samples);

}  // namespace pyi
