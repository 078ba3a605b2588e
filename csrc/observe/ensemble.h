// Members of an ensemble -> running state: what M models, given one at a time, say about every sample.
//
// A member is read twice, to be checked and to be added, so that a call that throws has changed nothing; it
// is never copied: logits become doubles a block at a time. The arithmetic is that of the rows
// (arithmetic.h). A sample's state is a function of the predictions it was given, and of their order; the
// number of threads and the cut into batches change no bit of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "observe/ensemble_arithmetic.h"

namespace pyi {

enum class Element { kFloat, kDouble, kHalf, kBfloat };

// What a member predicts for some samples: logits, or probabilities that sum to 1 within kSumTolerance and
// are divided by their sum.
struct Predictions {
  const void* data;
  Element element;
  std::ptrdiff_t row_stride, class_stride;  // in elements
  std::int64_t rows, classes;
  bool probabilities;
  double sharpness;             // 1 / T, by which logits are multiplied
  const std::int64_t* ids;      // null: 0, 1, ..
  const std::int64_t* targets;  // may be null
};

// Columns [samples], of which two are [samples, classes]: 10 bytes a sample and class, and 17 a sample.
struct EnsembleState {
  double* p_sum;         // [samples, classes]: sum of the members' probabilities
  std::uint16_t* votes;  // [samples, classes]: members whose (first) largest class it is
  double* entropy_sum;   // sum of the members' entropies, nats
  std::int32_t* count;   // members that have spoken
  std::int32_t* wrong;   // members that voted for another class than the target
  bool* seen;            // whether the member in progress has spoken
  std::int64_t samples, classes;
};

// Throws ArgumentError, having changed nothing, for an id or target out of range, a sample that the member in
// progress has been given already, NaN or +inf, and a row that is no distribution.
void add_predictions(const EnsembleState&, const Predictions&, int threads);

// Entropy of the mean probabilities, nats; NaN where nobody has spoken.
void ensemble_entropy(const EnsembleState&, double* out, int threads);

// One per instruction set (rows.h). scratch: kScratch doubles and 3 a class, zeroed at first.
struct EnsembleKernel {
  // The first row in [begin, end) that is no distribution, or end.
  std::int64_t (*first_bad)(const Predictions&, std::int64_t begin, std::int64_t end, double* scratch);
  void (*add)(const EnsembleState&, const Predictions&, std::int64_t begin, std::int64_t end,
              double* scratch);
  void (*entropy)(const EnsembleState&, std::int64_t begin, std::int64_t end, double* out, double* scratch);
};
constexpr std::int64_t kBlockClasses =
    1024;  // logits at a time, as doubles: with e^z half a first-level cache
constexpr std::int64_t kScratch = 6 * kBlockClasses + 64;

namespace baseline {
extern const EnsembleKernel ensemble_kernel;
}
namespace avx2 {
extern const EnsembleKernel ensemble_kernel;
}
namespace avx512 {
extern const EnsembleKernel ensemble_kernel;
}

}  // namespace pyi
