#include "tar/scan.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "errors.h"
#include "tar/header.h"
#include "tar/name.h"
#include "tar/read.h"

namespace pyi::tar {
namespace {

struct Member {
  std::string name;
  char type;
  std::int64_t start;    // of its first header, a pax header before it included
  std::int64_t header;   // of its own header
  std::int64_t payload;  // where the payload starts
  std::int64_t size;
};

std::string of_type(char type) {
  switch (type) {
    case '1':
      return "is a hard link";
    case '2':
      return "is a symbolic link";
    case '3':
    case '4':
      return "is a device";
    case '6':
      return "is a FIFO";
    case 'S':
      return "is a sparse file";
    case 'M':
      return "continues from another volume";
    default:
      return std::string("is of unknown type '") + (type >= 0x20 && type < 0x7F ? type : '?') + "'";
  }
}

// What a file that is no tar at all begins with.
const char* compression(const unsigned char* p) {
  if (p[0] == 0x1F && p[1] == 0x8B) return "gzip";
  if (std::memcmp(p, "BZh", 3) == 0) return "bzip2";
  if (std::memcmp(p,
                  "\xFD"
                  "7zXZ",
                  5) == 0)
    return "xz";
  if (std::memcmp(p, "\x28\xB5\x2F\xFD", 4) == 0) return "zstd";
  return nullptr;
}

// The members of a tar, one by one.
class Members {
 public:
  Members(int fd, std::int64_t size, bool allow_missing_eof)
      : window_(fd, size), size_(size), allow_missing_eof_(allow_missing_eof) {}

  // False at the end of the archive.
  bool next(Member* m);
  const Count& count() const { return window_.count(); }

 private:
  bool at_end();
  std::string_view body(const Header& h, const char* what);
  void extend(const Header& h);
  void finish(const Header& h, Member* m);

  Window window_;
  std::int64_t size_;
  bool allow_missing_eof_;
  std::int64_t at_ = 0;
  std::string long_name_;  // of a GNU 'L' header before the member
  Extended pax_;
  bool has_pax_ = false;
};

// True at the end-of-archive blocks, or where the file ends and may.
bool Members::at_end() {
  if (size_ == 0) throw DataError("is empty, not a tar", "", -1);
  if (at_ == size_) {
    if (allow_missing_eof_) return true;
    throw DataError(
        "truncated: no end-of-archive blocks (allow_missing_eof=True takes what is there, if that is all)",
        "", at_);
  }
  if (size_ - at_ < kBlock) throw DataError("truncated: the file ends within a header", "", at_);
  const unsigned char* block = window_.at(at_, kBlock);
  if (const char* name = at_ == 0 ? compression(block) : nullptr)
    throw DataError(std::string("is compressed (") + name + "); decompress it first", "", 0);
  if (!is_zero_block(block)) return false;
  if (size_ - at_ < kEndBlocks && !allow_missing_eof_)
    throw DataError("truncated: one block of zeros at the end; two end an archive", "", at_);
  for (std::int64_t from = at_, n; from < size_; from += n) {  // to the very end: a second tar may lie there
    n = std::min<std::int64_t>(size_ - from, 64 << 10);
    const unsigned char* tail = window_.at(from, n);
    const unsigned char* data = std::find_if(tail, tail + n, [](unsigned char c) { return c != 0; });
    if (data != tail + n)
      throw DataError("data after the end-of-archive blocks: damaged, or several tars in one file", "",
                      from + (data - tail));
  }
  return true;
}

// The body of a header that describes the next member.
std::string_view Members::body(const Header& h, const char* what) {
  if (h.size > kMaxExtended)
    throw DataError(std::string(what) + " of " + std::to_string(h.size) + " bytes; at most " +
                        std::to_string(kMaxExtended) + " are read",
                    "", at_);
  if (h.size > size_ - at_ - kBlock)
    throw DataError(std::string("truncated: the file ends within a ") + what, "", at_);
  const auto* p = reinterpret_cast<const char*>(window_.at(at_ + kBlock, h.size));
  return {p, static_cast<std::size_t>(h.size)};
}

void Members::extend(const Header& h) {
  const std::string_view text = body(h, h.type == 'L' || h.type == 'K' ? "GNU long name" : "pax header");
  if (h.type == 'g') {
    const Extended global = parse_pax(text, at_);
    if (global.has_path || global.has_size)
      throw DataError("a global pax header sets a path or a size for all members", "", at_);
  } else if (h.type != 'K') {  // 'K' is the target of a link, which is refused anyway
    if (has_pax_ || !long_name_.empty()) throw DataError("two extended headers before one member", "", at_);
    if (h.type == 'L') {
      long_name_ = text.substr(0, text.find_last_not_of('\0') + 1);
    } else {
      pax_ = parse_pax(text, at_);
      has_pax_ = true;
    }
  }
  const std::int64_t end = at_ + kBlock + h.size;
  if (padding(h.size) > size_ - end) throw DataError("truncated: the file ends within a header", "", at_);
  at_ = end + padding(h.size);
}

void Members::finish(const Header& h, Member* m) {
  m->type = h.type;
  m->name = has_pax_ && pax_.has_path ? pax_.path : !long_name_.empty() ? long_name_ : h.name;
  m->size = has_pax_ && pax_.has_size ? pax_.size : h.size;
  m->header = at_;
  m->payload = at_ + kBlock;
  check_name(m->name, at_);
  long_name_.clear();
  has_pax_ = false;
  if (m->type == '5' || m->type == 'V')
    m->size = 0;  // directories and volume labels have no payload
  else if (m->type != '0')
    throw DataError(of_type(m->type) + "; only plain files can be parts of samples", m->name, at_);
  if (m->size > size_ - m->payload || padding(m->size) > size_ - m->payload - m->size)
    throw DataError("truncated: the member needs " + std::to_string(m->size) + " bytes from " +
                        std::to_string(m->payload) + ", the file ends at " + std::to_string(size_),
                    m->name, at_);
  at_ = m->payload + m->size + padding(m->size);
}

bool Members::next(Member* m) {
  m->start = at_;
  for (;;) {
    const bool described = has_pax_ || !long_name_.empty();
    if (at_end()) {
      if (described)
        throw DataError("truncated: a header announces a member that is not there", "", m->start);
      return false;
    }
    const Header h = parse_header(window_.at(at_, kBlock), at_);
    if (std::strchr("xXgLK", h.type) != nullptr) {
      extend(h);
      continue;
    }
    finish(h, m);
    return true;
  }
}

// Members -> samples.
class Grouper {
 public:
  explicit Grouper(Columns* out) : out_(out) {}

  // Appends the part to its sample. False, and nothing appended, if it would begin one sample too many.
  bool add(const Member& m, const Name& name, std::int64_t limit) {
    const bool begins = out_->samples() == 0 || name.key != key();
    if (begins) {
      if (out_->samples() == limit) return false;
      out_->key_text.append(name.key);
      out_->key_offsets.push_back(static_cast<std::int64_t>(out_->key_text.size()));
      out_->offset.push_back(m.start);
      out_->nbytes.push_back(0);
      out_->part_start.push_back(out_->part_start.back());
    }
    const std::int32_t ext = extension(name.extension);
    std::int64_t& last = last_sample_[static_cast<std::size_t>(ext)];
    if (last == out_->samples())
      throw DataError("extension '" + out_->extensions[static_cast<std::size_t>(ext)] +
                          "' repeats in the sample '" + std::string(name.key) + "'",
                      m.name, m.header);
    last = out_->samples();
    out_->part_ext.push_back(ext);
    out_->part_offset.push_back(m.payload);
    out_->part_size.push_back(m.size);
    ++out_->part_start.back();
    out_->nbytes.back() = m.payload + m.size + padding(m.size) - out_->offset.back();
    return true;
  }

 private:
  std::string_view key() const {
    const auto n = out_->key_offsets.size();
    return std::string_view(out_->key_text).substr(static_cast<std::size_t>(out_->key_offsets[n - 2]));
  }

  std::int32_t extension(std::string_view written) {
    std::string ext(written);
    for (char& c : ext)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const auto [it, is_new] = codes_.try_emplace(ext, static_cast<std::int32_t>(codes_.size()));
    if (is_new) {
      out_->extensions.push_back(ext);
      last_sample_.push_back(0);
    }
    return it->second;
  }

  Columns* out_;
  std::unordered_map<std::string, std::int32_t> codes_;
  std::vector<std::int64_t> last_sample_;  // per extension, the sample (from 1) that had it last
};

void check_adjacent(const Columns& c) {
  const auto [i, j] = first_repeated(c.key_offsets.data(), c.key_text.data(), c.samples());
  if (j < 0) return;
  const auto at = static_cast<std::size_t>(j);
  const auto from = static_cast<std::size_t>(c.key_offsets[at]);
  const std::string key = c.key_text.substr(from, static_cast<std::size_t>(c.key_offsets[at + 1]) - from);
  throw DataError("the key occurs a second time, first at offset " +
                      std::to_string(c.offset[static_cast<std::size_t>(i)]) +
                      ": all members of a sample must be adjacent",
                  key, c.offset[at]);
}

}  // namespace

Columns scan(int fd, std::int64_t size, bool allow_missing_eof, std::int64_t limit) {
  Columns out;
  Members members(fd, size, allow_missing_eof);
  Grouper grouper(&out);
  Member m;
  Name name;
  while (limit != 0 && members.next(&m)) {
    if (m.type != '0' || !split_name(m.name, &name)) continue;
    if (name.extension.substr(0, 2) == "__")
      throw DataError("the extension is reserved: a sample's own fields begin with '__'", m.name, m.header);
    if (name.extension.size() > kMaxExtension)
      throw DataError("an extension of " + std::to_string(name.extension.size()) + " bytes; at most " +
                          std::to_string(kMaxExtension) + " are read",
                      m.name, m.header);
    if (!grouper.add(m, name, limit)) break;
  }
  check_adjacent(out);
  out.bytes_read = members.count().bytes;
  out.requests = members.count().requests;
  return out;
}

}  // namespace pyi::tar
