// What the binding files share. Only module.cpp and the bind.cpp files include this or know Python.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace pyi {
namespace py = pybind11;

// C-contiguous array of T; a wrong dtype is an error (py::arg().noconvert()), never a silent copy.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

void register_errors(py::module_& m);
void register_threads(py::module_& m);
void register_order(py::module_& m);
void register_policies(py::module_& m);
void register_tar(py::module_& m);
void register_load(py::module_& m);
void register_sending(py::module_& m);
void register_mixing(py::module_& m);
void register_observe(py::module_& m);
void register_ensemble(py::module_& m);
void register_own(py::module_& m);
}  // namespace pyi
