// A block a sequence: the tokens' losses are doubles, and of those a thread has a few.
#include "launch.h"
#include "observe/entry_cuda.h"
#include "observe/team_cuda.h"

namespace pyi::cuda {
namespace {

// The first live token whose target is none, of those that a thread has; or the length.
__device__ std::int64_t first_wrong(const Tokens& tokens, std::int64_t row) {
  std::int64_t t = threadIdx.x;
  for (; t < tokens.length; t += kThreads) {
    const std::int64_t at = row * tokens.length + t;
    const bool live = tokens.live == nullptr || tokens.live[at] != 0;
    if (live && outside(tokens.targets[at], tokens.logits.classes)) break;
  }
  return t < tokens.length ? t : tokens.length;
}

__global__ void __launch_bounds__(kThreads)
    sequences(Batch batch, Tokens tokens, const Gist* of_tokens, Sink sink) {
  const std::int64_t row = blockIdx.x;
  const bool leads = threadIdx.x == 0;
  if (!admit(batch, 0, row, sink, leads)) return;  // all of the block

  const std::int64_t wrong = block_all(first_wrong(tokens, row), Least{});
  if (wrong < tokens.length) {
    if (!leads) return;
    Gist gist{};
    gist.s = from_bits<double>(static_cast<std::uint64_t>(tokens.targets[row * tokens.length + wrong]));
    sink.out[row] = gist;
    report(sink.problems, kBadTarget, row);
    return;
  }
  double sum = 0;
  int count = 0;
  for (std::int64_t t = threadIdx.x; t < tokens.length; t += kThreads) {
    const Gist gist = of_tokens[row * tokens.length + t];
    if (gist.code == kUnseen) continue;
    sum += gist.code == kNonFinite ? static_cast<double>(NAN) : row_of(gist, NAN).loss;
    ++count;
  }
  sum = block_all(sum, Plus{});
  count = block_all(count, Plus{});
  if (!leads) return;
  Gist gist{};
  if (count > 0) {
    gist.s = sum / count;
    gist.code = kLossOnly;
    deliver(batch, row, gist, sink);
    return;
  }
  sink.out[row] = gist;
  leave_out(batch, kNoTokens, row, sink);
}

}  // namespace

cudaError_t scan_tokens(const Batch& batch, const Tokens& tokens, Gist* of_tokens, Gist* out, Claim* claims,
                        Problems* problems, cudaStream_t stream) {
  Batch each{};
  each.targets = tokens.targets;
  each.mask = tokens.live;
  each.rows = batch.rows * tokens.length;
  const cudaError_t status = scan_logits(each, tokens.logits, of_tokens, nullptr, nullptr, stream);
  if (status != cudaSuccess) return status;
  return launch(sequences, batch.rows, stream, batch, tokens, of_tokens, Sink{out, claims, problems});
}

}  // namespace pyi::cuda
