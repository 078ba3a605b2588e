#include <optional>

#include "errors.h"
#include "module.h"
#include "observe/ensemble.h"

namespace pyi {
namespace {

template <class T>
using Optional = std::optional<Array<T>>;

template <class T>
const T* rows_of(const char* name, const Optional<T>& array, py::ssize_t rows) {
  if (array && array->size() != rows) {
    throw ArgumentError(std::string(name) + ": " + std::to_string(array->size()) + " of them; must be " +
                        std::to_string(rows));
  }
  return array ? array->data() : nullptr;
}

template <class T>
T* column(const char* name, Array<T>& array, py::ssize_t size) {
  if (array.size() != size) throw ArgumentError(std::string("state: length of ") + name);
  return array.mutable_data();  // throws where it is read-only
}

EnsembleState make_state(Array<double>& p_sum, Array<std::uint16_t>& votes, Array<double>& entropy_sum,
                         Array<std::int32_t>& count, Array<std::int32_t>& wrong, Array<bool>& seen) {
  if (p_sum.ndim() != 2 || p_sum.shape(1) < 1) throw ArgumentError("state: p_sum must be [N, C]");
  const py::ssize_t samples = p_sum.shape(0), all = p_sum.size();
  return {column("p_sum", p_sum, all),
          column("votes", votes, all),
          column("entropy_sum", entropy_sum, samples),
          column("count", count, samples),
          column("wrong", wrong, samples),
          column("seen", seen, samples),
          samples,
          p_sum.shape(1)};
}

// bfloat16, which NumPy has not, comes as a record of its bits (inputs.py).
Element element_of(const py::dtype& type) {
  const char kind = type.kind();
  if (kind == 'V' && type.itemsize() == 2) return Element::kBfloat;
  if (kind == 'f' && type.itemsize() == 2) return Element::kHalf;
  if (kind == 'f' && type.itemsize() == 4) return Element::kFloat;
  if (kind == 'f' && type.itemsize() == 8) return Element::kDouble;
  throw ArgumentError("predictions: dtype");
}

void bind_add(Array<double>& p_sum, Array<std::uint16_t>& votes, Array<double>& entropy_sum,
              Array<std::int32_t>& count, Array<std::int32_t>& wrong, Array<bool>& seen,
              const py::array& predictions, bool probabilities, double sharpness,
              const Optional<std::int64_t>& ids, const Optional<std::int64_t>& targets, int threads) {
  const EnsembleState state = make_state(p_sum, votes, entropy_sum, count, wrong, seen);
  const Element element = element_of(predictions.dtype());
  const py::ssize_t item = predictions.itemsize();
  if (predictions.ndim() != 2 || predictions.shape(1) != state.classes ||
      (!ids && predictions.shape(0) != state.samples)) {
    throw ArgumentError("predictions: shape");
  }
  if (predictions.strides(0) % item != 0 || predictions.strides(1) % item != 0) {
    throw ArgumentError("predictions: strides");
  }
  const py::ssize_t rows = predictions.shape(0);
  const Predictions from{predictions.data(),
                         element,
                         predictions.strides(0) / item,
                         predictions.strides(1) / item,
                         rows,
                         state.classes,
                         probabilities,
                         sharpness,
                         rows_of("ids", ids, rows),
                         rows_of("targets", targets, rows)};
  py::gil_scoped_release nogil;
  add_predictions(state, from, threads);
}

Array<double> bind_entropy(Array<double>& p_sum, Array<std::uint16_t>& votes, Array<double>& entropy_sum,
                           Array<std::int32_t>& count, Array<std::int32_t>& wrong, Array<bool>& seen,
                           int threads) {
  const EnsembleState state = make_state(p_sum, votes, entropy_sum, count, wrong, seen);
  Array<double> out(state.samples);
  double* to = out.mutable_data();
  py::gil_scoped_release nogil;
  ensemble_entropy(state, to, threads);
  return out;
}

}  // namespace

void register_ensemble(py::module_& m) {
  m.def("ensemble_add", &bind_add, py::arg("p_sum").noconvert(), py::arg("votes").noconvert(),
        py::arg("entropy_sum").noconvert(), py::arg("count").noconvert(), py::arg("wrong").noconvert(),
        py::arg("seen").noconvert(), py::arg("predictions").noconvert(), py::arg("probabilities"),
        py::arg("sharpness"), py::arg("ids").noconvert(), py::arg("targets").noconvert(), py::arg("threads"),
        "Add a member's predictions [B, C] for some samples (ids None: for all, in order) to the state.");
  m.def("ensemble_entropy", &bind_entropy, py::arg("p_sum").noconvert(), py::arg("votes").noconvert(),
        py::arg("entropy_sum").noconvert(), py::arg("count").noconvert(), py::arg("wrong").noconvert(),
        py::arg("seen").noconvert(), py::arg("threads"), "Entropy [N] of the mean probabilities.");
}

}  // namespace pyi
