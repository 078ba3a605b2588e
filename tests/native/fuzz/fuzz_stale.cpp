// Two tars in one input: the index of the first is used on the second, which was put in its place. Nothing is
// copied that is not the member which the index names, whatever lies there.
#include <cstring>

#include "input.h"
#include "tar/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
  static fuzz::File out;
  std::uint32_t cut = 0;
  if (length < sizeof cut) return 0;
  std::memcpy(&cut, data, sizeof cut);
  data += sizeof cut;
  length -= sizeof cut;
  cut = static_cast<std::uint32_t>(cut % (length + 1));
  const std::uint8_t* second = data + cut;
  const auto size = static_cast<std::int64_t>(length - cut);
  pyi::tar::Columns index;
  try {
    fuzz::Bytes first(data, cut, pyi::tar::kLocal);
    index = pyi::tar::scan(&first, cut, true, -1);
  } catch (const pyi::DataError&) {
    return 0;
  }
  const std::vector<std::int32_t> file(index.offset.size(), 0);
  const pyi::tar::Samples samples = fuzz::samples_of(index, file);
  for (const bool ours : {false, true}) {
    fuzz::Bytes input(second, length - cut, ours ? pyi::tar::kLocal : pyi::tar::kRemote);
    const pyi::tar::Source source{&input, size, "second", "", ours};
    try {
      const auto written = pyi::tar::write_tar(out.fd(), {source}, samples, ours, 1);
      const auto copied = out.bytes(written.bytes);
      fuzz::Bytes tar(copied.data(), copied.size(), pyi::tar::kLocal);
      const auto back = pyi::tar::scan(&tar, written.bytes, false, -1);
      fuzz::require(back.key_text == index.key_text && back.part_size == index.part_size,
                    "what was copied is what the index names");
    } catch (const pyi::DataError&) {
    } catch (const pyi::ArgumentError&) {
    }
    try {  // as the loader does, of a window that begins in the middle
      fuzz::Bytes rest(second, length - cut, pyi::tar::kLocal);
      std::vector<std::int64_t> rows(index.offset.size());
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
      const std::int64_t base = size / 2;
      check_samples({&rest, size, "second", "", ours}, samples, rows.data(),
                    static_cast<std::int64_t>(rows.size()), second + base, base, size - base);
    } catch (const pyi::DataError&) {
    }
  }
  return 0;
}
