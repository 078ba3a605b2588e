// Python's view of the order that samples come in.
#include "load/bind_columns.h"
#include "load/mixing.h"
#include "module.h"

namespace pyi {
namespace {

using Seeds = Array<std::uint64_t>;

load::Lists lists_of(const Int64s& sizes, const Seeds& seeds) {
  require(seeds.size() == sizes.size(), "seeds do not fit sizes");
  return {static_cast<std::size_t>(sizes.size()), sizes.data(), seeds.data()};
}

Int64s taken(const Int64s& sizes, const Seeds& seeds, const Int64s& start, std::int64_t total) {
  const load::Lists lists = lists_of(sizes, seeds);
  require(start.size() == sizes.size(), "start does not fit sizes");
  std::int64_t all = 0;
  for (py::ssize_t i = 0; i < sizes.size(); ++i) {
    require(0 <= start.data()[i] && start.data()[i] <= sizes.data()[i], "start out of range");
    all += sizes.data()[i] - start.data()[i];
  }
  require(0 <= total && total <= all, "total out of range");
  Int64s ends(sizes.size());
  load::taken(lists, start.data(), total, ends.mutable_data());
  return ends;
}

Int64s merge(const Int64s& sizes, const Seeds& seeds, const Int64s& start, const Int64s& end) {
  const load::Lists lists = lists_of(sizes, seeds);
  require(start.size() == sizes.size() && end.size() == sizes.size(), "start or end does not fit sizes");
  std::int64_t m = 0;
  for (py::ssize_t i = 0; i < sizes.size(); ++i) {
    require(start.data()[i] <= end.data()[i], "end is less than start");
    m += end.data()[i] - start.data()[i];
  }
  Int64s order(m);
  load::merge(lists, start.data(), end.data(), order.mutable_data());
  return order;
}

Int64s shuffle(const Array<std::uint64_t>& random, const Int64s& counts) {
  std::int64_t m = 0;
  for (py::ssize_t i = 0; i < counts.size(); ++i) {
    require(counts.data()[i] >= 0 && counts.data()[i] <= random.size() - m, "counts do not fit random");
    m += counts.data()[i];
  }
  require(m == random.size(), "counts do not fit random");
  Int64s order(m);
  load::shuffle(random.data(), counts.data(), static_cast<std::size_t>(counts.size()), order.mutable_data());
  return order;
}

}  // namespace

void register_mixing(py::module_& m) {
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("mix_taken", &taken, arr("sizes"), arr("seeds"), arr("start"), py::arg("total"));
  m.def("mix_merge", &merge, arr("sizes"), arr("seeds"), arr("start"), arr("end"));
  m.def("mix_shuffle", &shuffle, arr("random"), arr("counts"));
}

}  // namespace pyi
