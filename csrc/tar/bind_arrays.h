// Arrays as they come from Python, and the samples that they are columns of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "module.h"
#include "tar/samples.h"

namespace pyi {

using Int64s = Array<std::int64_t>;
using Int32s = Array<std::int32_t>;
using Bytes = Array<std::uint8_t>;

// Throws ArgumentError unless it holds.
void require(bool holds, const char* problem);

// Offsets that cut an array of `total` into runs: from 0 to total, never falling. Throws ArgumentError.
void check_offsets(const Int64s& offsets, py::ssize_t total, const char* problem);

// Samples without places in a source. The arrays stay the caller's. Throws ArgumentError where they do not
// fit each other.
tar::Samples samples_of(const Int64s& key_offsets, const Bytes& key_text, std::vector<std::string> extensions,
                        const Int64s& part_start, const Int32s& part_ext, const Int64s& part_size);

}  // namespace pyi
