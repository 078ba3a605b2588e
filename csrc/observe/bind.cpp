#include <optional>

#include "errors.h"
#include "module.h"
#include "observe/epoch.h"
#include "observe/fold.h"
#include "observe/rows.h"

namespace pyi {
namespace {

template <class T>
using Optional = std::optional<Array<T>>;

template <class T>
const T* data_of(const Optional<T>& array) {
  return array ? array->data() : nullptr;
}

void check_length(const char* name, py::ssize_t got, py::ssize_t wanted) {
  if (got != wanted) {
    throw ArgumentError(std::string(name) + ": " + std::to_string(got) + " of them; must be " +
                        std::to_string(wanted));
  }
}

Batch make_batch(const Array<std::int64_t>& ids, const Optional<bool>& mask, bool skip_nonfinite,
                 const Array<Row>& scratch) {
  if (mask) check_length("mask", mask->size(), ids.size());
  if (scratch.size() < ids.size()) throw ArgumentError("scratch: shorter than the batch");
  return {ids.data(), data_of(mask), ids.size(), skip_nonfinite};
}

std::int64_t bind_observe_logits(const Array<std::int64_t>& ids, const py::array_t<float>& logits,
                                 const Array<std::int64_t>& targets, const Optional<bool>& mask,
                                 bool skip_nonfinite, Array<Row>& scratch, Array<Row>& epoch, int threads) {
  if (logits.ndim() != 2 || logits.shape(1) < 1 || logits.shape(1) > INT32_MAX) {
    throw ArgumentError("logits: must have two axes, [B, C] with 1 <= C < 2**31");
  }
  constexpr py::ssize_t kItem = sizeof(float);
  const bool adjacent = logits.strides(1) == kItem || logits.shape(1) == 1;
  if (logits.size() > 0 && (!adjacent || logits.strides(0) % kItem != 0)) {
    throw ArgumentError("logits: the classes of a row must be adjacent in memory");
  }
  check_length("logits: rows", logits.shape(0), ids.size());
  check_length("targets", targets.size(), ids.size());
  const Batch batch = make_batch(ids, mask, skip_nonfinite, scratch);
  const Logits rows{logits.data(), logits.strides(0) / kItem, logits.shape(1)};
  Row *to = scratch.mutable_data(), *all = epoch.mutable_data();
  const std::int64_t samples = epoch.size(), *target = targets.data();
  py::gil_scoped_release nogil;
  return observe_logits(batch, rows, target, to, all, samples, threads);
}

std::int64_t bind_observe_losses(const Array<std::int64_t>& ids, const Array<double>& losses,
                                 const Optional<bool>& mask, bool skip_nonfinite, Array<Row>& scratch,
                                 Array<Row>& epoch) {
  check_length("loss", losses.size(), ids.size());
  const Batch batch = make_batch(ids, mask, skip_nonfinite, scratch);
  Row *to = scratch.mutable_data(), *all = epoch.mutable_data();
  const std::int64_t samples = epoch.size();
  const double* loss = losses.data();
  py::gil_scoped_release nogil;
  return observe_losses(batch, loss, to, all, samples);
}

void bind_commit_rows(const Array<std::int64_t>& ids, const Array<Row>& rows, Array<Row>& epoch) {
  check_length("rows", rows.size(), ids.size());
  Row* all = epoch.mutable_data();
  const std::int64_t n = ids.size(), samples = epoch.size(), *id = ids.data();
  const Row* from = rows.data();
  py::gil_scoped_release nogil;
  commit_rows(id, from, n, all, samples);
}

// The columns of a dict name -> array [samples] that are there.
class ColumnsOf {
 public:
  ColumnsOf(const py::dict& arrays, py::ssize_t samples) : arrays_(arrays), samples_(samples) {
    const auto f64 = [this](const char* name) { return column<double>(name); };
    const auto f32 = [this](const char* name) { return column<float>(name); };
    const auto i32 = [this](const char* name) { return column<std::int32_t>(name); };
    columns = {i32("count"),      f64("weight"),      f64("weight_sq"),     f64("loss_mean"),
               f64("loss_m2"),    f64("p_mean"),      f64("p_m2"),          f64("q_sum"),
               f64("margin_sum"), f64("el2n_sum"),    f64("entropy_sum"),   f64("grand_sum"),
               f32("loss_last"),  f32("margin_last"), f32("el2n_last"),     f32("entropy_last"),
               i32("correct"),    i32("forgotten"),   i32("first_learned"), column<std::uint8_t>("ends")};
    if (!complete(columns)) {
      throw ArgumentError("columns: count, or the companion of a column, is missing");
    }
  }
  Columns columns{};

 private:
  template <class T>
  T* column(const char* name) {
    if (!arrays_.contains(name)) return nullptr;
    const py::object array = arrays_[name];
    if (!py::isinstance<Array<T>>(array)) throw ArgumentError(std::string("columns: dtype of ") + name);
    auto typed = py::reinterpret_borrow<Array<T>>(array);
    check_length(name, typed.size(), samples_);
    return typed.mutable_data();  // throws where it is read-only
  }

  const py::dict& arrays_;
  py::ssize_t samples_;
};

void bind_fold(const py::dict& arrays, const Array<Row>& rows, std::int32_t epoch, int threads) {
  const Columns columns = ColumnsOf(arrays, rows.size()).columns;
  const Row* from = rows.data();
  const std::int64_t samples = rows.size();
  py::gil_scoped_release nogil;
  fold_rows(columns, from, samples, epoch, threads);
}

void bind_reduce(const py::dict& arrays, const Array<bool>& seen, const Optional<double>& loss,
                 const Optional<double>& p_true, const Optional<bool>& correct,
                 const Optional<double>& margin, const Optional<double>& el2n,
                 const Optional<double>& entropy, const Optional<double>& grand, int threads) {
  if (seen.ndim() != 2) throw ArgumentError("seen: must have two axes, [E, N]");
  const auto check = [&](const char* name, const auto& array) {
    if (array) check_length(name, array->size(), seen.size());
  };
  check("loss", loss);
  check("p_true", p_true);
  check("correct", correct);
  check("margin", margin);
  check("el2n", el2n);
  check("entropy", entropy);
  check("grand", grand);
  const Columns columns = ColumnsOf(arrays, seen.shape(1)).columns;
  const History history{data_of(loss),  data_of(p_true),  data_of(margin), data_of(el2n), data_of(entropy),
                        data_of(grand), data_of(correct), seen.data(),     seen.shape(0), seen.shape(1)};
  py::gil_scoped_release nogil;
  reduce(columns, history, threads);
}

}  // namespace

void register_observe(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Row, loss, margin, el2n, entropy, code, grand);
  m.attr("row_dtype") = py::dtype::of<Row>();
  m.def("observe_logits", &bind_observe_logits, py::arg("ids").noconvert(), py::arg("logits").noconvert(),
        py::arg("targets").noconvert(), py::arg("mask").noconvert(), py::arg("skip_nonfinite"),
        py::arg("scratch").noconvert(), py::arg("epoch").noconvert(), py::arg("threads"),
        "Scatter the statistics of logits [B, C] into the epoch's rows [N]; returns how many were skipped.");
  m.def("observe_losses", &bind_observe_losses, py::arg("ids").noconvert(), py::arg("losses").noconvert(),
        py::arg("mask").noconvert(), py::arg("skip_nonfinite"), py::arg("scratch").noconvert(),
        py::arg("epoch").noconvert(), "The same with losses [B] alone.");
  m.def("commit_rows", &bind_commit_rows, py::arg("ids").noconvert(), py::arg("rows").noconvert(),
        py::arg("epoch").noconvert(), "Scatter rows that another rank observed.");
  m.def("fold", &bind_fold, py::arg("columns"), py::arg("rows").noconvert(), py::arg("epoch"),
        py::arg("threads"), "Fold an epoch's rows [N] into the columns, in place.");
  m.def("reduce", &bind_reduce, py::arg("columns"), py::arg("seen").noconvert(), py::arg("loss").noconvert(),
        py::arg("p_true").noconvert(), py::arg("correct").noconvert(), py::arg("margin").noconvert(),
        py::arg("el2n").noconvert(), py::arg("entropy").noconvert(), py::arg("grand").noconvert(),
        py::arg("threads"), "Fold a history [E, N] into the columns, in place.");
  m.def("instruction_sets", &instruction_sets, "Those of the row kernel that this processor has, best last.");
  m.def("instruction_set", &instruction_set, "The one in use.");
  m.def("use_instruction_set", &use_instruction_set, py::arg("name"));
}

}  // namespace pyi
