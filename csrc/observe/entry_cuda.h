// What every kernel that observes does with an entry of a batch: admit it, and deliver what was found.
#pragma once

#include "observe/rows_cuda.h"

namespace pyi::cuda {

struct Sink {
  Gist* out;
  Claim* claims;
  Problems* problems;
};

__device__ inline void report(Problems* problems, Kind kind, std::int64_t row) {
  if (problems == nullptr) return;
  atomicMin(&problems->pending, static_cast<unsigned long long>(row) * kKinds + kind);
  atomicAdd(&problems->count, 1ull);
}

__device__ inline bool outside(std::int64_t value, std::int64_t limit) {
  return static_cast<std::uint64_t>(value) >= static_cast<std::uint64_t>(limit);
}

// Whether the entry is to be looked at. If not, the one thread that leads reports and delivers that.
// classes: 0 if there are no targets.
__device__ inline bool admit(const Batch& batch, std::int64_t classes, std::int64_t row, const Sink& sink,
                             bool leads) {
  Kind problem = kNone;
  const bool masked = batch.mask != nullptr && batch.mask[row] == 0;
  if (!masked && batch.ids != nullptr && outside(batch.ids[row], batch.samples)) {
    problem = kBadId;
  } else if (!masked && classes > 0 && outside(batch.targets[row], classes)) {
    problem = kBadTarget;
  }
  if (!masked && problem == kNone) return true;
  if (leads) {
    Gist gist{};
    if (problem == kBadTarget) gist.s = from_bits<double>(static_cast<std::uint64_t>(batch.targets[row]));
    sink.out[row] = gist;
    if (problem != kNone) report(sink.problems, problem, row);
  }
  return false;
}

__device__ inline std::int32_t verdict(float target, float top, bool tied) {
  return target > top || (target == top && !tied) ? kCorrect : kWrong;
}

// An entry of which there is no finite observation.
__device__ inline void leave_out(const Batch& batch, Kind problem, std::int64_t row, const Sink& sink) {
  if (!batch.skip_nonfinite) {
    report(sink.problems, problem, row);
  } else if (sink.problems != nullptr) {
    atomicAdd(&sink.problems->skipped, 1ull);
  }
}

// What was found in an entry, from the one thread that leads.
__device__ inline void deliver(const Batch& batch, std::int64_t row, Gist gist, const Sink& sink) {
  const bool only_loss = gist.code == kLossOnly;
  const bool finite = gist.s - gist.s == 0 && (only_loss || (isfinite(gist.target) && gist.top < INFINITY)) &&
                      (batch.norms == nullptr || isfinite(batch.norms[row]));
  if (!finite && batch.ids == nullptr) {
    gist.code = kNonFinite;
  } else if (!finite) {
    gist.code = kUnseen;
    leave_out(batch, kBadNumber, row, sink);
  }
  sink.out[row] = gist;
  if (batch.ids != nullptr && gist.code != kUnseen) {
    atomicMin(&sink.claims[batch.ids[row]], static_cast<Claim>(row));
  }
}

}  // namespace pyi::cuda
