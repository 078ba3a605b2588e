// A thread an entry, or a thread a sample.
#include "launch.h"
#include "observe/entry_cuda.h"
#include "observe/epoch_cuda.h"

namespace pyi::cuda {
namespace {

__device__ std::int64_t thread_number() {
  return blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
}

__global__ void __launch_bounds__(kThreads) losses(Batch batch, const double* loss, Sink sink) {
  const std::int64_t row = thread_number();
  if (row >= batch.rows || !admit(batch, 0, row, sink, true)) return;
  Gist gist{};
  gist.s = loss[row];
  gist.code = kLossOnly;
  deliver(batch, row, gist, sink);
}

// The batch's first problem becomes the first of all, unless there was one before. value_of(kind, position):
// what is wrong, if not the id.
template <class ValueOf>
__device__ void make_known(const std::int64_t* ids, Problems* problems, const ValueOf& value_of) {
  const unsigned long long pending = problems->pending;
  if (pending == ~0ull || problems->kind != kNone) return;
  problems->kind = static_cast<std::int64_t>(pending % kKinds);
  problems->position = static_cast<std::int64_t>(pending / kKinds);
  problems->id = ids[problems->position];
  problems->value = value_of(problems->kind, problems->position);
}

__global__ void __launch_bounds__(kThreads)
    store(Batch batch, const Gist* gists, Claim* claims, Problems* problems, Row* epoch) {
  const std::int64_t i = thread_number();
  if (i == 0) {
    make_known(batch.ids, problems, [&](std::int64_t kind, std::int64_t at) {
      return kind == kBadTarget ? static_cast<std::int64_t>(to_bits(gists[at].s)) : 0;
    });
  }
  if (i >= batch.rows || gists[i].code == kUnseen) return;
  const std::int64_t id = batch.ids[i];
  // Who holds the claim gives it up: the others find another's, or none.
  if (atomicCAS(&claims[id], static_cast<Claim>(i), ~Claim{0}) != static_cast<Claim>(i)) return;
  if (epoch[id].code != kUnseen) return;
  epoch[id] = row_of(gists[i], batch.norms != nullptr ? batch.norms[i] : NAN);
}

__global__ void __launch_bounds__(kThreads) settle(const Gist* gists, std::int64_t n, Row* out) {
  const std::int64_t i = thread_number();
  if (i >= n) return;
  const Gist gist = gists[i];
  Row row{};
  row.code = gist.code;
  out[i] = gist.code == kUnseen || gist.code == kNonFinite ? row : row_of(gist, NAN);
}

__global__ void __launch_bounds__(kThreads) commit(const std::int64_t* ids, const Row* rows, std::int64_t n,
                                                   Row* epoch, std::int64_t samples, Problems* problems) {
  const std::int64_t i = thread_number();
  if (i >= n) return;
  if (outside(ids[i], samples)) {
    report(problems, kBadId, i);
  } else if (rows[i].code < kWrong || rows[i].code > kLossOnly) {
    report(problems, kBadCode, i);
  } else if (epoch[ids[i]].code == kUnseen) {
    epoch[ids[i]] = rows[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    after_commit(const std::int64_t* ids, const Row* rows, Problems* problems) {
  if (thread_number() != 0) return;
  make_known(ids, problems,
             [&](std::int64_t kind, std::int64_t at) { return kind == kBadCode ? rows[at].code : 0; });
}

__global__ void __launch_bounds__(kThreads)
    fold_all(Columns columns, Row* rows, std::int64_t samples, std::int32_t epoch) {
  const std::int64_t i = thread_number();
  if (i >= samples) return;
  const Row row = rows[i];
  if (row.code == kUnseen) return;
  fold(columns, i, row, epoch);
  rows[i] = Row{};
}

}  // namespace

cudaError_t scan_losses(const Batch& batch, const double* loss, Gist* out, Claim* claims, Problems* problems,
                        cudaStream_t stream) {
  return launch(losses, blocks_for(batch.rows), stream, batch, loss, Sink{out, claims, problems});
}

cudaError_t store_rows(const Batch& batch, const Gist* gists, Claim* claims, Problems* problems, Row* epoch,
                       cudaStream_t stream) {
  return launch(store, blocks_for(batch.rows), stream, batch, gists, claims, problems, epoch);
}

cudaError_t settle_rows(const Gist* gists, std::int64_t n, Row* out, cudaStream_t stream) {
  return launch(settle, blocks_for(n), stream, gists, n, out);
}

cudaError_t commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch,
                        std::int64_t samples, Problems* problems, cudaStream_t stream) {
  const cudaError_t status = launch(commit, blocks_for(n), stream, ids, rows, n, epoch, samples, problems);
  if (status != cudaSuccess) return status;
  return launch(after_commit, 1, stream, ids, rows, problems);
}

cudaError_t fold_rows(const Columns& columns, Row* rows, std::int64_t samples, std::int32_t epoch,
                      cudaStream_t stream) {
  return launch(fold_all, blocks_for(samples), stream, columns, rows, samples, epoch);
}

}  // namespace pyi::cuda
