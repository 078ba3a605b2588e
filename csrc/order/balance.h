// Samples of a stratum to workers, so that bytes come out nearly even: longest processing time first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyi::order {

// Writes to owner[0..edges[strata]) who gets each sample: of the samples edges[s] .. edges[s + 1] - 1, worker
// w gets shares[s * workers + w], and so n_w in all. A stratum's samples go by descending size (equal ones by
// position), each to the worker with a place left in it whose remaining places (of all strata) must be filled
// with the largest samples on average, if its bytes are to be n_w / n of all (equal ones: the lowest). Where
// all have as many places, that is the worker with the fewest bytes so far. Strata go by descending
// difference between their largest and smallest sample (equal ones by position).
//
// So that two workers with as many samples end up within about the difference of the sizes of the last, most
// even strata. Needs: shares of a stratum sum to its length; sizes >= 0 with a sum below 2^63; n < 2^32. Cost
// O(n (log longest stratum + log workers)). One thread: every choice hangs on the ones before it.
void balance(const std::int64_t* sizes, const std::int64_t* edges, std::size_t strata,
             const std::int64_t* shares, std::size_t workers, std::int32_t* owner);

}  // namespace pyi::order
