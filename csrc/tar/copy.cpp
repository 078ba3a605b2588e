#include "tar/copy.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "errors.h"
#include "tar/crc32c.h"
#include "tar/header.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

// Headers in front of a payload that are fetched with it. In longer ones another member lies, or a name of
// thousands of bytes: they are read by themselves.
constexpr std::int64_t kMaxHeaders = 8 * kBlock;
constexpr std::size_t kMaxVectors = 1024;  // IOV_MAX
constexpr std::size_t kMaxKey = 1 << 16;
constexpr std::int64_t kMinWindow = 1 << 20;  // holds the header of the longest key and extension

// The output as it passes through memory: filled with headers, read into, summed, written, and filled again.
class Stream {
 public:
  Stream(int out, const std::vector<Source>& sources, const Samples& samples, bool canonical,
         std::int64_t capacity)
      : out_(out),
        sources_(sources),
        samples_(samples),
        canonical_(canonical),
        capacity_(capacity),
        buffer_(new unsigned char[static_cast<std::size_t>(capacity)]) {}

  // The next n bytes of the output, for the caller to fill. n is at most the capacity.
  unsigned char* take(std::int64_t n) {
    reserve(n);
    unsigned char* p = buffer_.get() + used_;
    used_ += n;
    return p;
  }

  // The next bytes of the output are those of a part, after `headers` bytes in the source that are read and
  // checked; canonical: they go into the output as well.
  void copy(std::int64_t sample, std::int64_t part, std::int64_t headers);

  void flush();
  const Written& written() const { return written_; }

 private:
  struct Piece {
    std::int32_t file;
    std::int64_t offset, headers, length, at, sample, part;  // length: of what goes to buffer_ + at
  };

  // n bytes in one piece.
  void reserve(std::int64_t n) {
    if (n > capacity_) throw std::logic_error("a header does not fit into the window");
    if (n > capacity_ - used_) flush();
  }

  std::int64_t aside(const Piece& p) const { return canonical_ ? 0 : p.headers; }  // read but not written
  std::int64_t end(const Piece& p) const { return p.offset + aside(p) + p.length; }
  const Source& source(const Piece& p) const { return sources_[static_cast<std::size_t>(p.file)]; }
  Place place(std::int64_t sample, std::int64_t part, std::int64_t begin) const;

  // Joined are neighbours with nothing but padding between them.
  bool joins(const Piece& last, const Piece& next) const {
    const std::int64_t gap = next.offset - end(last);
    return next.file == last.file && gap >= 0 && gap < kBlock;
  }

  void read_run(std::size_t begin, std::size_t end);
  void write_out();

  int out_;
  const std::vector<Source>& sources_;
  const Samples& samples_;
  bool canonical_;
  std::int64_t capacity_, used_ = 0;
  std::unique_ptr<unsigned char[]> buffer_;
  std::vector<unsigned char> aside_;  // of a run
  std::vector<Piece> pieces_;
  Written written_;
};

void Stream::copy(std::int64_t sample, std::int64_t part, std::int64_t headers) {
  const std::int32_t file = samples_.file[sample];
  const std::int64_t payload = samples_.part_offset[part];
  std::int64_t left = samples_.part_size[part];
  if (canonical_) {
    left += headers;
    reserve(headers);
  } else if (headers < kBlock || headers > kMaxHeaders) {
    check_member(sources_[static_cast<std::size_t>(file)], place(sample, part, payload - headers), nullptr,
                 &written_.read);
    headers = 0;
  }
  for (std::int64_t offset = payload - headers; headers > 0 || left > 0; headers = 0) {
    if (used_ == capacity_) flush();
    const std::int64_t now = std::min(left, capacity_ - used_);
    pieces_.push_back({file, offset, headers, now, used_, sample, part});
    offset = end(pieces_.back());
    used_ += now;
    left -= now;
  }
}

Place Stream::place(std::int64_t sample, std::int64_t part, std::int64_t begin) const {
  std::string_view key = samples_.key(sample);
  key.remove_prefix(sources_[static_cast<std::size_t>(samples_.file[sample])].prefix.size());
  return {key, samples_.extension(part), begin, samples_.part_offset[part], samples_.part_size[part]};
}

void Stream::flush() {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
    return std::tie(a.file, a.offset, a.at) < std::tie(b.file, b.offset, b.at);
  });
  for (std::size_t begin = 0, end; begin < pieces_.size(); begin = end) {
    for (end = begin + 1; end < pieces_.size() && 2 * (end - begin + 1) <= kMaxVectors; ++end)
      if (!joins(pieces_[end - 1], pieces_[end])) break;
    read_run(begin, end);
  }
  write_out();
  pieces_.clear();
  used_ = 0;
}

// Fetches pieces that lie close together, each straight to its place, what is only looked at or skipped
// aside, and checks their headers.
void Stream::read_run(std::size_t begin, std::size_t last) {
  iovec vectors[kMaxVectors];
  int n = 0;
  const std::int64_t first = pieces_[begin].offset;
  std::int64_t at = first, skipped = 0;
  for (std::size_t i = begin; i < last; ++i) skipped += kBlock + aside(pieces_[i]);
  if (skipped > static_cast<std::int64_t>(aside_.size())) aside_.resize(static_cast<std::size_t>(skipped));
  unsigned char* spare = aside_.data();
  for (std::size_t i = begin; i < last; ++i) {
    const Piece& p = pieces_[i];
    if (const std::int64_t between = p.offset - at + aside(p); between > 0) {
      vectors[n++] = {spare, static_cast<std::size_t>(between)};
      spare += between;
    }
    if (p.length > 0) vectors[n++] = {buffer_.get() + p.at, static_cast<std::size_t>(p.length)};
    at = end(p);
  }
  const auto fail = [&](const std::string& problem, std::int64_t where) {
    const auto from = pieces_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto to = pieces_.begin() + static_cast<std::ptrdiff_t>(last);
    const auto hit = std::find_if(from, to, [&](const Piece& p) { return end(p) > where; });
    throw DataError(problem, samples_.name(hit->sample, hit->part), where, source(*hit).path);
  };
  std::int64_t done = first;
  for (iovec* v = vectors; done < at;) {
    const ssize_t got = preadv(source(pieces_[begin]).fd, v, n - static_cast<int>(v - vectors), done);
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
  at = first;
  spare = aside_.data();
  for (std::size_t i = begin; i < last; ++i) {
    const Piece& p = pieces_[i];
    spare += p.offset - at + aside(p);
    at = end(p);
    if (p.headers == 0) continue;
    const Place expected = place(p.sample, p.part, p.offset);
    if (canonical_)
      check_canonical(source(p), expected, buffer_.get() + p.at, p.headers);
    else
      check_member(source(p), expected, spare - p.headers, &written_.read);
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

// Bytes in front of each payload of sample i, back to the end of the part before it, into headers [P].
void measure_headers(const Samples& s, std::int64_t i, std::vector<std::int64_t>* order,
                     std::int64_t* headers) {
  order->resize(static_cast<std::size_t>(s.part_start[i + 1] - s.part_start[i]));
  std::iota(order->begin(), order->end(), s.part_start[i]);
  std::sort(order->begin(), order->end(),
            [&](std::int64_t a, std::int64_t b) { return s.part_offset[a] < s.part_offset[b]; });
  std::int64_t end = s.offset[i];
  for (const std::int64_t p : *order) {
    headers[p] = s.part_offset[p] - end;
    end = s.part_offset[p] + s.part_size[p] + padding(s.part_size[p]);
  }
}

}  // namespace

void header_sizes(const Samples& s, std::int64_t* out) {
  for (std::int64_t i = 0; i < s.n; ++i) {
    if (s.key(i).size() > kMaxKey)
      throw ArgumentError("a key of " + std::to_string(s.key(i).size()) + " bytes; at most " +
                          std::to_string(kMaxKey) + " are written");
    for (std::int64_t p = s.part_start[i]; p < s.part_start[i + 1]; ++p) {
      const std::string& extension = s.extension(p);
      if (extension.size() > kMaxExtension)
        throw ArgumentError("an extension of " + std::to_string(extension.size()) + " bytes; at most " +
                            std::to_string(kMaxExtension) + " are written");
      const std::string name = s.name(i, p);
      Name back;
      if (has_control(name)) throw ArgumentError("key '" + shown(s.key(i)) + "': holds a control character");
      if (const char* why = leads_out(name))
        throw ArgumentError("key '" + shown(s.key(i)) + "': its member '" + shown(name) + "' " + why +
                            "; names must stay below the folder they are unpacked into");
      if (!split_name(name, &back) || back.key != s.key(i))
        throw ArgumentError("key '" + shown(s.key(i)) + "': a reader would not find it again in '" +
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
  std::vector<std::int64_t> theirs(canonical ? 0 : headers.size()), order;
  for (std::int64_t i = 0; i < s.n; ++i) {
    if (!canonical) measure_headers(s, i, &order, theirs.data());
    for (std::int64_t p = s.part_start[i]; p < s.part_start[i + 1]; ++p) {
      const auto part = static_cast<std::size_t>(p);
      if (!canonical) write_header(s.name(i, p), s.part_size[p], stream.take(headers[part]));
      stream.copy(i, p, canonical ? headers[part] : theirs[part]);
      zeros(&stream, padding(s.part_size[p]));
    }
  }
  zeros(&stream, kEndBlocks);
  stream.flush();
  return stream.written();
}

}  // namespace pyi::tar
