#include "tar/members.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "tar/crc32c.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

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

}  // namespace

void Members::truncated(const std::string& how, const char* more) const {
  throw DataError("truncated: " + how + (last_->empty() ? "" : " after this member") + more, *last_, at_);
}

// True at the end-of-archive blocks, or where the file ends and may.
bool Members::at_end() {
  if (size_ == 0) throw DataError("is empty, not a tar", "", -1);
  if (at_ == size_) {
    if (allow_missing_eof_) return true;
    truncated("no end-of-archive blocks", " (allow_missing_eof=True takes what is there, if that is all)");
  }
  if (size_ - at_ < kBlock) truncated("the file ends within a header");
  const unsigned char* block = window_.at(at_, kBlock);
  if (!is_zero_block(block)) return false;
  if (size_ - at_ < kEndBlocks && !allow_missing_eof_)
    truncated("one block of zeros at the end", "; two end an archive");
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

// The body of a header that describes the next member, with its padding.
std::string_view Members::body(const Header& h, const char* what) {
  if (h.size > kMaxExtended)
    throw DataError(std::string(what) + " of " + std::to_string(h.size) + " bytes; at most " +
                        std::to_string(kMaxExtended) + " are read",
                    "", at_);
  const std::int64_t n = h.size + padding(h.size);
  if (n > size_ - at_ - kBlock) truncated(std::string("the file ends within a ") + what);
  return {reinterpret_cast<const char*>(window_.at(at_ + kBlock, n)), static_cast<std::size_t>(n)};
}

void Members::extend(const Header& h) {
  const std::string_view padded = body(h, h.type == 'L' || h.type == 'K' ? "GNU long name" : "pax header");
  const std::string_view text = padded.substr(0, static_cast<std::size_t>(h.size));
  if (h.type == 'g') {
    const Extended global = parse_pax(text, at_);
    if (global.has_path || global.has_size)
      throw DataError("a global pax header sets a path or a size for all members", "", at_);
  } else if (h.type != 'K') {  // 'K' is the target of a link, which is refused anyway
    if (has_pax_ || !long_name_.empty()) throw DataError("two extended headers before one member", "", at_);
    if (h.type == 'L') {
      long_name_ = text.substr(0, text.find_last_not_of('\0') + 1);
      if (long_name_.empty()) throw DataError("GNU long name: is empty", "", at_);
      // To some readers the name ends where the size says, to others at the first NUL.
      if (std::min(padded.find('\0'), padded.size()) > text.size())
        throw DataError("GNU long name: longer than its header says", "", at_);
    } else {
      pax_ = parse_pax(text, at_);
      has_pax_ = true;
    }
  }
  at_ += kBlock + static_cast<std::int64_t>(padded.size());
}

void Members::finish(Header&& h, Member* m) {
  m->type = h.type;
  m->name = std::move(has_pax_ && pax_.has_path ? pax_.path : !long_name_.empty() ? long_name_ : h.name);
  m->size = has_pax_ && pax_.has_size ? pax_.size : h.size;
  m->header = at_;
  m->payload = at_ + kBlock;
  check_name(m->name, at_);
  long_name_.clear();
  has_pax_ = false;
  if (m->type == 'V' && m->size > 0)  // some readers skip it
    throw DataError("is a volume label with a payload of " + std::to_string(m->size) + " bytes", m->name,
                    at_);
  if (m->type == '5' || m->type == 'V')
    m->size = 0;  // a directory's size is no payload
  else if (m->type != '0')
    throw DataError(of_type(m->type) + "; only plain files can be parts of samples", m->name, at_);
  if (m->size > size_ - m->payload || padding(m->size) > size_ - m->payload - m->size)
    throw DataError("truncated: the member needs " + std::to_string(m->size) + " bytes from " +
                        std::to_string(m->payload) + ", the file ends at " + std::to_string(size_),
                    m->name, at_);
  at_ = m->payload + m->size + padding(m->size);
}

Header Members::header() {
  const unsigned char* block = window_.at(at_, kBlock);
  try {
    return parse_header(block, at_);
  } catch (const DataError&) {
    // Only now: the first member's name may begin like a compressed file, with "BZh" for one.
    if (const char* name = at_ == 0 ? compression(block) : nullptr)
      throw DataError(std::string("is compressed (") + name + "); decompress it first", "", 0);
    throw;
  }
}

std::uint32_t Members::payload_crc32c(const Member& m) {
  std::uint32_t crc = 0;
  for (std::int64_t at = m.payload, end = at + m.size, n; at < end; at += n) {
    const unsigned char* data = window_.some(at, end - at, &n);
    crc = crc32c(crc, data, static_cast<std::size_t>(n));
  }
  return crc;
}

bool Members::next(Member* m) {
  m->start = at_;
  last_ = &m->name;
  for (;;) {
    if (at_end()) {
      if (at_ != m->start)
        throw DataError("truncated: a header announces a member that is not there", "", m->start);
      return false;
    }
    Header h = header();
    if (std::strchr("xXgLK", h.type) != nullptr) {
      extend(h);
      continue;
    }
    finish(std::move(h), m);
    return true;
  }
}

}  // namespace pyi::tar
