// An index, as the loader's native code and the samples it makes need it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "load/window.h"
#include "module.h"

namespace pyi {

using Int64s = Array<std::int64_t>;
using Int32s = Array<std::int32_t>;
using Bytes = Array<std::uint8_t>;

using LoadField = std::tuple<std::string, std::int64_t, std::string>;  // extension, bytes, and in words

// The arrays of a SampleIndex, which were checked when it was made, and what its samples have in common.
struct LoadColumns {
  LoadColumns(Int64s key_offsets, Bytes key_text, const std::vector<std::string>& extensions, Int64s ids,
              Int32s file, Int64s offset, Int64s nbytes, Int64s part_start, Int32s part_ext,
              Int64s part_offset, Int64s part_size, const std::vector<std::string>& files,
              const std::vector<LoadField>& fields);

  // Throws ArgumentError where a row, or what the index has of it, is out of range.
  void check_rows(const std::int64_t* rows, std::int64_t n) const;

  std::vector<py::object> arrays;  // keeps them
  load::Index index;
  std::int64_t N, P, text;
  std::vector<py::str> names, urls;  // of extensions; of files
  std::vector<LoadField> fields;
  std::vector<int> field_of;  // by extension; -1: of none
};

}  // namespace pyi
