// Device tensors as the binding files take them: borrowed through DLPack, checked, then plain pointers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "dlpack.h"
#include "module.h"

#ifndef PYI_DEVICE_TYPE  // the tests run the kernels on the host, and then that is the device
#define PYI_DEVICE_TYPE dlpack::kCUDA
#endif

namespace pyi {

// A tensor that lives as long as this: taken from its producer's capsule, given back at the end. stream: the
// handle of the one it will be used on; the producer has it wait for what it has enqueued elsewhere.
class Borrowed {
 public:
  Borrowed(const char* name, const py::object& tensor, std::intptr_t stream) : name_(name) {
    // DLPack numbers the legacy default stream 1; 0 is ambiguous and refused by producers. -1: nothing to
    // wait for.
    const py::int_ consumer(stream == 0 ? 1 : stream);
    const py::object capsule = tensor.attr("__dlpack__")(py::arg("stream") = consumer);
    managed_ = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (managed_ == nullptr) throw py::error_already_set();
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  }
  Borrowed(Borrowed&& other) noexcept
      : name_(std::move(other.name_)), managed_(std::exchange(other.managed_, nullptr)) {}
  Borrowed& operator=(Borrowed&&) = delete;
  ~Borrowed() {
    if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
  }

  const dlpack::Tensor* operator->() const { return &managed_->tensor; }
  bool is(dlpack::TypeCode code, int bits) const {
    const auto& type = managed_->tensor.dtype;
    return type.code == code && type.bits == bits && type.lanes == 1;
  }
  // Elements from one entry of an axis to the next.
  std::int64_t stride(int axis = 0) const {
    const dlpack::Tensor& t = managed_->tensor;
    if (t.strides != nullptr) return t.strides[axis];
    std::int64_t packed = 1;
    for (int after = axis + 1; after < t.ndim; ++after) packed *= t.shape[after];
    return packed;
  }

  [[noreturn]] void refuse(const std::string& problem) const {
    throw py::value_error(name_ + ": " + problem);
  }

  // On a device, with as many axes, the elements of the last one adjacent.
  void expect(int axes) const {
    const dlpack::Tensor& t = managed_->tensor;
    if (t.device.type != PYI_DEVICE_TYPE) refuse("must be on a CUDA device");
    if (t.ndim != axes) refuse("must have " + std::to_string(axes) + (axes == 1 ? " axis" : " axes"));
    bool adjacent = t.strides == nullptr || t.shape[axes - 1] == 1 || t.strides[axes - 1] == 1;
    for (int axis = 0; axis < axes; ++axis)
      adjacent |= t.shape[axis] == 0;  // strides of nothing mean nothing
    if (!adjacent) refuse("elements of the last axis must be adjacent");
  }
  // Besides, of a dtype, and `length` of them in the first axis.
  void expect(int axes, dlpack::TypeCode code, int bits, std::int64_t length) const {
    expect(axes);
    if (!is(code, bits)) refuse("has another dtype than it must have");
    const std::int64_t got = managed_->tensor.shape[0];
    if (got != length) {
      refuse(std::to_string(got) + " of them; must be " + std::to_string(length));
    }
  }
  // Besides, packed structs of T as bytes [length, sizeof(T)].
  template <class T>
  void expect_structs(std::int64_t length) const {
    expect(2, dlpack::kUInt, 8, length);
    if (managed_->tensor.shape[1] != sizeof(T) || (length > 1 && stride() != sizeof(T))) {
      refuse("must be contiguous [N, " + std::to_string(sizeof(T)) + "]");
    }
  }

  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(managed_->tensor.data) + managed_->tensor.byte_offset);
  }

 private:
  std::string name_;
  dlpack::ManagedTensor* managed_ = nullptr;
};

}  // namespace pyi
