#include "errors.h"
#include "module.h"
#include "order/balance.h"

namespace pyi {
namespace {

using Ints = Array<std::int64_t>;

py::array_t<std::int32_t> balance(const Ints& sizes, const Ints& edges, const Ints& shares) {
  const py::ssize_t strata = edges.size() - 1;
  if (shares.ndim() != 2 || shares.shape(0) != strata || edges.data()[strata] != sizes.size()) {
    throw ArgumentError("balance: edges and shares do not fit the sizes");
  }
  if (sizes.size() >> 32 != 0) throw ArgumentError("policy 'balanced': at most 4294967295 samples");
  py::array_t<std::int32_t> owner(sizes.size());
  std::int32_t* out = owner.mutable_data();
  {
    py::gil_scoped_release nogil;
    order::balance(sizes.data(), edges.data(), static_cast<std::size_t>(strata), shares.data(),
                   static_cast<std::size_t>(shares.shape(1)), out);
  }
  return owner;
}

}  // namespace

void register_policies(py::module_& m) {
  m.def("balance", &balance, py::arg("sizes").noconvert(), py::arg("edges").noconvert(),
        py::arg("shares").noconvert());
}

}  // namespace pyi
