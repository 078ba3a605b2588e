// Which values have the ranks from one to another, without sorting all: radix select.
#pragma once

#include <cstddef>

#include "order/argsort.h"

namespace pyi::order {

// The positions, ascending, of the values whose ranks in the order of argsort lie in [start, stop):
// argsort(..)[start..stop), sorted. Uint32 where there are at most 2^32 - 1 values, else int64: `positions`
// has room for stop - start of them, start <= stop <= n.
//
// Cost: the two keys at the ends are found digit by digit from the highest, one pass over the values for 11
// bits each, then two passes collect; nothing but the counters of a digit is kept. Where the ends fall among
// equal values, the earlier ones come first. The result does not depend on `threads`. T: float.
template <class T>
void select_ranks(const T* values, std::size_t n, bool descending, int threads, std::size_t start,
                  std::size_t stop, Positions positions);

}  // namespace pyi::order
