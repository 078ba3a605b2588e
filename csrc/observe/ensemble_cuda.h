// Members of an ensemble -> running state on a CUDA device, as ensemble.h; on the stream, as rows_cuda.h. All
// pointers are to device memory. Numbers agree with the host's to what exponentials are good to, 3e-12, and
// all but the sums exactly.
#pragma once

#include "observe/ensemble.h"
#include "observe/rows_cuda.h"

namespace pyi::cuda {

// Who speaks of a sample in the member in progress: nobody yet (kFree), somebody has (kTaken), or, while
// kernels run, an entry of the batch that is being added: its position and 1.
constexpr Claim kFree = ~Claim{0}, kTaken = 0;

// Adds the rows that can be added, classes adjacent, at most 2^31 - 1 of each. What is wrong with the others
// is recorded: an id (kBadId) or target (kBadTarget) out of range, a sample that the member has spoken of, of
// several in the batch all but the first (kRepeated), and what is no distribution (kBadNumber).
// state.seen is not looked at; claims are, where there are ids.
cudaError_t add_predictions(const EnsembleState&, const Predictions&, Claim* claims, Problems*, cudaStream_t);

// Entropy of the mean probabilities, nats, NaN where nobody has spoken; and most votes for one class.
cudaError_t summarize(const EnsembleState&, double* entropy, std::int32_t* most_votes, cudaStream_t);

}  // namespace pyi::cuda
