// Table of contents of pyimportance._C: one register function per native part, each in its part's bind.cpp.
#include "module.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of pyimportance: observe and reduce, order, tar, load.";
  pyi::register_errors(m);
  pyi::register_threads(m);
  pyi::register_order(m);
  pyi::register_policies(m);
  pyi::register_tar(m);
  pyi::register_load(m);
  pyi::register_sending(m);
  pyi::register_mixing(m);
  pyi::register_observe(m);
  pyi::register_ensemble(m);
  pyi::register_own(m);
}
