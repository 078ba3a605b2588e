#include "tar/check.h"

#include <cstring>
#include <utility>
#include <vector>

#include "errors.h"
#include "tar/header.h"
#include "tar/members.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

std::string name_of(const Place& place) {
  return std::string(place.key).append(1, '.').append(place.extension);
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

[[noreturn]] void fail(const std::string& found, const char* advice, const Source& source,
                       const Place& place) {
  throw DataError(
      "the index has this member here, of " + std::to_string(place.size) + " bytes; " + found + ". " + advice,
      name_of(place), place.payload - kBlock, source.path);
}

}  // namespace

void check_member(const Source& source, const Place& place, const unsigned char* known, Count* count) {
  Window window = known == nullptr
                      ? Window(source.fd, source.size)
                      : Window(source.fd, source.size, known, place.begin, place.payload - place.begin);
  const std::string found = found_instead(std::move(window), source, place, count);
  if (!found.empty()) fail(found, "The tar was changed since it was indexed: index it again", source, place);
}

void check_canonical(const Source& source, const Place& place, const unsigned char* header, std::int64_t n) {
  std::vector<unsigned char> expected(static_cast<std::size_t>(n));
  write_header(name_of(place), place.size, expected.data());
  if (std::memcmp(expected.data(), header, expected.size()) == 0) return;
  Count count;
  const std::string found =
      found_instead(Window(source.fd, source.size, header, place.begin, n), source, place, &count);
  fail(found.empty() ? "found it under a header that is not ours" : found,
       "The shard is damaged, or another file lies in its place: `verify` says all that is wrong", source,
       place);
}

}  // namespace pyi::tar
