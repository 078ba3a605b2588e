// Measures of the users' own: a compiled function, called once per sample on all threads.
//
// The functions know nothing of Python and run without its lock. What one returns is its sample's score; a
// status other than 0 means that it failed, and its score is then worth nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "observe/matrix.h"

namespace pyi {

// numbers [series, n], those of one sample's n > 0 observations, in order.
using HistoryFunction = std::int32_t (*)(const double* numbers, std::int64_t n, double* score);
// The logits of one row.
using LogitsFunction = std::int32_t (*)(const double* logits, std::int64_t classes, std::int64_t target,
                                        double* score);

// Both set scores [samples] and give back the first sample that failed, or -1.

// arrays: one [epochs, samples] per series; NaN in the first: not observed. A sample never observed gets NaN.
std::int64_t score_histories(HistoryFunction, const std::vector<const double*>& arrays, std::int64_t epochs,
                             std::int64_t samples, double* scores, int threads);

std::int64_t score_rows(LogitsFunction, const Matrix& logits, const std::int64_t* targets, std::int64_t rows,
                        double* scores, int threads);

}  // namespace pyi
