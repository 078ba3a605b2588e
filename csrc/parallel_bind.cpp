#include "module.h"
#include "parallel.h"

namespace pyi {

void register_threads(py::module_& m) {
  m.def(
      "use_every_thread", [](bool on) { return every_thread.exchange(on); }, py::arg("on"),
      "Whether any amount of work is worth a thread, for tests; returns what was so before.");
}

}  // namespace pyi
