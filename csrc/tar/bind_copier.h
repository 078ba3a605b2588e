// Python's view of tar/copy.h, on the threads of tar/tasks.h.
#pragma once

#include "module.h"

namespace pyi {

void register_copier(py::module_& m);

}  // namespace pyi
