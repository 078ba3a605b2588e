#include "tar/check.h"

#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "errors.h"
#include "tar/header.h"
#include "tar/members.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

constexpr std::int64_t kFetched = 64 << 10;  // headers that are read in one piece

std::string name_of(const Place& place) {
  return std::string(place.key).append(1, '.').append(place.extension);
}

// Whether this block is the usual header of the place's member: the name and the size where ustar and GNU
// have them. Nearly all headers are, of ours and of others; the rest take the long way.
bool is_plain_header(const unsigned char* block, const Place& place) {
  const auto* p = reinterpret_cast<const char*>(block);
  const std::size_t n = place.key.size(), m = place.extension.size();
  if (n + m + 2 > 100 || std::memcmp(p, place.key.data(), n) != 0 || p[n] != '.' ||
      std::memcmp(p + n + 1, place.extension.data(), m) != 0 || p[n + m + 1] != 0)
    return false;
  std::int64_t size = 0;
  for (int i = 124; i < 135; ++i) {
    if (p[i] < '0' || p[i] > '7') return false;
    size = size * 8 + (p[i] - '0');
  }
  return size == place.size && p[135] == 0 && p[156] == '0' && p[345] == 0 &&
         std::memcmp(p + 257, "ustar", 5) == 0 && (p[262] == 0 || p[262] == ' ');
}

// What lies there instead; empty if it is the place's member.
std::string found_instead(Window window, const Source& source, const Place& place, Count* count) {
  Members members(std::move(window), place.begin, source.size, true);
  Member m{};
  std::string found;
  try {
    while (members.next(&m) && m.payload < place.payload) continue;
    if (m.payload < place.payload)
      found = "found the end of the archive";
    else if (m.payload != place.payload || m.type != '0' || m.size != place.size ||
             !is_part(m.name, place.key, place.extension))
      found = "found '" + shown(m.name) + "' of " + std::to_string(m.size) + " bytes at " +
              std::to_string(m.header);
  } catch (const DataError& e) {
    found = std::string("found at ") + std::to_string(e.offset) + ": " + e.what();
  }
  count->bytes += members.count().bytes;
  count->requests += members.count().requests;
  return found;
}

std::string advice(const Source& source) {
  return source.ours
             ? ". The shard is damaged, or another file lies in its place: `verify` says all that is wrong"
             : ". The tar was changed since it was indexed: index it again";
}

[[noreturn]] void fail(const std::string& found, const Source& source, const Place& place) {
  throw DataError("the index has this member here, of " + std::to_string(place.size) + " bytes; " + found +
                      advice(source),
                  name_of(place), place.payload - kBlock, source.path);
}

}  // namespace

void check_member(const Source& source, const Place& place, const unsigned char* known, Count* count) {
  std::vector<unsigned char> fetched;
  const std::int64_t n = place.payload - place.begin;
  if (known == nullptr && n > 0 && n <= kFetched) try {
      fetched.resize(static_cast<std::size_t>(n));
      source.input->read(fetched.data(), n, place.begin, count);
      known = fetched.data();
    } catch (const DataError& e) {
      throw DataError(e.what(), name_of(place), e.offset, source.path);
    }
  Window window = known == nullptr
                      ? Window(source.input, source.size)
                      : Window(source.input, source.size, known, place.begin, place.payload - place.begin);
  const std::string found = found_instead(std::move(window), source, place, count);
  if (!found.empty()) fail(found, source, place);
}

void check_known(const Source& source, const Place& place, const unsigned char* known, Count* count) {
  if (place.payload - place.begin != kBlock || !is_plain_header(known, place))
    check_member(source, place, known, count);
}

void check_samples(const Source& source, const Samples& s, const std::int64_t* rows, std::int64_t n,
                   const unsigned char* data, std::int64_t base, std::int64_t length) {
  Count count;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = rows[i];
    std::int64_t begin = s.offset[row];
    for (std::int64_t p = s.part_start[row]; p < s.part_start[row + 1]; ++p) {
      const Place place{s.key(row), s.extension(p), begin, s.part_offset[p], s.part_size[p]};
      const bool known = begin >= base && place.payload - base <= length;
      const unsigned char* headers = known ? data + (begin - base) : nullptr;
      if (begin >= base && !(known && place.payload - begin == kBlock && is_plain_header(headers, place)))
        check_member(source, place, headers, &count);
      begin = place.payload + place.size + padding(place.size);
    }
  }
}

void check_payload(const Source& source, const Place& place, std::uint32_t crc32c, std::uint32_t expected) {
  if (crc32c == expected) return;
  char text[80];
  std::snprintf(text, sizeof text, "its payload has CRC32C 0x%08x; the index says 0x%08x", crc32c, expected);
  throw DataError(text + advice(source), name_of(place), place.payload, source.path);
}

void check_canonical(const Source& source, const Place& place, const unsigned char* header, std::int64_t n) {
  std::vector<unsigned char> expected(static_cast<std::size_t>(n));
  write_header(name_of(place), place.size, expected.data());
  if (std::memcmp(expected.data(), header, expected.size()) == 0) return;
  Count count;
  const std::string found =
      found_instead(Window(source.input, source.size, header, place.begin, n), source, place, &count);
  fail(found.empty() ? "found it under a header that is not ours" : found, source, place);
}

}  // namespace pyi::tar
