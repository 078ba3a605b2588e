// Arrays as matrices.
#pragma once

#include <string>

#include "module.h"
#include "observe/matrix.h"

namespace pyi {

// The last two axes of an array of `axes`: float32, float16 or bfloat16, which NumPy has not and which comes
// as a record of its bits (inputs.py). ArgumentError for anything else, and for rows whose elements lie
// apart.
Matrix matrix_of(const std::string& name, const py::array& array, py::ssize_t axes);

}  // namespace pyi
