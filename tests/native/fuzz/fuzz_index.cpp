// Any numbers as the columns of an index, and any bytes as the tars that it says it is of: where the columns
// are taken for sound, every place lies in its file, and whoever copies or reads by them is stopped by
// errors only. corpus.py writes inputs of this form.
#include <array>
#include <cstring>

#include "input.h"
#include "tar/check.h"
#include "tar/index.h"
#include "tar/name.h"

namespace {

constexpr std::int64_t kFiles = 2;
const std::vector<std::string> kExtensions{"a", "b", "x.y"};

// Takes values from the front of the input, zeros where it has ended.
class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  template <class T>
  std::vector<T> take(std::int64_t n) {
    std::vector<T> out(static_cast<std::size_t>(n));
    const std::size_t bytes = std::min(size_, out.size() * sizeof(T));
    if (bytes > 0) std::memcpy(out.data(), data_, bytes);
    data_ += bytes;
    size_ -= bytes;
    return out;
  }
  const std::uint8_t* rest() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

void check_places(const pyi::tar::IndexColumns& c) {
  const pyi::tar::Samples& s = c.samples;
  std::int64_t parts = 0;
  for (std::int64_t i = 0; i < s.n; ++i) {
    fuzz::require(c.ids[i] >= 0 && s.part_start[i] == parts, "an id, and parts in order");
    parts = s.part_start[i + 1];
    fuzz::require(parts > s.part_start[i] && parts <= c.parts, "a sample has parts");
    const std::int64_t size = c.file_bytes.at(static_cast<std::size_t>(s.file[i]));
    const std::int64_t begin = s.offset[i], end = begin + c.nbytes[i];
    fuzz::require(begin >= 0 && end > begin && end <= size && begin % 512 == 0 && end % 512 == 0,
                  "a sample lies in its file");
    const std::string_view key = s.key(i);
    fuzz::require(!key.empty() && key.front() != '/' && key != ".." && key.substr(0, 3) != "../",
                  "a key stays below");
    for (std::int64_t p = s.part_start[i]; p < parts; ++p) {
      fuzz::require(!s.extension(p).empty(), "an extension");
      fuzz::require(s.part_offset[p] >= begin && s.part_size[p] >= 0 && s.part_offset[p] <= end &&
                        s.part_size[p] <= end - s.part_offset[p],
                    "a part lies in its sample");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
  static fuzz::File out;
  Reader reader(data, length);
  const auto counts = reader.take<std::uint8_t>(4);
  const std::int64_t N = counts[0] % 8, P = counts[1] % 16, T = counts[2];
  auto file_bytes = reader.take<std::int64_t>(kFiles);
  const auto ids = reader.take<std::int64_t>(N), key_offsets = reader.take<std::int64_t>(N + 1),
             offset = reader.take<std::int64_t>(N), nbytes = reader.take<std::int64_t>(N),
             part_start = reader.take<std::int64_t>(N + 1), part_offset = reader.take<std::int64_t>(P),
             part_size = reader.take<std::int64_t>(P);
  const auto file = reader.take<std::int32_t>(N), part_ext = reader.take<std::int32_t>(P),
             bin = reader.take<std::int32_t>(N);
  const auto text = reader.take<char>(T);
  const auto size = static_cast<std::int64_t>(reader.size());
  const bool there = counts[3] < 128;  // whoever opens a tar compares its size with the index first
  if (there) file_bytes.assign(kFiles, size);
  const pyi::tar::Samples samples{N,
                                  key_offsets.data(),
                                  text.data(),
                                  part_start.data(),
                                  part_ext.data(),
                                  part_size.data(),
                                  file.data(),
                                  offset.data(),
                                  part_offset.data(),
                                  kExtensions};
  const pyi::tar::IndexColumns columns{samples, ids.data(), nbytes.data(), T, P, file_bytes};
  if (!pyi::tar::is_sound(columns, 1)) return 0;
  check_places(columns);
  pyi::tar::in_storage_order(N, bin.data(), file.data(), offset.data());
  const auto starts = pyi::tar::block_starts(N, nullptr, bin.data(), file.data(), offset.data(), nullptr,
                                             nbytes.data(), 1 + counts[3] * 512);
  fuzz::require(starts.empty() == (N == 0) && (N == 0 || starts.front() == 0), "blocks begin at the first");
  if (!there) return 0;
  for (const bool ours : {false, true}) {
    fuzz::Bytes first(reader.rest(), reader.size(), pyi::tar::kLocal);
    fuzz::Bytes second(reader.rest(), reader.size(), pyi::tar::kRemote, true);
    const std::vector<pyi::tar::Source> sources{{&first, size, "first", "", ours},
                                                {&second, size, "second", "", ours}};
    try {
      out.bytes(pyi::tar::write_tar(out.fd(), sources, samples, ours, 1).bytes);
    } catch (const pyi::DataError&) {
    } catch (const pyi::ArgumentError&) {
    }
    fuzz::Bytes whole(reader.rest(), reader.size(), pyi::tar::kLocal);  // what was announced is over
    for (std::int64_t i = 0; i < N; ++i) try {
        check_samples({&whole, size, "whole", "", ours}, samples, &i, 1, reader.rest(), 0, size);
      } catch (const pyi::DataError&) {
      }
  }
  return 0;
}
