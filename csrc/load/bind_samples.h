// Samples of a window as Python has them.
#pragma once

#include <cstdint>
#include <vector>

#include "load/bind_columns.h"
#include "load/window.h"

namespace pyi {

// Parts in places of their own are the bytes objects they were read into. The others lie in the window's
// buffer: they are views of it, a memoryview that begins at `start`, or copied out of it where there is none.
struct Parts {
  PyObject* views;
  const unsigned char* start;
};

// The samples [begin, end) of a window that was read, each a dict of `__key__ __url__ __index__ __weight__
// __pad__` and its parts.
py::list make_samples(const LoadColumns& columns, const load::Window& window, const Parts& parts,
                      const std::vector<char>& pad, std::int64_t begin, std::int64_t end);

// Where a batch of B samples goes, but for its fields, which are read to where they belong.
struct BatchPlaces {
  py::dict lists;  // name -> list of B: keys, URLs and all parts that are no fields; made where it is missing
  std::int64_t* index;
  bool* pad;
  std::int64_t size;
};

// The n samples from `begin` on into those places of a batch.
void fill_batch(const LoadColumns& columns, const load::Window& window, const Parts& parts,
                const std::vector<char>& pad, std::int64_t begin, const std::int64_t* slots, std::int64_t n,
                BatchPlaces* batch);

}  // namespace pyi
