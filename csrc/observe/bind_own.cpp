#include <algorithm>
#include <utility>

#include "errors.h"
#include "module.h"
#include "observe/matrix_bind.h"
#include "observe/own.h"

namespace pyi {
namespace {

using Scored = std::pair<Array<double>, std::int64_t>;

template <class Function>
Function function_at(std::uintptr_t address) {
  if (address == 0) throw ArgumentError("address: of no function");
  return reinterpret_cast<Function>(address);
}

Scored bind_score_histories(std::uintptr_t address, const std::vector<Array<double>>& arrays, int threads) {
  const auto function = function_at<HistoryFunction>(address);
  if (arrays.empty() || arrays[0].ndim() != 2) throw ArgumentError("arrays: must be some, [E, N]");
  const std::int64_t epochs = arrays[0].shape(0), samples = arrays[0].shape(1);
  std::vector<const double*> data;
  for (const Array<double>& array : arrays) {
    if (array.ndim() != 2 || array.shape(0) != epochs || array.shape(1) != samples) {
      throw ArgumentError("arrays: of different shapes");
    }
    data.push_back(array.data());
  }
  Array<double> scores(samples);
  double* to = scores.mutable_data();
  std::int64_t failed = -1;
  {
    py::gil_scoped_release nogil;
    failed = score_histories(function, data, epochs, samples, to, threads);
  }
  return {scores, failed};
}

Scored bind_score_rows(std::uintptr_t address, const py::array& logits, const Array<std::int64_t>& targets,
                       int threads) {
  const auto function = function_at<LogitsFunction>(address);
  const Matrix rows = matrix_of("logits", logits, 2);
  if (targets.size() != logits.shape(0)) throw ArgumentError("logits: must have a target for each row");
  const std::int64_t count = logits.shape(0), *target = targets.data();
  Array<double> scores(count);
  double* to = scores.mutable_data();
  std::int64_t failed = -1;
  {
    py::gil_scoped_release nogil;
    failed = score_rows(function, rows, target, count, to, threads);
  }
  return {scores, failed};
}

}  // namespace

void register_own(py::module_& m) {
  m.def("score_histories", &bind_score_histories, py::arg("address"), py::arg("arrays"), py::arg("threads"),
        "Call a compiled function with every sample's observations; (scores [N], the first that failed or "
        "-1).");
  m.def("score_rows", &bind_score_rows, py::arg("address"), py::arg("logits").noconvert(),
        py::arg("targets").noconvert(), py::arg("threads"), "The same with every row of logits [B, C].");
}

}  // namespace pyi
