// Python's view of tar/index.h.
#pragma once

#include "module.h"

namespace pyi {

void register_index(py::module_& m);

}  // namespace pyi
