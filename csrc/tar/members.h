// The members of a tar, one by one, with what extended headers say about them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "tar/header.h"
#include "tar/read.h"

namespace pyi::tar {

struct Member {
  std::string name;
  char type;             // '0', a file; '5', a directory; 'V', a volume label
  std::int64_t start;    // of its first header, a pax header before it included
  std::int64_t header;   // of its own header
  std::int64_t payload;  // where the payload starts
  std::int64_t size;
};

// Walks from `begin`, where a header is expected, to the end of a tar of `size` bytes.
class Members {
 public:
  Members(Window window, std::int64_t begin, std::int64_t size, bool allow_missing_eof)
      : window_(std::move(window)), size_(size), allow_missing_eof_(allow_missing_eof), at_(begin) {}

  // False at the end of the archive. `m` comes with the member before, if there was one. Throws DataError
  // with member and offset for what is no sound tar, for names that `check_name` refuses, and for members
  // that are neither files nor directories.
  bool next(Member* m);
  // CRC32C of the payload of the member that `next` came to last. Throws DataError where it cannot be read.
  std::uint32_t payload_crc32c(const Member& m);
  const Count& count() const { return window_.count(); }

 private:
  bool at_end();
  Header header();
  [[noreturn]] void truncated(const std::string& how, const char* more = "") const;
  std::string_view body(const Header& h, const char* what);
  void extend(const Header& h);
  void finish(Header&& h, Member* m);

  Window window_;
  std::int64_t size_;
  bool allow_missing_eof_;
  std::int64_t at_;
  const std::string* last_ = nullptr;  // name of the member before
  std::string long_name_;              // of a GNU 'L' header before the member
  Extended pax_;
  bool has_pax_ = false;
};

}  // namespace pyi::tar
