#include "tar/index.h"

#include <atomic>

#include "parallel.h"
#include "tar/header.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  // samples that a thread is worth

// Of one sample, where those before it are known to be sound or not to matter. Comparisons by subtraction, so
// that no sum of two hostile numbers can overflow.
bool sample_is_sound(const IndexColumns& c, std::int64_t i) {
  const Samples& s = c.samples;
  const std::int64_t from = s.part_start[i], to = s.part_start[i + 1];
  if (c.ids[i] < 0 || from < 0 || to <= from || to > c.parts) return false;
  const std::int32_t file = s.file[i];
  if (file < 0 || static_cast<std::size_t>(file) >= c.file_bytes.size()) return false;
  if (i > 0 && file < s.file[i - 1]) return false;
  const std::int64_t offset = s.offset[i], nbytes = c.nbytes[i];
  const std::int64_t end_of_file = c.file_bytes[static_cast<std::size_t>(file)];
  if (offset < 0 || nbytes <= 0 || offset > end_of_file || nbytes > end_of_file - offset) return false;
  if (offset % kBlock != 0 || nbytes % kBlock != 0) return false;
  const std::int64_t end = offset + nbytes;
  std::int32_t before = -1;
  for (std::int64_t p = from; p < to; ++p) {
    const std::int32_t extension = s.part_ext[p];
    if (extension <= before || static_cast<std::size_t>(extension) >= s.extensions.size()) return false;
    if (s.part_offset[p] < offset || s.part_offset[p] > end) return false;
    if (s.part_size[p] < 0 || s.part_size[p] > end - s.part_offset[p]) return false;
    before = extension;
  }
  const std::int64_t key = s.key_offsets[i], key_end = s.key_offsets[i + 1];
  return key >= 0 && key < key_end && key_end <= c.text && leads_out(s.key(i)) == nullptr;
}

}  // namespace

bool is_sound(const IndexColumns& c, int threads) {
  const Samples& s = c.samples;
  if (s.part_start[0] != 0 || s.part_start[s.n] != c.parts) return false;
  std::atomic<bool> sound{true};
  parallel_for(s.n, useful_threads(threads, s.n, kGrain), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (sample_is_sound(c, i)) continue;
      sound.store(false, std::memory_order_relaxed);
      return;
    }
  });
  return sound.load(std::memory_order_relaxed);
}

bool in_storage_order(std::int64_t n, const std::int32_t* bin, const std::int32_t* file,
                      const std::int64_t* offset) {
  for (std::int64_t i = 1; i < n; ++i) {
    if (bin[i - 1] != bin[i]) {
      if (bin[i - 1] > bin[i]) return false;
    } else if (file[i - 1] != file[i]) {
      if (file[i - 1] > file[i]) return false;
    } else if (offset[i - 1] > offset[i]) {
      return false;
    }
  }
  return true;
}

std::vector<std::int64_t> block_starts(std::int64_t n, const std::int64_t* order, const std::int32_t* bin,
                                       const std::int32_t* file, const std::int64_t* offset,
                                       const std::int32_t* frame, const std::int64_t* nbytes,
                                       std::int64_t block_bytes) {
  std::vector<std::int64_t> starts;
  bool due = false;
  std::int64_t in_block = 0, previous = 0;  // bytes above the last multiple, which stays below block_bytes
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = order == nullptr ? i : order[i];
    const bool apart = i == 0 || bin[row] != bin[previous] || file[row] != file[previous];
    if (nbytes[row] >= block_bytes - in_block) {
      in_block = (nbytes[row] - (block_bytes - in_block)) % block_bytes;
      due = true;
    } else {
      in_block += nbytes[row];
    }
    if (apart ||
        (due && (frame == nullptr ? offset[row] != offset[previous] : frame[row] != frame[previous]))) {
      starts.push_back(i);
      due = false;
    }
    previous = row;
  }
  return starts;
}

}  // namespace pyi::tar
