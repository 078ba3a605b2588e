#include "module.h"
#include "parallel.h"

namespace pyi {

void register_threads(py::module_& m) {
  m.def(
      "use_every_thread", [](bool on) { return every_thread.exchange(on); }, py::arg("on"),
      "Whether any amount of work is worth a thread, for tests; returns what was so before.");
  m.def(
      "parallel_for",
      [](std::int64_t n, int threads, const py::function& f) {
        const py::gil_scoped_release nogil;
        parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end) {
          const py::gil_scoped_acquire gil;
          f(begin, end);
        });
      },
      py::arg("n"), py::arg("threads"), py::arg("f"),
      "Calls f(begin, end) for the parts of a loop over n entries as native loops are divided, for tests.");
}

}  // namespace pyi
