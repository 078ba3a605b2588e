// Any bytes as a tar: refused, or its samples are found, copied, and found again, the same to the byte.
#include <algorithm>
#include <numeric>

#include "input.h"
#include "tar/summing.h"

namespace {

using Buffer = std::vector<std::uint8_t>;
using pyi::tar::Columns;

// The columns with the parts of each sample sorted by extension, as a writer gives them to the copier.
Columns sorted(const Columns& c) {
  Columns out = c;
  std::vector<std::size_t> order(c.part_ext.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto extension = [&](std::size_t p) { return c.extensions[static_cast<std::size_t>(c.part_ext[p])]; };
  for (std::size_t i = 0; i < c.offset.size(); ++i)
    std::sort(order.begin() + c.part_start[i], order.begin() + c.part_start[i + 1],
              [&](auto a, auto b) { return extension(a) < extension(b); });
  for (std::size_t p = 0; p < order.size(); ++p) {
    out.part_ext[p] = c.part_ext[order[p]];
    out.part_offset[p] = c.part_offset[order[p]];
    out.part_size[p] = c.part_size[order[p]];
  }
  return out;
}

Columns scan(const Buffer& tar, bool allow_missing_eof, const pyi::tar::Habits& habits) {
  fuzz::Bytes input(tar.data(), tar.size(), habits);
  return pyi::tar::scan(&input, static_cast<std::int64_t>(tar.size()), allow_missing_eof, -1);
}

Buffer copy(const Buffer& tar, const Columns& c, bool canonical, const pyi::tar::Habits& habits) {
  static fuzz::File out;
  fuzz::Bytes input(tar.data(), tar.size(), habits);
  const std::vector<std::int32_t> file(c.offset.size(), 0);
  const auto size = static_cast<std::int64_t>(tar.size());
  const pyi::tar::Source source{&input, size, "input", "", canonical};
  return out.bytes(pyi::tar::write_tar(out.fd(), {source}, fuzz::samples_of(c, file), canonical, 1).bytes);
}

std::string payload(const Buffer& tar, std::int64_t offset, std::int64_t n) {
  fuzz::require(offset >= 0 && n >= 0 && n <= static_cast<std::int64_t>(tar.size()) - offset,
                "a part is there");
  return {tar.begin() + offset, tar.begin() + offset + n};
}

void check_copy(const Buffer& tar, const Columns& found, const pyi::tar::Habits& habits) {
  const Columns wanted = sorted(found);
  Buffer once;
  try {
    once = copy(tar, wanted, false, habits);
  } catch (const pyi::ArgumentError&) {
    return;  // a key that is longer than we write
  }
  const Columns back = scan(once, false, habits);
  fuzz::check_columns(back, static_cast<std::int64_t>(once.size()));
  fuzz::require(back.key_text == wanted.key_text && back.key_offsets == wanted.key_offsets,
                "the keys are copied");
  fuzz::require(back.part_start == wanted.part_start && back.part_size == wanted.part_size,
                "the parts are copied");
  for (std::size_t p = 0; p < wanted.part_ext.size(); ++p) {
    fuzz::require(back.extensions[static_cast<std::size_t>(back.part_ext[p])] ==
                      wanted.extensions[static_cast<std::size_t>(wanted.part_ext[p])],
                  "the extensions are copied");
    fuzz::require(payload(once, back.part_offset[p], back.part_size[p]) ==
                      payload(tar, wanted.part_offset[p], wanted.part_size[p]),
                  "the payloads are copied");
  }
  fuzz::require(copy(once, back, true, habits) == once, "a copy of the copy is the same");
}

#ifdef PYI_PLANTED  // a mistake to be found: a second sample that begins with the extension "y", as no seed's
                    // does
void planted(const Columns& c) {
  if (c.samples() < 2) return;
  const auto first = static_cast<std::size_t>(c.part_ext[static_cast<std::size_t>(c.part_start[1])]);
  fuzz::require(c.extensions[first] != "y", "a planted mistake is never reached");
}
#else
void planted(const Columns&) {}
#endif

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
  const Buffer tar(data, data + length);
  const auto& habits = length / 512 % 2 == 0 ? pyi::tar::kLocal : pyi::tar::kRemote;
  for (const bool allow_missing_eof : {false, true}) {
    try {
      const Columns found = scan(tar, allow_missing_eof, habits);
      fuzz::check_columns(found, static_cast<std::int64_t>(length));
      planted(found);
      check_copy(tar, found, habits);
      break;  // what strict reading takes, the other does as well
    } catch (const pyi::DataError& e) {
      fuzz::require(e.offset >= -1 && e.offset <= static_cast<std::int64_t>(length),
                    "an error names a place");
    }
  }
  fuzz::Bytes input(data, length, habits);
  pyi::tar::Summing summing(&input);
  try {
    pyi::tar::scan(&summing, static_cast<std::int64_t>(length), false, -1);
  } catch (const pyi::DataError&) {
  }
  fuzz::require(summing.finish(static_cast<std::int64_t>(length)) == pyi::tar::crc32c(0, data, length),
                "every byte is summed once, wherever reading ended");
  return 0;
}
