// argsort of pyimportance._cuda. The current device must be the tensors'.
#include <string>

#include "bind_cuda.h"
#include "borrowed.h"
#include "order/argsort_cuda.h"

namespace pyi::cuda {
namespace {

// Calls f with a null pointer to the type of the tensor's numbers.
template <class F>
auto of_type(const Borrowed& values, const F& f) {
  if (values.is(dlpack::kFloat, 32)) return f(static_cast<float*>(nullptr));
  if (values.is(dlpack::kFloat, 64)) return f(static_cast<double*>(nullptr));
  if (values.is(dlpack::kInt, 32)) return f(static_cast<std::int32_t*>(nullptr));
  if (values.is(dlpack::kInt, 64)) return f(static_cast<std::int64_t*>(nullptr));
  if (values.is(dlpack::kUInt, 32)) return f(static_cast<std::uint32_t*>(nullptr));
  if (values.is(dlpack::kUInt, 64)) return f(static_cast<std::uint64_t*>(nullptr));
  values.refuse("must be floats or integers of 32 or 64 bits");
}

template <class F>
auto sorting(const py::object& tensor, std::intptr_t stream, const F& f) {
  const Borrowed values("values", tensor, stream);
  values.expect(1);
  return of_type(values, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return f(values.data<const T>(), values->shape[0]);
  });
}

std::size_t workspace(const py::object& values, std::intptr_t stream) {
  return sorting(values, stream, [](auto* data, std::int64_t n) {
    std::size_t nbytes = 0;
    using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    check(argsort_workspace<T>(static_cast<std::size_t>(n), &nbytes));
    return nbytes;
  });
}

void sort(const py::object& values, bool descending, const py::object& room, const py::object& order,
          std::intptr_t stream) {
  const Borrowed space("workspace", room, stream), out("order", order, stream);
  sorting(values, stream, [&](auto* data, std::int64_t n) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    out.expect(1, dlpack::kInt, 64, n);
    std::size_t nbytes = 0;
    check(argsort_workspace<T>(static_cast<std::size_t>(n), &nbytes));
    space.expect(1);
    if (!space.is(dlpack::kUInt, 8) || static_cast<std::size_t>(space->shape[0]) < nbytes)
      space.refuse("must be " + std::to_string(nbytes) + " bytes");
    check(argsort<T>(data, static_cast<std::size_t>(n), descending, space.data<void>(),
                     out.data<std::int64_t>(), handle(stream)));
  });
}

}  // namespace

void register_order(py::module_& m) {
  using py::arg;
  m.def("argsort_workspace", &workspace, arg("values"), arg("stream"),
        "Bytes of workspace that argsort of values [N] takes.");
  m.def("argsort", &sort, arg("values"), arg("descending"), arg("workspace"), arg("order"), arg("stream"),
        "Positions of values [N] into int64 order [N] (csrc/order/argsort.h).");
}

}  // namespace pyi::cuda
