#include "tar/read.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "errors.h"

namespace pyi::tar {
namespace {

constexpr std::int64_t kThrough = 256 << 10;  // a request when reading through
constexpr std::int64_t kSkip = 32 << 10;      // a longer gap is skipped, not read
constexpr std::int64_t kHeader = 4 << 10;     // a request after a skip: header, small parts, next header

}  // namespace

void read_at(int fd, unsigned char* out, std::int64_t n, std::int64_t offset, Count* count) {
  while (n > 0) {
    const ssize_t got = pread(fd, out, static_cast<std::size_t>(n), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(std::string("cannot be read (") + std::strerror(errno) + ")", "", offset);
    if (got == 0) throw DataError("the file ends here; it has become shorter", "", offset);
    ++count->requests;
    count->bytes += got;
    out += got, offset += got, n -= got;
  }
}

const unsigned char* Window::at(std::int64_t offset, std::int64_t n) {
  if (offset < start_ || offset + n > start_ + length_) {
    const std::int64_t gap = offset - (start_ + length_);
    const std::int64_t wanted = std::min(std::max(n, gap > kSkip ? kHeader : kThrough), size_ - offset);
    if (wanted > capacity_) {
      buffer_.reset(new unsigned char[static_cast<std::size_t>(wanted)]);
      capacity_ = wanted;
    }
    length_ = 0;
    read_at(fd_, buffer_.get(), wanted, offset, &count_);
    start_ = offset;
    length_ = wanted;
    data_ = buffer_.get();
  }
  return data_ + (offset - start_);
}

}  // namespace pyi::tar
