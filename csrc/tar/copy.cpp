#include "tar/copy.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "errors.h"
#include "tar/crc32c.h"
#include "tar/header.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

// Reads this close are joined. Between two parts of one sample lie padding, a header, and at times a pax
// header before it. Between two samples only less than the smallest sample there is may lie, so that none is
// read that nobody asked for: padding and a header, or, where headers are read as well, padding.
constexpr std::int64_t kJoin = 4 * kBlock;
constexpr std::int64_t kJoinSamples = 2 * kBlock, kJoinCanonical = kBlock;  // less than these
constexpr std::size_t kMaxVectors = 1024;                                   // IOV_MAX
constexpr std::size_t kMaxKey = 1 << 16;
constexpr std::int64_t kMinWindow = 1 << 20;  // holds the header of the longest key and extension
constexpr std::size_t kShown = 200;           // of a name, in an error

std::string_view key_of(const Samples& s, std::int64_t i) {
  const std::int64_t from = s.key_offsets[i];
  return {s.key_text + from, static_cast<std::size_t>(s.key_offsets[i + 1] - from)};
}

std::string name_of(const Samples& s, std::int64_t sample, std::int64_t part) {
  std::string name(key_of(s, sample));
  return name.append(1, '.').append(s.extensions[static_cast<std::size_t>(s.part_ext[part])]);
}

std::string shown(std::string_view name) {
  return std::string(name.substr(0, kShown)) + (name.size() > kShown ? "..." : "");
}

// The output as it passes through memory: filled with headers, read into, summed, written, and filled again.
class Stream {
 public:
  Stream(int out, const std::vector<Source>& sources, const Samples& samples, bool canonical,
         std::int64_t capacity)
      : out_(out),
        sources_(sources),
        samples_(samples),
        join_samples_(canonical ? kJoinCanonical : kJoinSamples),
        capacity_(capacity),
        buffer_(new unsigned char[static_cast<std::size_t>(capacity)]) {}

  // The next n bytes of the output, for the caller to fill. n is at most the capacity.
  unsigned char* take(std::int64_t n) {
    reserve(n);
    unsigned char* p = buffer_.get() + used_;
    used_ += n;
    return p;
  }

  // The next n bytes of the output are those of a source.
  void copy(std::int32_t file, std::int64_t offset, std::int64_t n, std::int64_t sample, std::int64_t part) {
    while (n > 0) {
      if (used_ == capacity_) flush();
      const std::int64_t now = std::min(n, capacity_ - used_);
      pieces_.push_back({file, offset, now, used_, sample, part});
      used_ += now, offset += now, n -= now;
    }
  }

  // The next n bytes are a header that stands in the source just before `payload`; it must be the one that we
  // would write.
  void copy_header(std::int64_t n, std::int32_t file, std::int64_t payload, std::int64_t sample,
                   std::int64_t part) {
    reserve(n);
    checks_.push_back({file, payload - n, n, used_, sample, part});
    copy(file, payload - n, n, sample, part);
  }

  void flush();
  const Written& written() const { return written_; }

 private:
  struct Piece {
    std::int32_t file;
    std::int64_t offset, length, at, sample, part;
  };

  // n bytes in one piece.
  void reserve(std::int64_t n) {
    if (n > capacity_) throw std::logic_error("a header does not fit into the window");
    if (n > capacity_ - used_) flush();
  }

  bool joins(const Piece& last, const Piece& next) const {
    if (next.file != last.file) return false;
    const std::int64_t gap = next.offset - (last.offset + last.length);
    return gap >= 0 && (next.sample == last.sample ? gap <= kJoin : gap < join_samples_);
  }

  void read_run(std::size_t begin, std::size_t end);
  void check_headers();
  void write_out();

  int out_;
  const std::vector<Source>& sources_;
  const Samples& samples_;
  std::int64_t join_samples_, capacity_, used_ = 0;
  std::unique_ptr<unsigned char[]> buffer_;
  std::vector<Piece> pieces_, checks_;
  std::vector<unsigned char> header_;
  Written written_;
};

void Stream::flush() {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
    return std::tie(a.file, a.offset, a.at) < std::tie(b.file, b.offset, b.at);
  });
  for (std::size_t begin = 0, end; begin < pieces_.size(); begin = end) {
    for (end = begin + 1; end < pieces_.size() && 2 * (end - begin) + 1 < kMaxVectors; ++end)
      if (!joins(pieces_[end - 1], pieces_[end])) break;
    read_run(begin, end);
  }
  check_headers();
  write_out();
  pieces_.clear();
  checks_.clear();
  used_ = 0;
}

// Fetches pieces that lie close together, each straight to its place, and the gaps between them to nowhere.
void Stream::read_run(std::size_t begin, std::size_t end) {
  unsigned char nowhere[kJoin];
  iovec vectors[kMaxVectors];
  int n = 0;
  const std::int64_t first = pieces_[begin].offset;
  std::int64_t at = first;
  for (std::size_t i = begin; i < end; ++i) {
    const Piece& p = pieces_[i];
    if (p.offset > at) vectors[n++] = {nowhere, static_cast<std::size_t>(p.offset - at)};
    vectors[n++] = {buffer_.get() + p.at, static_cast<std::size_t>(p.length)};
    at = p.offset + p.length;
  }
  const Source& source = sources_[static_cast<std::size_t>(pieces_[begin].file)];
  const auto fail = [&](const std::string& problem, std::int64_t where) {
    const auto from = pieces_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto to = pieces_.begin() + static_cast<std::ptrdiff_t>(end);
    const auto hit = std::find_if(from, to, [&](const Piece& p) { return p.offset + p.length > where; });
    throw DataError(problem, name_of(samples_, hit->sample, hit->part), where, source.path);
  };
  std::int64_t done = first;
  for (iovec* v = vectors; done < at;) {
    const ssize_t got = preadv(source.fd, v, n - static_cast<int>(v - vectors), done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(std::string("cannot be read (") + std::strerror(errno) + ")", done);
    if (got == 0) fail("the file ends here; it has become shorter since it was indexed", done);
    ++written_.read.requests;
    written_.read.bytes += got;
    done += got;
    for (auto rest = static_cast<std::size_t>(got); rest > 0;) {
      const std::size_t step = std::min(rest, v->iov_len);
      v->iov_base = static_cast<unsigned char*>(v->iov_base) + step;
      v->iov_len -= step;
      rest -= step;
      if (v->iov_len == 0) ++v;
    }
  }
}

void Stream::check_headers() {
  for (const Piece& c : checks_) {
    const std::string name = name_of(samples_, c.sample, c.part);
    header_.resize(static_cast<std::size_t>(c.length));
    write_header(name, samples_.part_size[c.part], header_.data());
    if (std::memcmp(header_.data(), buffer_.get() + c.at, header_.size()) != 0)
      throw DataError("the header here is not the one this sample was written with: the shard is damaged",
                      name, c.offset, sources_[static_cast<std::size_t>(c.file)].path);
  }
}

void Stream::write_out() {
  written_.crc32c = crc32c(written_.crc32c, buffer_.get(), static_cast<std::size_t>(used_));
  for (std::int64_t done = 0; done < used_;) {
    const ssize_t n =
        pwrite(out_, buffer_.get() + done, static_cast<std::size_t>(used_ - done), written_.bytes + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw std::system_error(errno, std::generic_category());
    done += n;
  }
  written_.bytes += used_;
}

void zeros(Stream* stream, std::int64_t n) { std::memset(stream->take(n), 0, static_cast<std::size_t>(n)); }

}  // namespace

void header_sizes(const Samples& s, std::int64_t* out) {
  for (std::int64_t i = 0; i < s.n; ++i) {
    if (key_of(s, i).size() > kMaxKey)
      throw ArgumentError("a key of " + std::to_string(key_of(s, i).size()) + " bytes; at most " +
                          std::to_string(kMaxKey) + " are written");
    for (std::int64_t p = s.part_start[i]; p < s.part_start[i + 1]; ++p) {
      const std::string& extension = s.extensions[static_cast<std::size_t>(s.part_ext[p])];
      if (extension.size() > kMaxExtension)
        throw ArgumentError("an extension of " + std::to_string(extension.size()) + " bytes; at most " +
                            std::to_string(kMaxExtension) + " are written");
      const std::string name = name_of(s, i, p);
      Name back;
      if (has_control(name))
        throw ArgumentError("key '" + shown(key_of(s, i)) + "': holds a control character");
      if (!split_name(name, &back) || back.key != key_of(s, i))
        throw ArgumentError("key '" + shown(key_of(s, i)) + "': a reader would not find it again in '" +
                            shown(name) +
                            "'; the last component of a key has no dots, and __x__ is metadata");
      out[p] = header_bytes(name, s.part_size[p]);
    }
  }
}

Written write_tar(int out, const std::vector<Source>& sources, const Samples& s, bool canonical,
                  std::int64_t window) {
  std::vector<std::int64_t> headers(static_cast<std::size_t>(s.part_start[s.n]));
  header_sizes(s, headers.data());
  Stream stream(out, sources, s, canonical, std::max(window, kMinWindow));
  for (std::int64_t i = 0; i < s.n; ++i) {
    for (std::int64_t p = s.part_start[i]; p < s.part_start[i + 1]; ++p) {
      const std::int64_t n = headers[static_cast<std::size_t>(p)];
      if (canonical)
        stream.copy_header(n, s.file[i], s.part_offset[p], i, p);
      else
        write_header(name_of(s, i, p), s.part_size[p], stream.take(n));
      stream.copy(s.file[i], s.part_offset[p], s.part_size[p], i, p);
      zeros(&stream, padding(s.part_size[p]));
    }
  }
  zeros(&stream, kEndBlocks);
  stream.flush();
  return stream.written();
}

}  // namespace pyi::tar
