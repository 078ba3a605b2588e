#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "module.h"
#include "order/balance.h"
#include "order/flow.h"

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

std::pair<py::array_t<std::int64_t>, std::int64_t> cheapest_flow(const Array<std::int32_t>& from,
                                                                 const Array<std::int32_t>& to,
                                                                 const Ints& capacity, const Ints& cost,
                                                                 const Ints& supply, const Ints& start) {
  const py::ssize_t arcs = from.size(), nodes = supply.size();
  if (to.size() != arcs || capacity.size() != arcs || cost.size() != arcs || start.size() != arcs) {
    throw ArgumentError("cheapest_flow: arrays of different lengths");
  }
  std::vector<order::Arc> network(static_cast<std::size_t>(arcs));
  for (py::ssize_t e = 0; e < arcs; ++e) {
    const order::Arc arc{from.data()[e], to.data()[e], capacity.data()[e], cost.data()[e]};
    if (arc.from < 0 || arc.from >= nodes || arc.to < 0 || arc.to >= nodes || arc.capacity < 0 ||
        arc.cost < 0) {
      throw ArgumentError("cheapest_flow: arc " + std::to_string(e) + " is none of this network");
    }
    network[static_cast<std::size_t>(e)] = arc;
  }
  const std::vector<std::int64_t> units(supply.data(), supply.data() + nodes);
  if (std::accumulate(units.begin(), units.end(), std::int64_t{0}) != 0) {
    throw ArgumentError("cheapest_flow: supplies must sum to 0");
  }
  py::array_t<std::int64_t> flow(arcs);
  std::int64_t* out = flow.mutable_data();
  std::copy_n(start.data(), arcs, out);
  std::int64_t total;
  {
    py::gil_scoped_release nogil;
    total = order::cheapest_flow(network, units, out);
  }
  if (total < 0) throw ArgumentError("cheapest_flow: no flow carries these supplies");
  return {flow, total};
}

}  // namespace

void register_policies(py::module_& m) {
  m.def("balance", &balance, py::arg("sizes").noconvert(), py::arg("edges").noconvert(),
        py::arg("shares").noconvert());
  m.def("cheapest_flow", &cheapest_flow, py::arg("from_").noconvert(), py::arg("to").noconvert(),
        py::arg("capacity").noconvert(), py::arg("cost").noconvert(), py::arg("supply").noconvert(),
        py::arg("start").noconvert());
}

}  // namespace pyi
