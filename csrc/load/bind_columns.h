// An index, as the loader's native code and the samples it makes need it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "load/bind_bytes.h"
#include "load/buffers.h"
#include "load/window.h"
#include "tar/bind_arrays.h"

namespace pyi {

using LoadField = std::tuple<std::string, std::int64_t, std::string>;  // extension, bytes, and in words

// The arrays of a SampleIndex, which were checked when it was made, and what its samples have in common; the
// names of its parts in the tars, none where they are those of the samples.
struct LoadColumns {
  LoadColumns(Int64s key_offsets, Bytes key_text, const std::vector<std::string>& extensions, Int64s ids,
              Int32s file, Int64s offset, Int64s nbytes, Int64s part_start, Int32s part_ext,
              Int64s part_offset, Int64s part_size, const std::vector<std::string>& files,
              const std::vector<LoadField>& fields, bool views, const std::optional<Int64s>& part_begin,
              const std::optional<Int64s>& name_offsets, const std::optional<Bytes>& name_text);

  // Throws ArgumentError where a row, or what the index has of it, is out of range.
  void check_rows(const std::int64_t* rows, std::int64_t n) const;
  // The field that a part of this size is, -1 where it is none, or one that is not as it should be.
  int field(std::int32_t extension, std::int64_t size) const {
    const int f = field_of[static_cast<std::size_t>(extension)];
    return f >= 0 && std::get<1>(fields[static_cast<std::size_t>(f)]) == size ? f : -1;
  }

  std::vector<py::object> arrays;  // keeps them
  load::Index index;
  std::int64_t N, P, text, names_text;
  std::vector<py::str> names, urls;  // of extensions; of files
  std::vector<LoadField> fields;
  std::vector<int> field_of;  // by extension; -1: of none
  bool views;                 // parts are views of a window's memory, not bytes objects
  // What windows and batches were read into. It stays from one iteration to the next, and as nobody uses it
  // without the GIL, a fork's child may as well.
  load::Buffers buffers;
  BytesPool bytes;
};

// Memory for a field of a batch, or of a window whose parts are looked at where they are. The last who has it
// gives it back.
class LoadMemory {
 public:
  LoadMemory(std::shared_ptr<LoadColumns> columns, load::Buffer buffer, std::int64_t nbytes, bool read_only)
      : columns_(std::move(columns)), buffer_(std::move(buffer)), n_(nbytes), read_only_(read_only) {}
  ~LoadMemory() { columns_->buffers.give_back(std::move(buffer_)); }
  LoadMemory(const LoadMemory&) = delete;
  LoadMemory& operator=(const LoadMemory&) = delete;

  unsigned char* data() const { return buffer_.data.get(); }
  std::int64_t size() const { return n_; }
  bool read_only() const { return read_only_; }

 private:
  std::shared_ptr<LoadColumns> columns_;
  load::Buffer buffer_;
  std::int64_t n_;
  bool read_only_;
};

}  // namespace pyi
