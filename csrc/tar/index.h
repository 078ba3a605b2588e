// An index from somewhere else, looked through once: is it sound, and in which order do its samples lie?
#pragma once

#include <cstdint>
#include <vector>

#include "tar/samples.h"

namespace pyi::tar {

// The columns of an index, of whose values nothing is known.
struct IndexColumns {
  Samples samples;             // file, offset and part_offset are there
  const std::int64_t* ids;     // [samples.n]
  const std::int64_t* nbytes;  // [samples.n] headers, payloads and padding
  std::int64_t text;           // bytes of key_text
  std::int64_t parts;          // of part_ext, part_size, part_offset
  std::vector<std::int64_t> file_bytes;
};

// Whether ids are 0 or more; part_start rises from 0 to `parts`; files are ascending and exist; samples lie
// in their files, on blocks, and parts in their samples, each of a known extension; and no key leads out.
// False also where a sample does not list its parts in order of extension: those may repeat. Does not say
// which of these is not so. Any number of threads.
bool is_sound(const IndexColumns& columns, int threads);

// Whether samples are in order of (bin, file, offset).
bool in_storage_order(std::int64_t n, const std::int32_t* bin, const std::int32_t* file,
                      const std::int64_t* offset);

// Where the samples order[0..n) (null: 0, 1, 2 ..) begin another block: at another bin, another file, and
// where the bytes before them reach another multiple of `block_bytes` with their own. The first is 0, where n
// is not. Neither a frame (null: there are none) nor copies of a sample are parted: what was due there begins
// after them.
std::vector<std::int64_t> block_starts(std::int64_t n, const std::int64_t* order, const std::int32_t* bin,
                                       const std::int32_t* file, const std::int64_t* offset,
                                       const std::int32_t* frame, const std::int64_t* nbytes,
                                       std::int64_t block_bytes);

}  // namespace pyi::tar
