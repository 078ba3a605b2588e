#include "tar/read.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "errors.h"

namespace pyi::tar {

constexpr std::int64_t kGrowth = 8;  // of requests, while nothing is skipped

void Descriptor::read(iovec* places, int n, std::int64_t offset, Count* count) {
  for (iovec* const end = places + n;;) {
    while (places != end && places->iov_len == 0) ++places;
    if (places == end) return;
    const ssize_t got = preadv(fd_, places, static_cast<int>(end - places), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(std::string("cannot be read (") + std::strerror(errno) + ")", "", offset);
    if (got == 0) throw DataError("the file ends here; it has become shorter", "", offset);
    ++count->requests;
    count->bytes += got;
    offset += got;
    for (auto rest = static_cast<std::size_t>(got); rest > 0; places += places->iov_len == 0) {
      const std::size_t step = std::min(rest, places->iov_len);
      places->iov_base = static_cast<unsigned char*>(places->iov_base) + step;
      places->iov_len -= step;
      rest -= step;
    }
  }
}

void Window::fetch(std::int64_t offset, std::int64_t n) {
  if (n > capacity_) {
    buffer_.reset(new unsigned char[static_cast<std::size_t>(n)]);
    capacity_ = n;
  }
  length_ = 0;
  input_->read(buffer_.get(), n, offset, &count_);
  start_ = offset;
  length_ = n;
  data_ = buffer_.get();
}

// Who reads through says what comes after `end`, more of it every time. Windows then end at multiples of
// their size, so that the next ones are known before anybody knows which header comes first in them.
void Window::look_ahead(std::int64_t end) {
  const Habits& h = input_->habits;
  for (expected_ = std::max(expected_, end); expected_ < std::min(size_, end + ahead_);) {
    const std::int64_t n = std::min(h.through, size_ - expected_);
    input_->expect(expected_, n, &count_);
    expected_ += n;
  }
  ahead_ = std::min(2 * ahead_ + h.through, h.ahead_bytes - h.through);
}

const unsigned char* Window::at(std::int64_t offset, std::int64_t n) {
  const Habits& h = input_->habits;
  const std::int64_t end = start_ + length_;
  if (offset < start_ || offset + n > end) {
    // Large windows end somewhere in a payload: how much is skipped is seen from what was asked for before.
    const bool skips = offset - (h.ahead > 0 ? asked_ : end) > h.skip;
    if (skips) ahead_ = 0;
    const std::int64_t cell = offset / h.through * h.through;
    if (end <= cell && cell < expected_ && offset + n <= cell + h.through) {
      if (!skips) look_ahead(cell + h.through);
      fetch(cell, std::min(h.through, size_ - cell));
    } else if (h.ahead == 0 || skips) {
      // After a skip little is read, and more each time for as long as nothing is skipped.
      step_ = skips ? h.header : std::min(h.through, kGrowth * std::max(step_, h.header));
      fetch(offset, std::min(std::max(n, step_), size_ - offset));
    } else {
      const std::int64_t last = std::min(size_, (offset + n + h.through - 1) / h.through * h.through);
      look_ahead(last);
      fetch(offset, last - offset);
    }
  }
  asked_ = offset + n;
  return data_ + (offset - start_);
}

const unsigned char* Window::some(std::int64_t offset, std::int64_t most, std::int64_t* n) {
  const std::int64_t end = start_ + length_, through = input_->habits.through;
  const bool here = start_ <= offset && offset < end;
  *n = std::min(most, here ? end - offset : through - offset % through);
  return at(offset, *n);
}

}  // namespace pyi::tar
