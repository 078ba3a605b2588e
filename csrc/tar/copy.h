// Writes a canonical tar: our headers, payloads copied undecoded from wherever they lie.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tar/check.h"
#include "tar/read.h"
#include "tar/samples.h"

namespace pyi::tar {

struct Written {
  std::int64_t bytes = 0;
  std::uint32_t crc32c = 0;
  Count read;
};

// Of work that is wanted no more.
struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("was stopped") {}
};

inline const std::atomic<bool> never{false};

// Bytes of the canonical headers of every part, into out [P].
// Throws ArgumentError for a key that would not be read back as the same key and extension.
void header_sizes(const Samples& samples, std::int64_t* out);

// Those headers, one after another, for samples whose payloads are in memory. Sizes as above.
std::string headers(const Samples& samples, std::int64_t* sizes);

// Writes the tar to `out` from position 0, through a window of `window` bytes at most. Within a window the
// reads are sorted by place in the source, and neighbours are fetched by one request (what counts as such,
// and how many requests are under way at once, is the inputs' habit). The headers in front of
// every payload are read with it, and must be those of the member that is asked for (see check.h), so that an
// index of a tar that was written again since copies nothing. canonical: the sources are tars of ours, whose
// headers are known to the bit and copied. Throws DataError (source, member, offset) where a source is
// shorter or holds something else than its index says, payloads included where that has their checksums;
// std::system_error where `out` cannot be written;
// Stopped, within a window's time, once `stop` is set.
Written write_tar(int out, const std::vector<Source>& sources, const Samples& samples, bool canonical,
                  std::int64_t window, const std::atomic<bool>& stop = never);

// Returns when what was written to a file is on the disk. Throws std::system_error.
void sync_file(int fd);

// Reads the first `size` bytes of an input, and sums them: bytes, crc32c, read. Throws DataError; Stopped.
Written sum_file(Input* input, std::int64_t size, const std::atomic<bool>& stop);

}  // namespace pyi::tar
