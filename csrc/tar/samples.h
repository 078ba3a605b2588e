// Samples as columns, those of an index or of a shard to be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pyi::tar {

// Pointers are the caller's. Of file, offset, part_offset what a function does not use may be null.
struct Samples {
  std::int64_t n;
  const std::int64_t* key_offsets;  // [n + 1]
  const char* key_text;
  const std::int64_t* part_start;             // [n + 1]
  const std::int32_t* part_ext;               // [P] into extensions
  const std::int64_t* part_size;              // [P]
  const std::int32_t* file = nullptr;         // [n] into the sources
  const std::int64_t* offset = nullptr;       // [n] of the sample's first header in its source
  const std::int64_t* part_offset = nullptr;  // [P] of the payload in its source
  std::vector<std::string> extensions;
  const std::uint32_t* part_crc32c = nullptr;  // [P] of the payload; null: not known

  std::string_view key(std::int64_t sample) const {
    const std::int64_t from = key_offsets[sample];
    return {key_text + from, static_cast<std::size_t>(key_offsets[sample + 1] - from)};
  }
  const std::string& extension(std::int64_t part) const {
    return extensions[static_cast<std::size_t>(part_ext[part])];
  }
  std::string name(std::int64_t sample, std::int64_t part) const {
    return std::string(key(sample)).append(1, '.').append(extension(part));
  }
};

}  // namespace pyi::tar
