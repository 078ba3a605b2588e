// One pass over the headers of a tar: where every sample and each of its parts lies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tar/read.h"

namespace pyi::tar {

// Columns of an index (pyimportance/shards/sample_index.py says what they mean).
struct Columns {
  std::vector<std::int64_t> key_offsets{0};
  std::string key_text;
  std::vector<std::int64_t> offset, nbytes;          // per sample
  std::vector<std::int64_t> part_start{0};           // per sample, and the end
  std::vector<std::int32_t> part_ext;                // per part, into extensions
  std::vector<std::int64_t> part_offset, part_size;  // per part
  std::vector<std::uint32_t> part_crc32c;            // per part, of its payload; none if not asked for
  std::vector<std::string> extensions;               // in order of appearance, lower case
  std::int64_t bytes_read = 0, requests = 0;

  std::int64_t samples() const { return static_cast<std::int64_t>(offset.size()); }
};

// Reads the headers of a tar of `size` bytes by position, and skips large payloads.
// limit: stop after so many samples (-1: none); what follows is then not looked at.
// checksums: payloads are read as well, and summed.
// Memory grows with what was read, never with what a header claims. Throws DataError with member and offset
// for: a truncated archive, also one cut between members (allow_missing_eof: only inside one); members that
// are neither files nor directories; parts of a sample that are not adjacent; an extension that repeats.
Columns scan(Input* input, std::int64_t size, bool allow_missing_eof, std::int64_t limit,
             bool checksums = false);

// The columns of several files as those of one, file after file; offsets stay those in their files.
Columns joined(std::vector<Columns>&& files);

}  // namespace pyi::tar
