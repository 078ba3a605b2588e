// An input that is read from front to back by somebody who skips payloads, and summed whole on the way: every
// byte is fetched once, and looked at while it is in the caches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "tar/crc32c.h"
#include "tar/read.h"

namespace pyi::tar {

class Summing final : public Input {
 public:
  explicit Summing(Input* input) : Input(in_order(input->habits)), input_(input) {}
  using Input::read;

  // What lies between the furthest byte read so far and `offset` is read and summed first. What was read
  // before may be read again, as a window does that moves by less than its length.
  void read(iovec* places, int n, std::int64_t offset, Count*) override {
    pass(offset);
    for (int i = 0; i < n; ++i) {
      auto* data = static_cast<unsigned char*>(places[i].iov_base);
      const auto length = static_cast<std::int64_t>(places[i].iov_len);
      input_->read(data, length, offset, &count_);
      sum(data, length, offset);
      offset += length;
    }
  }
  void expect(std::int64_t, std::int64_t, Count*) override {}

  // CRC32C of the first `size` bytes, which are all of it.
  std::uint32_t finish(std::int64_t size) {
    pass(size);
    return crc_;
  }
  const Count& count() const { return count_; }

 private:
  static constexpr std::int64_t kChunk = 256 << 10;

  static Habits in_order(Habits h) {
    h.skip = INT64_MAX;  // what is skipped is read here all the same
    h.ahead = 0;
    return h;
  }

  void pass(std::int64_t end) {
    if (at_ < end && scratch_ == nullptr) scratch_.reset(new unsigned char[kChunk]);
    while (at_ < end) {
      const std::int64_t n = std::min(kChunk, end - at_);
      input_->read(scratch_.get(), n, at_, &count_);
      sum(scratch_.get(), n, at_);
    }
  }

  void sum(const unsigned char* data, std::int64_t n, std::int64_t offset) {
    if (offset + n <= at_) return;
    crc_ = crc32c(crc_, data + (at_ - offset), static_cast<std::size_t>(offset + n - at_));
    at_ = offset + n;
  }

  Input* input_;
  std::int64_t at_ = 0;  // what lies before is summed
  std::uint32_t crc_ = 0;
  Count count_;  // of all that was read; callers' own are left alone
  std::unique_ptr<unsigned char[]> scratch_;
};

}  // namespace pyi::tar
