// What the targets share: inputs as descriptors, and what must hold of anything that was read from one.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "tar/copy.h"
#include "tar/scan.h"

namespace fuzz {

// Ends the process as a finding does: the drivers keep the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// The input as a file, by one of the two habits of reading. What was announced must be asked for as it was,
// unless `any_order`: samples of an index from somewhere may overlap.
class Bytes final : public pyi::tar::Input {
 public:
  Bytes(const std::uint8_t* data, std::size_t size, const pyi::tar::Habits& habits, bool any_order = false)
      : Input(habits), data_(data), size_(static_cast<std::int64_t>(size)), any_order_(any_order) {}
  using Input::read;
  void read(iovec* places, int n, std::int64_t offset, pyi::tar::Count* count) override {
    std::int64_t end = offset, start = offset;
    for (int i = 0; i < n; ++i) end += static_cast<std::int64_t>(places[i].iov_len);
    if (!any_order_ && !expected_.empty() && end > expected_.front().first) {
      require(offset == expected_.front().first && end == expected_.front().second, "a read is as announced");
      expected_.pop_front();
    }
    require(offset >= 0 && end >= offset, "a read lies somewhere");
    for (int i = 0; i < n; ++i) {
      const auto length = static_cast<std::int64_t>(places[i].iov_len);
      if (length > size_ - offset) throw pyi::DataError("the input ends here", "", size_);
      if (length > 0) std::memcpy(places[i].iov_base, data_ + offset, places[i].iov_len);
      offset += length;
    }
    count->bytes += end - start;
    ++count->requests;
  }
  void expect(std::int64_t offset, std::int64_t n, pyi::tar::Count*) override {
    require(any_order_ || expected_.empty() || expected_.back().second <= offset, "announced in order");
    require(offset >= 0 && n > 0 && n <= size_ - offset, "announced is what is there");
    expected_.emplace_back(offset, offset + n);
  }

 private:
  const std::uint8_t* data_;
  std::int64_t size_;
  bool any_order_;
  std::deque<std::pair<std::int64_t, std::int64_t>> expected_;
};

// What the copier writes to: a file in memory, reused from input to input.
class File {
 public:
  File() : fd_(memfd_create("fuzz", 0)) { require(fd_ >= 0, "memfd_create"); }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  std::vector<std::uint8_t> bytes(std::int64_t n) const {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(n));
    require(pread(fd_, out.data(), out.size(), 0) == n, "what was written is there");
    return out;
  }

 private:
  int fd_;
};

// The columns as they go to the copier, in the order in which the tar has them.
inline pyi::tar::Samples samples_of(const pyi::tar::Columns& c, const std::vector<std::int32_t>& file) {
  return {c.samples(),          c.key_offsets.data(), c.key_text.data(), c.part_start.data(),
          c.part_ext.data(),    c.part_size.data(),   file.data(),       c.offset.data(),
          c.part_offset.data(), c.extensions};
}

// What a reader of an index relies on (sample_index.py checks the same of indexes that are read).
inline void check_columns(const pyi::tar::Columns& c, std::int64_t size) {
  require(c.key_offsets.size() == c.offset.size() + 1, "a key per sample");
  require(c.part_start.size() == c.offset.size() + 1, "parts per sample");
  std::int64_t end = 0;
  for (std::size_t i = 0; i < c.offset.size(); ++i) {
    require(c.key_offsets[i] < c.key_offsets[i + 1], "keys are not empty");
    require(c.offset[i] >= end && c.offset[i] % 512 == 0 && c.nbytes[i] % 512 == 0,
            "samples follow each other");
    require(c.part_start[i] < c.part_start[i + 1], "samples have parts");
    std::int64_t at = c.offset[i];
    end = at + c.nbytes[i];
    for (auto p = static_cast<std::size_t>(c.part_start[i]);
         p < static_cast<std::size_t>(c.part_start[i + 1]); ++p) {
      require(c.part_offset[p] >= at + 512 && c.part_size[p] >= 0, "a payload comes after its header");
      at = c.part_offset[p] + c.part_size[p];
      require(at <= end, "a part lies in its sample");
      require(c.part_ext[p] >= 0 && c.part_ext[p] < static_cast<std::int64_t>(c.extensions.size()),
              "extension");
    }
    require(end <= size, "a sample lies in its file");
  }
}

}  // namespace fuzz
