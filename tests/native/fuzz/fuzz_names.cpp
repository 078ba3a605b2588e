// Any bytes as pax records, and as the name of a member that is written and read back.
#include <cstring>

#include "input.h"
#include "tar/header.h"
#include "tar/members.h"
#include "tar/name.h"

namespace {

void check_pax(std::string_view text) {
  try {
    const pyi::tar::Extended e = pyi::tar::parse_pax(text, 0);
    fuzz::require(!e.has_size || (e.size >= 0 && e.size <= pyi::tar::kMaxSize), "a size is one");
    fuzz::require(e.path.size() <= text.size(), "a path is part of the records");
  } catch (const pyi::DataError&) {
  }
}

void check_name(std::string_view name, std::int64_t size) {
  pyi::tar::Name parts;
  try {
    pyi::tar::check_name(name, 0);
  } catch (const pyi::DataError&) {
    return;
  }
  const bool is_sample = pyi::tar::split_name(name, &parts);
  if (is_sample) {
    fuzz::require(parts.key.size() + 1 + parts.extension.size() == name.size(), "key, dot, extension");
    fuzz::require(name.substr(0, parts.key.size()) == parts.key, "a name begins with its key");
    fuzz::require(parts.extension.find('/') == std::string_view::npos, "no slash in an extension");
  }
  const std::int64_t n = pyi::tar::header_bytes(name, size);
  if (n > pyi::tar::kMaxExtended) return;
  std::vector<unsigned char> header(static_cast<std::size_t>(n + pyi::tar::kEndBlocks));
  pyi::tar::write_header(name, size, header.data());
  fuzz::Bytes file(header.data(), header.size(), pyi::tar::kLocal);
  pyi::tar::Member m{};
  // As if the payload were there: the walk only asks how long the file is.
  pyi::tar::Members members(pyi::tar::Window(&file, n), 0, n + size + pyi::tar::padding(size), true);
  fuzz::require(members.next(&m), "the member is found");
  fuzz::require(m.name == name && m.size == size && m.payload == n && m.type == '0', "as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
  std::int64_t size = 0;
  if (length < sizeof size) return 0;
  std::memcpy(&size, data, sizeof size);
  const std::string_view text(reinterpret_cast<const char*>(data) + sizeof size, length - sizeof size);
  check_pax(text);
  check_name(text, size & ((std::int64_t{1} << 60) - 1));
  return 0;
}
