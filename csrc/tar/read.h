// Reading by position through a descriptor, with every byte and request counted.
#pragma once

#include <cstdint>
#include <memory>

namespace pyi::tar {

struct Count {
  std::int64_t bytes = 0, requests = 0;
};

// Reads n bytes at offset, all of them. Throws DataError if the file ends before or cannot be read.
void read_at(int fd, unsigned char* out, std::int64_t n, std::int64_t offset, Count* count);

// A window over a file that moves forward. Where little is skipped it reads through in large requests; where
// much is skipped (large payloads) it reads just the header.
class Window {
 public:
  Window(int fd, std::int64_t size) : fd_(fd), size_(size) {}
  // The bytes at [start, start + length) are `known` already; they stay the caller's.
  Window(int fd, std::int64_t size, const unsigned char* known, std::int64_t start, std::int64_t length)
      : fd_(fd), size_(size), start_(start), length_(length), data_(known) {}
  // n bytes at offset; the caller has checked that offset + n <= size. Valid until the next call.
  const unsigned char* at(std::int64_t offset, std::int64_t n);
  const Count& count() const { return count_; }

 private:
  int fd_;
  std::int64_t size_, start_ = 0, length_ = 0, capacity_ = 0;
  const unsigned char* data_ = nullptr;  // of start_
  std::unique_ptr<unsigned char[]> buffer_;
  Count count_;
};

}  // namespace pyi::tar
