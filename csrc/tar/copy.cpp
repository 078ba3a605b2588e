#include "tar/copy.h"

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
constexpr std::int64_t kMinWindow = 128 << 10;  // holds the header of the longest key and extension

// The output as it passes through memory: filled with headers, read into, summed, written, and filled again.
class Stream {
 public:
  Stream(int out, const std::vector<Source>& sources, const Samples& samples, bool canonical,
         std::int64_t capacity, const std::atomic<bool>& stop)
      : out_(out),
        sources_(sources),
        samples_(samples),
        canonical_(canonical),
        stop_(stop),
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

  // A request: pieces that follow each other in a source, with little between them.
  struct Run {
    std::size_t begin, end;
    std::int64_t offset, length;
  };

  bool joins(const Run& run, const Piece& next) const {
    const Piece& last = pieces_[run.end - 1];
    const std::int64_t gap = next.offset - end(last);
    const Habits& h = source(last).input->habits;
    return next.file == last.file && gap >= 0 && gap < h.join && end(next) - run.offset <= h.most &&
           2 * (run.end + 1 - run.begin) <= kMaxVectors;
  }

  std::vector<Run> runs() const;
  void expect(const Run& run);
  void read(const Run& run);
  void check(const Run& run);
  void sum_payloads();
  void write_out();

  int out_;
  const std::vector<Source>& sources_;
  const Samples& samples_;
  bool canonical_;
  const std::atomic<bool>& stop_;
  std::int64_t capacity_, used_ = 0;
  std::unique_ptr<unsigned char[]> buffer_;
  std::vector<unsigned char> aside_;  // of a run
  std::vector<Piece> pieces_;
  std::uint32_t sum_ = 0;    // of the part that went out last, as far as it did
  std::int64_t summed_ = 0;  // bytes
  Written written_;
};

void Stream::copy(std::int64_t sample, std::int64_t part, std::int64_t headers) {
  const std::int32_t file = samples_.file[sample];
  const std::int64_t payload = samples_.part_offset[part];
  std::int64_t left = samples_.part_size[part];
  const std::int64_t most = sources_[static_cast<std::size_t>(file)].input->habits.most;
  if (canonical_) {
    if (headers > payload - samples_.offset[sample])
      throw DataError("the index leaves " + std::to_string(payload - samples_.offset[sample]) +
                          " bytes for the headers of this member, which are " + std::to_string(headers),
                      samples_.name(sample, part), payload, sources_[static_cast<std::size_t>(file)].path);
    left += headers;
    reserve(headers);
  } else if (headers < kBlock || headers > kMaxHeaders) {
    check_member(sources_[static_cast<std::size_t>(file)], place(sample, part, payload - headers), nullptr,
                 &written_.read);
    headers = 0;
  }
  for (std::int64_t offset = payload - headers; headers > 0 || left > 0; headers = 0) {
    if (used_ == capacity_) flush();
    const std::int64_t now = std::min({left, capacity_ - used_, most});
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
  const std::vector<Run> todo = runs();
  std::int64_t ahead = 0;  // bytes that are expected and not read
  for (std::size_t i = 0, next = 1; i < todo.size(); ++i) {
    for (next = std::max(next, i + 1); next < todo.size(); ++next) {
      const Habits& h = source(pieces_[todo[next].begin]).input->habits;
      if (next > i + static_cast<std::size_t>(h.ahead) || ahead + todo[next].length > h.ahead_bytes) break;
      expect(todo[next]);
      ahead += todo[next].length;
    }
    if (stop_) throw Stopped();
    read(todo[i]);
    check(todo[i]);
    if (i + 1 < next) ahead -= todo[i + 1].length;
  }
  if (samples_.part_crc32c != nullptr) sum_payloads();
  write_out();
  pieces_.clear();
  used_ = 0;
}

std::vector<Stream::Run> Stream::runs() const {
  std::vector<Run> found;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& p = pieces_[i];
    if (found.empty() || !joins(found.back(), p)) found.push_back({i, i, p.offset, 0});
    found.back().end = i + 1;
    found.back().length = end(p) - found.back().offset;
  }
  return found;
}

void Stream::expect(const Run& run) {
  source(pieces_[run.begin]).input->expect(run.offset, run.length, &written_.read);
}

// Fetches each piece straight to its place, what is only looked at or skipped aside.
void Stream::read(const Run& run) {
  iovec vectors[kMaxVectors];
  int n = 0;
  std::int64_t skipped = run.length;
  for (std::size_t i = run.begin; i < run.end; ++i) skipped -= pieces_[i].length;
  if (skipped > static_cast<std::int64_t>(aside_.size())) aside_.resize(static_cast<std::size_t>(skipped));
  unsigned char* spare = aside_.data();
  std::int64_t at = run.offset;
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const Piece& p = pieces_[i];
    if (const std::int64_t between = p.offset - at + aside(p); between > 0) {
      vectors[n++] = {spare, static_cast<std::size_t>(between)};
      spare += between;
    }
    if (p.length > 0) vectors[n++] = {buffer_.get() + p.at, static_cast<std::size_t>(p.length)};
    at = end(p);
  }
  try {
    source(pieces_[run.begin]).input->read(vectors, n, run.offset, &written_.read);
  } catch (const DataError& e) {
    const auto from = pieces_.begin() + static_cast<std::ptrdiff_t>(run.begin);
    const auto to = pieces_.begin() + static_cast<std::ptrdiff_t>(run.end);
    const auto hit = std::find_if(from, to - 1, [&](const Piece& p) { return end(p) > e.offset; });
    throw DataError(e.what(), samples_.name(hit->sample, hit->part), e.offset, source(*hit).path);
  }
}

// The headers of what was read.
void Stream::check(const Run& run) {
  std::int64_t at = run.offset;
  const unsigned char* spare = aside_.data();
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const Piece& p = pieces_[i];
    spare += p.offset - at + aside(p);
    at = end(p);
    if (p.headers == 0) continue;
    const Place expected = place(p.sample, p.part, p.offset);
    if (canonical_)
      check_canonical(source(p), expected, buffer_.get() + p.at, p.headers);
    else
      check_known(source(p), expected, spare - p.headers, &written_.read);
  }
}

// Against what the index has of them. Of the parts of a window the last one may go on in the next.
void Stream::sum_payloads() {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.at < b.at; });
  for (const Piece& p : pieces_) {
    const std::int64_t headers = canonical_ ? p.headers : 0, n = p.length - headers;
    sum_ = crc32c(sum_, buffer_.get() + p.at + headers, static_cast<std::size_t>(n));
    summed_ += n;
    if (summed_ < samples_.part_size[p.part]) continue;
    check_payload(source(p), place(p.sample, p.part, 0), sum_, samples_.part_crc32c[p.part]);
    sum_ = 0;
    summed_ = 0;
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

std::string headers(const Samples& s, std::int64_t* sizes) {
  header_sizes(s, sizes);
  const std::int64_t parts = s.part_start[s.n];
  std::string out(static_cast<std::size_t>(std::accumulate(sizes, sizes + parts, std::int64_t{0})), '\0');
  auto* at = reinterpret_cast<unsigned char*>(out.data());
  for (std::int64_t i = 0; i < s.n; ++i)
    for (std::int64_t p = s.part_start[i]; p < s.part_start[i + 1]; at += sizes[p++])
      write_header(s.name(i, p), s.part_size[p], at);
  return out;
}

Written write_tar(int out, const std::vector<Source>& sources, const Samples& s, bool canonical,
                  std::int64_t window, const std::atomic<bool>& stop) {
  std::vector<std::int64_t> headers(static_cast<std::size_t>(s.part_start[s.n]));
  header_sizes(s, headers.data());
  Stream stream(out, sources, s, canonical, std::max(window, kMinWindow), stop);
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

void sync_file(int fd) {
  while (fsync(fd) != 0)
    if (errno != EINTR) throw std::system_error(errno, std::generic_category());
}

Written sum_file(Input* input, std::int64_t size, const std::atomic<bool>& stop) {
  constexpr std::int64_t kChunk = 1 << 20;
  const std::unique_ptr<unsigned char[]> buffer(new unsigned char[kChunk]);
  Written sum;
  while (sum.bytes < size) {
    if (stop) throw Stopped();
    const std::int64_t n = std::min(kChunk, size - sum.bytes);
    input->read(buffer.get(), n, sum.bytes, &sum.read);
    sum.crc32c = crc32c(sum.crc32c, buffer.get(), static_cast<std::size_t>(n));
    sum.bytes += n;
  }
  return sum;
}

}  // namespace pyi::tar
