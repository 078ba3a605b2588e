#include <string>

#include "errors.h"
#include "module.h"
#include "order/argsort.h"

namespace pyi {
namespace {

template <class T>
py::array_t<std::int64_t> argsort(const Array<T>& values, bool descending, int threads, bool wide) {
  if (values.ndim() != 1)
    throw ArgumentError("values: " + std::to_string(values.ndim()) + " axes; must have one");
  if (threads < 1) throw ArgumentError("threads=" + std::to_string(threads) + ": must be at least 1");
  py::array_t<std::int64_t> order(values.size());
  const T* in = values.data();
  std::int64_t* out = order.mutable_data();
  const auto n = static_cast<std::size_t>(values.size());
  {
    py::gil_scoped_release nogil;
    order::argsort(in, n, descending, threads, wide, out);
  }
  return order;
}

template <class... T>
void define_argsort(py::module_& m) {
  (m.def("argsort", &argsort<T>, py::arg("values").noconvert(), py::kw_only(), py::arg("descending"),
         py::arg("threads"), py::arg("wide") = false),
   ...);
}

}  // namespace

void register_order(py::module_& m) {
  define_argsort<float, double, std::int32_t, std::int64_t, std::uint32_t, std::uint64_t>(m);
}

}  // namespace pyi
