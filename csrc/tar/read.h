// Reading by position, with every byte and request counted: what the tar part knows of where tars lie.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>

namespace pyi::tar {

struct Count {
  std::int64_t bytes = 0, requests = 0;
};

// What requests to a kind of storage should be like.
struct Habits {
  std::int64_t through;      // bytes of a request when reading through
  std::int64_t skip;         // a longer gap is skipped, not read
  std::int64_t header;       // bytes of a request after a skip: header, small parts, next header
  std::int64_t join;         // what is wanted is fetched in one request where less than this lies between
  std::int64_t most;         // bytes that one request joins at most
  int ahead;                 // requests that are begun before the one waited for is answered
  std::int64_t ahead_bytes;  // what those may hold
};
// A page cache: a request costs microseconds, and the kernel reads ahead.
constexpr Habits kLocal{256 << 10, 32 << 10, 2 << 10, 512, INT64_MAX, 0, 0};
// An object store: a request costs what some megabytes do, and several under way at once cost no more.
constexpr Habits kRemote{2 << 20, 1 << 20, 16 << 10, 64 << 10, 2 << 20, 16, 8 << 20};
// Compressed frames: no request is saved by fetching what nobody wants, and others are decompressed ahead.
constexpr Habits kFramed{2 << 20, 1 << 20, 16 << 10, 512, 2 << 20, 16, 8 << 20};

// Something of known size that is read by position.
class Input {
 public:
  explicit Input(const Habits& habits_) : habits(habits_) {}
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  virtual ~Input() = default;

  // Reads consecutive bytes from `offset` on into n places, all of them. The places are used up. Throws
  // DataError with the offset if it ends before, or cannot be read.
  virtual void read(iovec* places, int n, std::int64_t offset, Count* count) = 0;
  // Says that a later read will ask for just these bytes, reads before it for none after them. They may be
  // fetched meanwhile, and are counted now.
  virtual void expect(std::int64_t offset, std::int64_t n, Count* count) = 0;

  void read(unsigned char* out, std::int64_t n, std::int64_t offset, Count* count) {
    iovec place{out, static_cast<std::size_t>(n)};
    read(&place, 1, offset, count);
  }

  const Habits habits;
};

// A local file.
class Descriptor final : public Input {
 public:
  explicit Descriptor(int fd) : Input(kLocal), fd_(fd) {}
  using Input::read;
  void read(iovec* places, int n, std::int64_t offset, Count* count) override;
  void expect(std::int64_t, std::int64_t, Count*) override {}

 private:
  int fd_;
};

// A window over an input of `size` bytes that moves forward. Where little is skipped it reads through, in
// ever larger requests; where much is skipped (large payloads) it reads just the header.
class Window {
 public:
  Window(Input* input, std::int64_t size) : input_(input), size_(size) {}
  // The bytes at [start, start + length) are `known` already; they stay the caller's.
  Window(Input* input, std::int64_t size, const unsigned char* known, std::int64_t start, std::int64_t length)
      : input_(input), size_(size), start_(start), length_(length), asked_(start + length), data_(known) {}
  // n bytes at offset; the caller has checked that offset + n <= size. Valid until the next call.
  const unsigned char* at(std::int64_t offset, std::int64_t n);
  // Some bytes from offset on, *n of them, at least 1 and at most `most`: as many as come without another
  // request, or with just one.
  const unsigned char* some(std::int64_t offset, std::int64_t most, std::int64_t* n);
  const Count& count() const { return count_; }

 private:
  void fetch(std::int64_t offset, std::int64_t n);
  void look_ahead(std::int64_t end);

  Input* input_;
  std::int64_t size_, start_ = 0, length_ = 0, asked_ = 0, capacity_ = 0;
  std::int64_t ahead_ = 0, expected_ = 0;  // bytes to look ahead; the end of what is expected
  std::int64_t step_ = 0;                  // bytes of the last request
  const unsigned char* data_ = nullptr;    // of start_
  std::unique_ptr<unsigned char[]> buffer_;
  Count count_;
};

}  // namespace pyi::tar
