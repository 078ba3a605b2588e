// Plain objects written into memory that is sent, and made again from it, one call each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "load/bind_bytes.h"
#include "load/region.h"
#include "module.h"

namespace pyi {

// Block and serial, see load::Region.
using Handles = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

// Writes an object of lists, tuples, dicts and what they hold to a block, and sends it. Gives its handle and
// those of the blocks that it has views of, and what is left to pickle: objects of other types. None where
// there is little, or no room, and all is better left to it.
py::object write_object(load::Region* region, PyObject* object);

// The bytes objects of the last batches, to be made again when nobody else has them any more, as who trains
// on one batch after the other lets go of them. Those of batches before are whoever's they are.
class Received {
 public:
  Received() = default;
  Received(const Received&) = delete;
  Received& operator=(const Received&) = delete;
  ~Received() { keep(0); }

  // Of a batch of so many bytes.
  void begin(std::int64_t bytes) {
    spare_.expect(bytes);
    for (Batch& batch : batches_) {
      const auto is_free = [](const auto& one) { return Py_REFCNT(one.first) == 1; };
      const auto kept = std::partition(batch.begin(), batch.end(), std::not_fn(is_free));
      for (auto one = kept; one != batch.end(); ++one) spare_.give_back(one->first, one->second);
      batch.erase(kept, batch.end());
    }
    keep(kBatches - 1);
    batches_.emplace_back();
  }
  py::object take(std::int64_t size) {
    batches_.back().push_back(spare_.take(size));
    return py::reinterpret_borrow<py::object>(batches_.back().back().first);
  }

 private:
  using Batch = std::vector<std::pair<PyObject*, Py_ssize_t>>;  // objects, of these capacities
  static constexpr std::size_t kBatches = 2;

  void keep(std::size_t n) {
    for (; batches_.size() > n; batches_.pop_front())
      for (const auto& [object, capacity] : batches_.front()) Py_DECREF(object);
  }

  BytesPool spare_;
  std::deque<Batch> batches_;
};

// Makes again what was written. views: one of all of each of those blocks, but for the first.
py::object read_object(const unsigned char* data, std::int64_t size, std::vector<py::object> views,
                       py::list others, Received* received);

// How it is written. At first how many bytes of tags and what belongs to them follow; then these; then the
// contents of the parts, in the order of their tags.
enum class Tag : unsigned char {
  none,
  yes,
  no,
  integer,  // int64
  real,     // double
  text,     // size, UTF-8
  bytes,    // size; a part
  again,    // number of what was there before: text, bytes, lists, tuples and dicts have one
  view,     // number of its block, begin and size
  copied,   // size; a part, and what there was is a view
  list,     // length; that many objects
  tuple,    // likewise
  dict,     // length; keys; values
  alike,    // values, keys being those of the dict before
  other,    // the next of those that were left to pickle
};

constexpr std::int64_t kLargePart = 2 << 10;  // begins at a cache line

inline std::int64_t begin_of_part(std::int64_t size, std::int64_t at) {
  return size < kLargePart ? at : (at + 63) / 64 * 64;
}

// Copies that belong together; without the GIL if they take long.
struct Copy {
  unsigned char* to;
  const unsigned char* from;
  std::size_t n;
};

inline void copy_all(const std::vector<Copy>& copies, std::int64_t bytes) {
  constexpr std::int64_t kLong = 1 << 20;
  std::optional<py::gil_scoped_release> release;
  if (bytes >= kLong) release.emplace();
  for (const Copy& c : copies) std::memcpy(c.to, c.from, c.n);
}

}  // namespace pyi
