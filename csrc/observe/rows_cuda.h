// Logits -> gists on a CUDA device (gist_cuda.h), in one pass over memory. Everything here is enqueued on the
// stream and nothing waited for; functions return the status of their launches. All pointers are to device
// memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "observe/gist_cuda.h"

namespace pyi::cuda {

// What is wrong with entries of the batches so far; read by the host when it next waits for the device
// anyway.
enum Kind : std::int64_t {
  kNone = 0,
  kBadId = 1,
  kBadTarget = 2,
  kBadNumber = 3,
  kNoTokens = 4,
  kRepeated = 5,
  kBadCode = 6
};
constexpr int kKinds = 8;
struct Problems {
  unsigned long long pending;              // this batch's first: position * kKinds + kind; ~0: there is none
  std::int64_t kind, position, id, value;  // of the first of all; value: the target or code, if wrong
  unsigned long long count;                // entries that were left out for one of these
  unsigned long long skipped;              // entries left out as not finite, where that was asked for
};
static_assert(sizeof(Problems) == 56);

enum class Number { kFloat, kHalf, kBFloat16 };

// A batch of rows, the classes of each adjacent in memory.
struct Batch {
  const std::int64_t* ids;  // may be null, and with it claims and problems: the rows are nobody's
  const std::int64_t* targets;
  const std::uint8_t* mask;  // may be null; where 0, nothing of the entry is looked at
  const float* norms;        // of the features that go with each entry; may be null
  std::int64_t rows, samples;
  bool skip_nonfinite;
};
struct Logits {
  const void* data;  // float, Half or BFloat16
  Number number;
  std::ptrdiff_t stride;  // numbers from one row to the next
  std::int64_t classes;   // 1 .. 2^31 - 1
  // Of rows that are tokens: how many of them a sequence has, and numbers from one sequence to the next. 0
  // where sequences lie no further apart than their tokens do, and where there are none.
  std::int64_t length;
  std::ptrdiff_t sequence_stride;
};
// Which entry of the batch may store its row, by sample id: that of the lowest position. ~0: none.
using Claim = unsigned;

// One gist for each entry. One that is masked out, or whose id or target is out of range, gets kUnseen (and
// in the place of `s` the bits of such a target); nothing is read by such a target. One that is not finite
// gets kNonFinite, or with ids kUnseen. The others claim their ids.
cudaError_t scan_logits(const Batch&, const Logits&, Gist* out, Claim* claims, Problems*, cudaStream_t);
// The same for losses alone; targets are not looked at.
cudaError_t scan_losses(const Batch&, const double* losses, Gist* out, Claim* claims, Problems*,
                        cudaStream_t);

// Sequences of tokens, an entry of the batch each.
struct Tokens {
  Logits logits;                // [batch.rows, length] rows
  const std::int64_t* targets;  // [batch.rows, length]
  const std::uint8_t* live;     // likewise, may be null; where 0, nothing of the token is looked at
  std::int64_t length;
};
// The same for the mean losses of sequences over the tokens that are live, as epoch.h; the batch has no
// targets. of_tokens: working memory, batch.rows * length gists.
cudaError_t scan_tokens(const Batch&, const Tokens&, Gist* of_tokens, Gist* out, Claim* claims, Problems*,
                        cudaStream_t);

}  // namespace pyi::cuda
