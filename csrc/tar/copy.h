// Writes a canonical tar: our headers, payloads copied undecoded from wherever they lie.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tar/check.h"
#include "tar/read.h"

namespace pyi::tar {

// n samples in the order they are written; pointers are the caller's.
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
};

struct Written {
  std::int64_t bytes = 0;
  std::uint32_t crc32c = 0;
  Count read;
};

// Bytes of the canonical headers of every part, into out [P].
// Throws ArgumentError for a key that would not be read back as the same key and extension.
void header_sizes(const Samples& samples, std::int64_t* out);

// Writes the tar to `out` from position 0, through a window of `window` bytes at most. Within a window the
// reads are sorted by place in the source, and neighbours are fetched by one request. The headers in front of
// every payload are read with it, and must be those of the member that is asked for (see check.h), so that an
// index of a tar that was written again since copies nothing. canonical: the sources are tars of ours, whose
// headers are known to the bit and copied. Throws DataError (source, member, offset) where a source is
// shorter or holds something else than its index says; std::system_error where `out` cannot be written.
Written write_tar(int out, const std::vector<Source>& sources, const Samples& samples, bool canonical,
                  std::int64_t window);

}  // namespace pyi::tar
