// The epoch in progress on a CUDA device: a buffer of one row per sample in which the first row that arrives
// stands, as in epoch.h; and its fold. On the stream, in its order, as rows_cuda.h.
#pragma once

#include "observe/fold.h"
#include "observe/rows_cuda.h"

namespace pyi::cuda {

// Gists [batch.rows] -> the epoch's rows [batch.samples]: those that hold the claim to their id, which they
// give up, and whose sample has no row yet. Of several entries of an id the first that is finite stands,
// whatever the order in which threads run. Makes the first of all problems known.
cudaError_t store_rows(const Batch&, const Gist*, Claim* claims, Problems*, Row* epoch, cudaStream_t);

// The rows of gists, each in its place.
cudaError_t settle_rows(const Gist*, std::int64_t n, Row* out, cudaStream_t);

// Rows observed elsewhere, no two of one id. One whose id or code cannot be is left out, and a problem.
cudaError_t commit_rows(const std::int64_t* ids, const Row* rows, std::int64_t n, Row* epoch,
                        std::int64_t samples, Problems*, cudaStream_t);

// Folds the epoch's rows [samples] into the columns, all of them on the device, and makes the rows unseen.
cudaError_t fold_rows(const Columns&, Row* rows, std::int64_t samples, std::int32_t epoch, cudaStream_t);

}  // namespace pyi::cuda
