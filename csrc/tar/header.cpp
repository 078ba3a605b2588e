#include "tar/header.h"

#include <algorithm>
#include <cstring>

#include "errors.h"

namespace pyi::tar {
namespace {

// Fields of a header block: offset and length (POSIX.1-2017, pax, "ustar Interchange Format").
struct Field {
  std::size_t at, length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kSum{148, 8}, kMagic{257, 8}, kDevMajor{329, 8}, kDevMinor{337, 8}, kPrefix{345, 155};
constexpr std::size_t kType = 156;
constexpr std::int64_t kOctalLimit = std::int64_t{1} << 33;  // 11 octal digits

std::string_view text(const unsigned char* block, Field f) {
  const auto* p = reinterpret_cast<const char*>(block) + f.at;
  return {p, strnlen(p, f.length)};
}

// Octal with blanks around it, or GNU's base 256 (first byte 0x80; 0xFF would be negative).
std::int64_t number(const unsigned char* block, Field f, const char* what, std::int64_t offset) {
  const unsigned char* p = block + f.at;
  if (p[0] == 0x80 || p[0] == 0xFF) {
    std::int64_t value = 0;
    for (std::size_t i = 1; i < f.length; ++i) {
      if (p[0] == 0xFF || value >= (kMaxSize >> 8))
        throw DataError(std::string(what) + " is negative or above 2^62", "", offset);
      value = value << 8 | p[i];
    }
    return value;
  }
  std::string_view digits = text(block, f);
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
  std::int64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '7') throw DataError(std::string(what) + " is no octal number", "", offset);
    value = value * 8 + (c - '0');  // 12 digits at most
  }
  return value;
}

// The sum that the checksum field must hold. Some old writers took the bytes as signed.
template <class Byte>
std::int64_t sum(const unsigned char* block) {
  int total = ' ' * static_cast<int>(kSum.length);  // what the field itself counts as
  for (std::size_t i = 0; i < kBlock; ++i) total += static_cast<Byte>(block[i]);
  for (std::size_t i = 0; i < kSum.length; ++i) total -= static_cast<Byte>(block[kSum.at + i]);
  return total;
}

std::int64_t decimal(std::string_view digits, const char* what, std::int64_t offset) {
  std::int64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9' || value >= kMaxSize / 10)
      throw DataError(std::string("pax header: ") + what + " is no number from 0 to 2^62", "", offset);
    value = value * 10 + (c - '0');
  }
  if (digits.empty()) throw DataError(std::string("pax header: ") + what + " is empty", "", offset);
  return value;
}

bool is_plain(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

// Where to cut a name into prefix/name: position of the slash, 0 for no prefix, npos if ustar cannot hold it.
std::size_t cut(std::string_view name) {
  if (!is_plain(name)) return std::string_view::npos;
  if (name.size() <= kName.length) return 0;
  const std::size_t slash = name.find('/', std::max<std::size_t>(name.size() - kName.length - 1, 1));
  return slash <= kPrefix.length && slash + 1 < name.size() ? slash : std::string_view::npos;
}

// One pax record, "LENGTH key=value\n", where LENGTH counts itself.
std::string record(const std::string& key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (length != rest + std::to_string(length).size()) length = rest + std::to_string(length).size();
  return std::to_string(length) + ' ' + key + '=' + std::string(value) + '\n';
}

std::string pax_records(std::string_view name, std::int64_t size) {
  std::string records;
  if (cut(name) == std::string_view::npos) records += record("path", name);
  if (size >= kOctalLimit) records += record("size", std::to_string(size));
  return records;
}

// Digits up to the field's last byte, which stays as it is. (printf takes ten times as long, for every
// header.)
void octal(unsigned char* block, Field f, std::int64_t value) {
  for (std::size_t i = f.at + f.length - 1; i-- > f.at; value >>= 3)
    block[i] = static_cast<unsigned char>('0' + (value & 7));
}

void write_block(std::string_view prefix, std::string_view name, std::int64_t size, char type,
                 unsigned char* block) {
  std::memset(block, 0, kBlock);
  std::memcpy(block + kName.at, name.data(), name.size());
  std::memcpy(block + kPrefix.at, prefix.data(), prefix.size());
  octal(block, kMode, 0444);
  for (const Field f : {kUid, kGid, kMtime, kDevMajor, kDevMinor}) octal(block, f, 0);
  octal(block, kSize, size);
  block[kType] = static_cast<unsigned char>(type);
  std::memcpy(block + kMagic.at,
              "ustar\0"
              "00",
              kMagic.length);
  octal(block, {kSum.at, kSum.length - 1}, sum<unsigned char>(block));  // six digits, a NUL, a blank
  block[kSum.at + kSum.length - 1] = ' ';
}

}  // namespace

bool is_zero_block(const unsigned char* block) {
  return std::all_of(block, block + kBlock, [](unsigned char c) { return c == 0; });
}

Header parse_header(const unsigned char* block, std::int64_t offset) {
  const std::int64_t expected = number(block, kSum, "the checksum field", offset);
  if (expected != sum<unsigned char>(block) && expected != sum<signed char>(block))
    throw DataError("no tar header, or a damaged one: its checksum does not match", "", offset);
  Header h;
  h.name = text(block, kName);
  const std::string_view prefix = text(block, kPrefix);
  // GNU's own magic, "ustar  ", uses the prefix field for times.
  if (!prefix.empty() && std::memcmp(block + kMagic.at, "ustar\0", 6) == 0)
    h.name = std::string(prefix) + '/' + h.name;
  h.size = number(block, kSize, "the size", offset);
  h.type = static_cast<char>(block[kType]);
  if (h.type == '\0' && !h.name.empty() && h.name.back() == '/') h.type = '5';  // V7's directories
  if (h.type == '\0' || h.type == '7') h.type = '0';
  return h;
}

Extended parse_pax(std::string_view records, std::int64_t offset) {
  Extended e;
  while (!records.empty() && records.front() != '\0') {
    const std::size_t blank = records.find(' ');
    if (blank == std::string_view::npos) throw DataError("pax header: a record has no length", "", offset);
    const std::int64_t length = decimal(records.substr(0, blank), "the length of a record", offset);
    if (length > static_cast<std::int64_t>(records.size()) || length < static_cast<std::int64_t>(blank) + 3 ||
        records[static_cast<std::size_t>(length) - 1] != '\n')
      throw DataError("pax header: a record has a wrong length", "", offset);
    const auto body = records.substr(blank + 1, static_cast<std::size_t>(length) - blank - 2);
    records.remove_prefix(static_cast<std::size_t>(length));
    const std::size_t equals = body.find('=');
    if (equals == std::string_view::npos) throw DataError("pax header: a record has no '='", "", offset);
    const std::string_view key = body.substr(0, equals), value = body.substr(equals + 1);
    if (key.substr(0, 11) == "GNU.sparse." || key == "SCHILY.realsize")
      throw DataError("is a sparse file; store it as a plain one", e.path, offset);
    if (key == "path") {
      if (value.empty()) throw DataError("pax header: the path is empty", "", offset);
      e.has_path = true, e.path = value;
    }
    if (key == "size") e.has_size = true, e.size = decimal(value, "the size", offset);
  }
  if (records.find_first_not_of('\0') != std::string_view::npos)
    throw DataError("pax header: data after the last record", "", offset);
  return e;
}

std::int64_t header_bytes(std::string_view name, std::int64_t size) {
  const auto pax = static_cast<std::int64_t>(pax_records(name, size).size());
  return kBlock + (pax > 0 ? kBlock + pax + padding(pax) : 0);
}

void write_header(std::string_view name, std::int64_t size, unsigned char* out) {
  const std::string records = pax_records(name, size);
  if (!records.empty()) {
    const auto n = static_cast<std::int64_t>(records.size());
    write_block("", "././@PaxHeader", n, 'x', out);
    std::memcpy(out + kBlock, records.data(), records.size());
    std::memset(out + kBlock + n, 0, static_cast<std::size_t>(padding(n)));
    out += kBlock + n + padding(n);
  }
  const std::size_t slash = cut(name);
  const std::int64_t field = size < kOctalLimit ? size : 0;
  if (slash != std::string_view::npos) {
    const bool whole = slash == 0;
    return write_block(whole ? "" : name.substr(0, slash), whole ? name : name.substr(slash + 1), field, '0',
                       out);
  }
  // The pax header has the name; what stands here is for the eyes of old tools.
  std::string shown(name.substr(name.size() > kName.length ? name.size() - kName.length : 0));
  for (char& c : shown)
    if (!is_plain({&c, 1})) c = '_';
  write_block("", shown, field, '0', out);
}

}  // namespace pyi::tar
