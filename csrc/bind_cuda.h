// What the binding files of pyimportance._cuda share.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "module.h"

namespace pyi::cuda {

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

inline cudaStream_t handle(std::intptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

void register_order(py::module_& m);
void register_ensemble(py::module_& m);

}  // namespace pyi::cuda
