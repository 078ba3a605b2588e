// Memory that a loader process and its training process both map: what is sent is written once, and looked at
// or copied where it lies.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace pyi::load {

// A part of a file without a name that one process, the owner, takes blocks of, and another receives them. A
// block is somebody's while its owner uses it, while it is sent, as often as it was, and while it is held,
// likewise; then it is taken again. What counts that lies in the file: an owner may be killed, and the next
// one takes nothing that is still looked at, but all that was sent and never came.
class Region {
 public:
  static constexpr std::int64_t kBytes = 512 << 20;  // of the file; those that were used take memory

  // A block that was sent: which use of it, so that it is not taken for a later one.
  struct Handle {
    std::uint32_t block, serial;
  };

  // The part from `begin` on of a file that is as long. Throws std::system_error where it cannot be mapped.
  Region(int fd, std::int64_t begin, bool own);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Of the owner, by any of its threads: at least n bytes, from a page's begin on; null where there is no
  // room.
  unsigned char* take(std::size_t n);
  std::size_t room();  // the largest that there may be
  void give_back(const unsigned char* data);
  // Sends, once more, the block in which `at` lies; none where there is none, or it is sent too often.
  std::optional<Handle> send(const unsigned char* at);
  void take_back(Handle handle);

  // Of the receiver: whether it is there, once for every time that it was sent; then it is held.
  bool receive(Handle handle);
  void release(std::uint32_t block);
  // Of a block that is sent or held.
  unsigned char* data(std::uint32_t block) const;
  std::size_t size(std::uint32_t block) const;

 private:
  static constexpr std::uint32_t kBlocks = 511;
  struct Block;
  struct Table;

  bool is_free(std::uint32_t block) const;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps() const;
  std::uint32_t find(const unsigned char* at) const;  // kBlocks: none
  template <class F>
  bool change(std::uint32_t block, const F& f);

  unsigned char* memory_;
  Table* table_;
  std::mutex mutex_;
  std::vector<char> used_;  // by the owner, of each block
};

// The region that this process reads to what it sends, null where it sends nothing: a fork's child does not.
void read_into(std::shared_ptr<Region> region);
std::shared_ptr<Region> region_to_read_into();

}  // namespace pyi::load
