// Samples that are read together: where every byte of them goes, and what was wrong with which.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "load/buffers.h"
#include "tar/check.h"
#include "tar/samples.h"

namespace pyi::load {

// An index, with what of it the tar part does not use. Pointers are the caller's.
struct Index {
  tar::Samples samples;
  const std::int64_t *ids, *nbytes;  // [samples.n]
  const std::int64_t* part_begin;    // [P] of a part's first header; null: where the part before it ends
  std::vector<std::string> files;    // paths, for errors
  // What parts are called where they lie, if not by key and extension of their samples: text, and [P + 1].
  const std::int64_t* name_offsets = nullptr;
  const char* name_text = nullptr;
};

// Where a part lies in memory.
struct Piece {
  unsigned char* data;
  std::int64_t size;
  std::int32_t extension;
  bool own;  // in a place that the caller gave
};

// What is needed of a sample once it is read, in one place: an index is far larger than a cache.
struct Lying {
  std::int64_t row, id;
  const char* key;
  std::int32_t key_size, file;
  std::uint32_t piece, pieces;
};

// Contiguous bytes of a file, read in one request, and the samples in them, maybe with others between them:
// of the first and of the last one maybe only some of the parts.
struct Range {
  std::int32_t file;
  std::int64_t offset, nbytes;
  std::size_t begin, end;              // of the window's samples, in order of storage
  std::uint32_t piece, piece_end = 0;  // of the window's pieces
  std::int64_t kept = 0;               // where in the window's buffer it lies, if it stays as it is
};

// Planned samples of an index, whose ranges are read in any order by any threads: each writes to places of
// its own, so that what comes out depends on nothing but the files. Payloads of kDirect bytes or more are
// read to where they stay. What is smaller is read, with the headers, to memory that is still in the thread's
// cache when they are checked, and copied from there: to where the caller wants it, or into one buffer. A
// window that keeps all as it lies has ranges in that buffer with headers and padding, and parts where they
// are in it; only those that the caller has a place for go there.
class Window {
 public:
  static constexpr std::int64_t kDirect = 16 << 10;
  static constexpr std::int64_t kRange = 4 << 20;  // a longer stretch is cut, for threads to share
  // The page cache's pages, whole ones of which are read, have at least that many bytes.
  static constexpr std::int64_t kPage = 4 << 10;

  // rows [n] of the index, in any order, repeated ones are read once; the index outlives the window. What
  // lies between two parts or samples is read with them where it has no whole page, since those that it has
  // parts of are read for its neighbours, and where it is less than `join` bytes; never where `join` is -1.
  // place(i, size, extension) gives memory of that size for a part of sample i, null to have it in the
  // buffer, where ranges stay as they are if `as_it_lies`. Throws DataError for a sample whose parts do not
  // lie one after another.
  using Place = std::function<unsigned char*(std::int64_t i, std::int64_t size, std::int32_t extension)>;
  Window(const Index& index, const std::int64_t* rows, std::int64_t n, std::int64_t join, const Place& place,
         bool as_it_lies, Buffers* buffers);
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  std::int64_t samples() const { return static_cast<std::int64_t>(number_.size()); }
  const Lying& sample(std::int64_t i) const { return lying_[number_[static_cast<std::size_t>(i)]]; }
  // The parts of a sample, as many as it says.
  const Piece* pieces(const Lying& sample) const { return &pieces_[sample.piece]; }
  // All of them, in order of storage and each once, and what is wrong with the number-th; it is read all the
  // same.
  const std::vector<Lying>& lying() const { return lying_; }
  void fail(std::size_t number, const DataError& error);
  // Puts sample j in the place of sample i.
  void replace(std::int64_t i, std::int64_t j) {
    number_[static_cast<std::size_t>(i)] = number_[static_cast<std::size_t>(j)];
  }

  const std::vector<Range>& ranges() const { return ranges_; }
  // (begin, end) of the bytes of a file that are read, ascending and apart.
  std::vector<std::pair<std::int64_t, std::int64_t>> spans(std::int32_t file) const;
  // Reads a range and checks the headers in it (tar/check.h). What is wrong is kept, for `errors`. Where the
  // whole cannot be read, its samples are read one by one. `scratch` is the thread's, of the size of what
  // passes through it.
  void read(const Range& range, const tar::Source& source, Buffer* scratch) noexcept;

  // Says what is wrong with a file, none of whose ranges will be read.
  void give_up(std::int32_t file, const DataError& error);
  // Whether all ranges were read, or are known to be in error.
  bool whole() const { return done_ == ranges_.size(); }
  // Bytes and requests that were read so far.
  tar::Count count() const;
  // (sample, what is wrong with it), ascending. To be asked when all was read.
  std::vector<std::pair<std::int64_t, DataError>> errors() const;

  std::atomic<std::int64_t> left{0};  // ranges that are asked for and not read yet; ReadAhead counts them

  // The buffer, once nobody reads to it: who has it has what is in it.
  Buffer release() { return std::move(buffer_); }
  const Buffer& buffer() const { return buffer_; }

 private:
  struct Spot;

  std::vector<std::uint32_t> arrange(const std::int64_t* rows, std::size_t n);
  void lay_out(const std::vector<std::uint32_t>& first, std::int64_t join, const Place& place);
  void add_to_ranges(std::size_t number, std::uint32_t piece, std::int64_t begin, std::int64_t end,
                     std::int64_t join);
  void place_in_buffer(Buffers* buffers);
  std::int64_t end_of(std::size_t number) const;
  std::int64_t gap_after(const Range& range, std::size_t number) const;
  std::int64_t header_of(std::int64_t row, std::int64_t part) const;
  tar::Place place_of(std::int64_t row, std::int64_t part) const;
  // Read to where it stays; else it passes through the scratch memory, or stays in the buffer with all else.
  static bool is_direct(const Piece& piece) { return piece.own && piece.size >= kDirect; }
  template <class F>
  std::int64_t each_part(const Range& range, std::size_t number, std::int64_t at, const F& f) const;
  unsigned char* room_for(const Range& range, Buffer* scratch) const;
  void read_whole(const Range& range, const tar::Source& source, unsigned char* to, unsigned char* gaps,
                  tar::Count* count) const;
  void read_alone(const Range& range, std::size_t number, std::int64_t at, const tar::Source& source,
                  unsigned char* scratch, tar::Count* count) const;

  const Index& index_;
  const tar::Samples& s_;
  const bool as_it_lies_;
  std::vector<std::uint32_t> number_;  // of each sample, which of the lying ones it is
  std::vector<Lying> lying_;           // in order of storage, each row once
  std::vector<Piece> pieces_;
  std::vector<Range> ranges_;
  Buffer buffer_;
  std::atomic<std::size_t> done_{0};
  mutable std::mutex mutex_;
  tar::Count count_;
  std::map<std::size_t, DataError> errors_;  // by number
};

}  // namespace pyi::load
