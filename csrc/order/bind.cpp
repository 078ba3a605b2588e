#include <optional>
#include <string>
#include <utility>

#include "errors.h"
#include "module.h"
#include "order/argsort.h"
#include "order/select.h"

namespace pyi {
namespace {

using order::ConstPositions;

// uint32 or int64 [n].
ConstPositions positions_of(const char* name, const py::array& array, py::ssize_t n) {
  const bool wide = py::isinstance<py::array_t<std::int64_t>>(array);
  const bool contiguous = (array.flags() & py::array::c_style) != 0;
  if ((!wide && !py::isinstance<py::array_t<std::uint32_t>>(array)) || !contiguous || array.ndim() != 1 ||
      array.size() != n)
    throw ArgumentError(std::string(name) + ": must be " + std::to_string(n) +
                        " contiguous uint32 or int64 numbers");
  return {array.data(), wide};
}

// Positions, and with `sorted` the values in their order as well.
template <class T>
py::object argsort(const Array<T>& values, bool descending, int threads, bool wide, bool compact,
                   const std::optional<py::array>& carried, bool sorted) {
  if (values.ndim() != 1)
    throw ArgumentError("values: " + std::to_string(values.ndim()) + " axes; must have one");
  if (threads < 1) throw ArgumentError("threads=" + std::to_string(threads) + ": must be at least 1");
  const py::ssize_t n = values.size();
  if (compact && n > std::int64_t{UINT32_MAX})
    throw ArgumentError("compact: there are more than 2**32 - 1 values");
  const order::Sorting how{descending, threads, wide};
  const ConstPositions from = carried ? positions_of("carried", *carried, n) : ConstPositions{nullptr, true};
  py::array order = compact ? py::array(py::array_t<std::uint32_t>(n)) : py::array_t<std::int64_t>(n);
  py::array_t<T> in_order(sorted ? n : 0);
  const T* in = values.data();
  void* const out = order.mutable_data();
  T* const values_out = sorted ? in_order.mutable_data() : nullptr;
  {
    py::gil_scoped_release nogil;
    order::argsort(in, static_cast<std::size_t>(n), how, from, {out, !compact}, values_out);
  }
  if (!sorted) return std::move(order);
  return py::make_tuple(order, in_order);
}

py::array select_ranks(const Array<float>& values, std::size_t start, std::size_t stop, bool descending,
                       int threads) {
  const auto n = static_cast<std::size_t>(values.size());
  if (values.ndim() != 1 || start > stop || stop > n || threads < 1)
    throw ArgumentError("start, stop: must be ranks of values of one axis, threads at least 1");
  const bool wide = n > UINT32_MAX;
  const auto count = static_cast<py::ssize_t>(stop - start);
  py::array positions =
      wide ? py::array(py::array_t<std::int64_t>(count)) : py::array_t<std::uint32_t>(count);
  const float* in = values.data();
  void* const out = positions.mutable_data();
  {
    py::gil_scoped_release nogil;
    order::select_ranks(in, n, descending, threads, start, stop, {out, wide});
  }
  return positions;
}

template <class... T>
void define_argsort(py::module_& m) {
  (m.def("argsort", &argsort<T>, py::arg("values").noconvert(), py::kw_only(), py::arg("descending"),
         py::arg("threads"), py::arg("wide") = false, py::arg("compact") = false,
         py::arg("carried") = py::none(), py::arg("sorted") = false),
   ...);
}

}  // namespace

void register_order(py::module_& m) {
  define_argsort<float, double, std::int32_t, std::int64_t, std::uint32_t, std::uint64_t>(m);
  m.def("select_ranks", &select_ranks, py::arg("values").noconvert(), py::arg("start"), py::arg("stop"),
        py::kw_only(), py::arg("descending"), py::arg("threads"));
}

}  // namespace pyi
