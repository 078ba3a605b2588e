#include "module.h"
#include "parallel.h"

namespace pyi {
namespace {

// Calls f with the GIL, from a thread of the loop's.
auto with_gil(const py::function& f) {
  return [&f](std::int64_t begin, std::int64_t end) {
    const py::gil_scoped_acquire gil;
    f(begin, end);
  };
}

}  // namespace

void register_threads(py::module_& m) {
  m.def(
      "use_every_thread", [](bool on) { return every_thread.exchange(on); }, py::arg("on"),
      "Whether any amount of work is worth a thread, for tests; returns what was so before.");
  m.def(
      "parallel_for",
      [](std::int64_t n, int threads, const py::function& f) {
        const py::gil_scoped_release nogil;
        parallel_for(n, threads, with_gil(f));
      },
      py::arg("n"), py::arg("threads"), py::arg("f"),
      "Calls f(begin, end) for the parts of a loop over n entries as native loops are divided, for tests.");
  m.def(
      "parallel_pieces",
      [](std::int64_t n, int threads, std::int64_t least, const py::function& f) {
        const py::gil_scoped_release nogil;
        parallel_pieces(n, threads, least, with_gil(f), Then::kAnother);
      },
      py::arg("n"), py::arg("threads"), py::arg("least"), py::arg("f"),
      "The same for loops that are dealt in pieces, after which threads wait awake for another.");
}

}  // namespace pyi
