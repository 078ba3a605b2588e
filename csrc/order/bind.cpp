#include <optional>
#include <string>

#include "errors.h"
#include "module.h"
#include "order/argsort.h"
#include "order/select.h"
#include "order/workspace.h"

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

template <class T>
py::array argsort(const Array<T>& values, bool descending, int threads, bool wide, bool compact,
                  const std::optional<py::array>& carried) {
  if (values.ndim() != 1)
    throw ArgumentError("values: " + std::to_string(values.ndim()) + " axes; must have one");
  if (threads < 1) throw ArgumentError("threads=" + std::to_string(threads) + ": must be at least 1");
  const auto n = static_cast<std::size_t>(values.size());
  if (compact && n > UINT32_MAX) throw ArgumentError("compact: there are more than 2**32 - 1 values");
  const order::Sorting how{descending, threads, wide};
  const ConstPositions from =
      carried ? positions_of("carried", *carried, values.size()) : ConstPositions{nullptr, true};
  const T* in = values.data();
  if (!compact) {
    py::array_t<std::int64_t> positions(values.size());
    std::int64_t* const out = positions.mutable_data();
    {
      py::gil_scoped_release nogil;
      order::argsort(in, n, how, from, {out, true});
    }
    return positions;
  }
  order::Workspace room(n * sizeof(std::int64_t));
  {
    py::gil_scoped_release nogil;
    order::argsort(in, n, how, from, {room.data(), false});
  }
  auto result = room.release(n * sizeof(std::uint32_t));
  const py::capsule owner(result.get(), [](void* memory) { order::Free{}(memory); });
  return py::array_t<std::uint32_t>(values.size(), static_cast<std::uint32_t*>(result.release()), owner);
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
         py::arg("carried") = py::none()),
   ...);
}

}  // namespace

void register_order(py::module_& m) {
  define_argsort<float, double, std::int32_t, std::int64_t, std::uint32_t, std::uint64_t>(m);
  m.def("select_ranks", &select_ranks, py::arg("values").noconvert(), py::arg("start"), py::arg("stop"),
        py::kw_only(), py::arg("descending"), py::arg("threads"));
}

}  // namespace pyi
