// pyimportance._cuda: device tensors in by DLPack, work enqueued on the caller's stream.
#include <string>

#include "dlpack.h"
#include "module.h"
#include "observe/rows_cuda.h"

namespace pyi::cuda {
namespace {

// A tensor that lives as long as this: taken from its producer's capsule, given back at the end.
class Borrowed {
 public:
  Borrowed(const char* name, const py::object& tensor, std::uintptr_t stream) : name_(name) {
    // DLPack numbers the legacy default stream 1; 0 is ambiguous and refused by producers.
    const py::int_ consumer(stream == 0 ? 1 : stream);
    capsule_ = tensor.attr("__dlpack__")(py::arg("stream") = consumer);
    managed_ = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule_.ptr(), "dltensor"));
    if (managed_ == nullptr) throw py::error_already_set();
    PyCapsule_SetName(capsule_.ptr(), "used_dltensor");
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed() {
    if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
  }

  const dlpack::Tensor* operator->() const { return &managed_->tensor; }

  void expect(dlpack::TypeCode code, int bits, int axes) const {
    const dlpack::Tensor& t = managed_->tensor;
    if (t.device.type != dlpack::kCUDA) throw py::value_error(name_ + ": must be on a CUDA device");
    if (t.dtype.code != code || t.dtype.bits != bits || t.dtype.lanes != 1 || t.ndim != axes) {
      throw py::value_error(name_ + ": has another dtype or number of axes than it must have");
    }
    const bool adjacent = t.strides == nullptr || t.shape[axes - 1] <= 1 || t.strides[axes - 1] == 1;
    if (!adjacent) throw py::value_error(name_ + ": elements of the last axis must be adjacent");
  }

  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(managed_->tensor.data) + managed_->tensor.byte_offset);
  }

 private:
  std::string name_;
  py::object capsule_;
  dlpack::ManagedTensor* managed_ = nullptr;
};

void rows(const py::object& logits, const py::object& targets, const py::object& out, std::uintptr_t stream) {
  const Borrowed z("logits", logits, stream), y("targets", targets, stream), r("out", out, stream);
  z.expect(dlpack::kFloat, 32, 2);
  y.expect(dlpack::kInt, 64, 1);
  r.expect(dlpack::kUInt, 8, 2);
  const std::int64_t n = z->shape[0], classes = z->shape[1];
  const bool packed = r->strides == nullptr || r->strides[0] == static_cast<std::int64_t>(sizeof(Row));
  if (classes < 1 || classes > INT32_MAX) throw py::value_error("logits: 1 to 2^31 - 1 classes are allowed");
  if (y->shape[0] != n) throw py::value_error("targets: must be one per row of logits");
  if (r->shape[0] != n || r->shape[1] != static_cast<std::int64_t>(sizeof(Row)) || !packed) {
    throw py::value_error("out: must be contiguous uint8 [B, " + std::to_string(sizeof(Row)) + "]");
  }
  if (z->device.id != y->device.id || z->device.id != r->device.id) {
    throw py::value_error("logits, targets and out: must be on one device");
  }
  const Logits view{z.data<const float>(), z->strides == nullptr ? classes : z->strides[0], classes};
  const cudaError_t status = compute_rows(view, y.data<const std::int64_t>(), n, r.data<Row>(),
                                          reinterpret_cast<cudaStream_t>(stream));
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
  }
}

}  // namespace
}  // namespace pyi::cuda

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of pyimportance.";
  m.def("rows", &pyi::cuda::rows, pyi::py::arg("logits"), pyi::py::arg("targets"), pyi::py::arg("out"),
        pyi::py::arg("stream"),
        "Statistics of float32 logits [B, C] for int64 targets [B] into uint8 out [B, 32] "
        "(csrc/observe/row.h), "
        "enqueued on the CUDA stream whose handle is given.");
}
