#include "load/region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace pyi::load {
namespace {

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// How often a block was sent and is held, and of which of its uses that is said.
struct State {
  std::uint32_t serial;
  std::uint16_t sent, held;
};

State unpacked(std::uint64_t word) {
  return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint16_t>(word >> 16),
          static_cast<std::uint16_t>(word)};
}
std::uint64_t packed(State s) { return std::uint64_t{s.serial} << 32 | std::uint64_t{s.sent} << 16 | s.held; }

struct Own {
  std::shared_ptr<Region> region;
  pid_t process = 0;
};
Own own;

}  // namespace

struct Region::Block {
  std::atomic<std::uint64_t> state;
  std::uint64_t begin, size;  // in bytes from the region's begin; the owner writes them while it is free
};

struct Region::Table {
  Block blocks[kBlocks];
};

Region::Region(int fd, std::int64_t begin, bool own) : used_(kBlocks, 0) {
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "processes share it");
  void* const at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                        static_cast<off_t>(begin));
  if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap of shared memory");
  memory_ = static_cast<unsigned char*>(at);
  table_ = static_cast<Table*>(at);
  if (!own) return;
  for (std::uint32_t b = 0; b < kBlocks; ++b)  // of an owner that is gone: who comes now finds nothing
    change(b, [](State* s) { return s->sent = 0, true; });
}

Region::~Region() { munmap(memory_, kBytes); }

// Changes the state of a block at once, unless f says that it is not to be.
template <class F>
bool Region::change(std::uint32_t block, const F& f) {
  std::atomic<std::uint64_t>& word = table_->blocks[block].state;
  std::uint64_t was = word.load(std::memory_order_acquire);
  for (;;) {
    State state = unpacked(was);
    if (!f(&state)) return false;
    if (word.compare_exchange_weak(was, packed(state), std::memory_order_acq_rel)) return true;
  }
}

bool Region::is_free(std::uint32_t block) const {
  const State s = unpacked(table_->blocks[block].state.load(std::memory_order_acquire));
  return used_[block] == 0 && s.sent == 0 && s.held == 0;
}

// What lies between the blocks that are somebody's, in order: from, to.
std::vector<std::pair<std::uint64_t, std::uint64_t>> Region::gaps() const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken, found;
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    const Block& block = table_->blocks[b];
    if (!is_free(b)) taken.emplace_back(block.begin, block.begin + block.size);
  }
  std::sort(taken.begin(), taken.end());
  taken.emplace_back(kBytes, kBytes);
  std::uint64_t at = whole_pages(sizeof(Table));
  for (const auto& [from, to] : taken) {
    if (at < from) found.emplace_back(at, from);
    at = to;
  }
  return found;
}

std::size_t Region::room() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t most = 0;
  for (const auto& [from, to] : gaps()) most = std::max(most, to - from);
  return most;
}

// In the first gap that is large enough: memory that was used before has its pages.
unsigned char* Region::take(std::size_t n) {
  if (n > static_cast<std::size_t>(kBytes)) return nullptr;
  const std::uint64_t size = whole_pages(std::max(n, std::size_t{1}));
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint32_t block = 0;
  while (block < kBlocks && !is_free(block)) ++block;
  const auto all = gaps();
  const auto gap =
      std::find_if(all.begin(), all.end(), [size](auto g) { return g.second - g.first >= size; });
  if (block == kBlocks || gap == all.end()) return nullptr;
  table_->blocks[block].begin = gap->first, table_->blocks[block].size = size;
  used_[block] = 1;
  change(block, [](State* s) { return ++s->serial, true; });
  return memory_ + gap->first;
}

void Region::give_back(const unsigned char* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const std::uint32_t block = find(data); block < kBlocks) used_[block] = 0;
}

std::uint32_t Region::find(const unsigned char* at) const {
  if (at < memory_ || at >= memory_ + kBytes) return kBlocks;
  const auto offset = static_cast<std::uint64_t>(at - memory_);
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    const Block& block = table_->blocks[b];
    if (used_[b] != 0 && offset >= block.begin && offset < block.begin + block.size) return b;
  }
  return kBlocks;
}

std::optional<Region::Handle> Region::send(const unsigned char* at) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::uint32_t block = find(at);
  Handle handle{block, 0};
  const auto once_more = [&handle](State* s) {
    handle.serial = s->serial;
    return s->sent + s->held < UINT16_MAX && (++s->sent, true);
  };
  if (block == kBlocks || !change(block, once_more)) return std::nullopt;
  return handle;
}

void Region::take_back(Handle handle) {
  change(handle.block,
         [&](State* s) { return s->serial == handle.serial && s->sent > 0 && (--s->sent, true); });
}

bool Region::receive(Handle handle) {
  return handle.block < kBlocks && change(
                                       handle.block,
                                       [&](State* s) {
                                         return s->serial == handle.serial && s->sent > 0 &&
                                                (--s->sent, ++s->held, true);
                                       });
}

void Region::release(std::uint32_t block) {
  change(block, [](State* s) { return --s->held, true; });
}

unsigned char* Region::data(std::uint32_t block) const { return memory_ + table_->blocks[block].begin; }
std::size_t Region::size(std::uint32_t block) const { return table_->blocks[block].size; }

void read_into(std::shared_ptr<Region> region) { own = {std::move(region), getpid()}; }
std::shared_ptr<Region> region_to_read_into() {
  return own.region != nullptr && own.process == getpid() ? own.region : nullptr;
}

}  // namespace pyi::load
