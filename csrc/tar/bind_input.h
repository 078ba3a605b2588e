// What Python opened, as native code reads it.
#pragma once

#include <memory>

#include "module.h"
#include "tar/read.h"

namespace pyi {

// `handle`: a descriptor, or an object like `pyimportance.io.remote.RemoteFile`, whose fetch(offset, nbytes)
// gives a buffer and begin(offset, nbytes) a future of one. Made and destroyed with the GIL; it is taken
// while such an object is called.
std::unique_ptr<tar::Input> make_input(const py::object& handle);

}  // namespace pyi
