#include <optional>

#include "errors.h"
#include "module.h"
#include "observe/epoch.h"
#include "observe/fold.h"
#include "observe/matrix_bind.h"
#include "observe/reduce.h"
#include "observe/rows.h"

namespace pyi {

Matrix matrix_of(const std::string& name, const py::array& array, py::ssize_t axes) {
  const char kind = array.dtype().kind();
  const py::ssize_t item = array.itemsize();
  if (!(kind == 'f' && (item == 4 || item == 2)) && !(kind == 'V' && item == 2)) {
    throw ArgumentError(name + ": must be float32, float16 or bfloat16");
  }
  if (array.ndim() != axes || array.shape(axes - 1) > INT32_MAX) {
    throw ArgumentError(name + ": must have " + std::to_string(axes) + " axes, the last below 2**31");
  }
  bool adjacent = array.strides(axes - 1) == item || array.shape(axes - 1) <= 1;
  for (py::ssize_t axis = 0; axis < axes - 1; ++axis) adjacent = adjacent && array.strides(axis) % item == 0;
  if (array.size() > 0 && !adjacent) {
    throw ArgumentError(name + ": the elements of a row must be adjacent in memory");
  }
  const Type type = kind == 'V' ? Type::kBFloat16 : item == 4 ? Type::kFloat32 : Type::kFloat16;
  return {array.data(), type, array.strides(axes - 2) / item, array.shape(axes - 1)};
}

namespace {

template <class T>
using Optional = std::optional<Array<T>>;

template <class T>
const T* data_of(const Optional<T>& array) {
  return array ? array->data() : nullptr;
}

// An array of rows. What a Row is, one object says: other types are compared with it field by field, which
// takes as long as a small batch.
class Rows : public Array<Row> {
 public:
  using Array<Row>::Array;
  static bool check_(py::handle object) {
    const bool same = py::isinstance<py::array>(object) &&
                      py::reinterpret_borrow<py::array>(object).dtype().is(py::dtype::of<Row>());
    return same ? (py::reinterpret_borrow<py::array>(object).flags() & py::array::c_style) != 0
                : Array<Row>::check_(object);
  }
};

void check_length(const char* name, py::ssize_t got, py::ssize_t wanted) {
  if (got != wanted) {
    throw ArgumentError(std::string(name) + ": " + std::to_string(got) + " of them; must be " +
                        std::to_string(wanted));
  }
}

Batch make_batch(const Array<std::int64_t>& ids, const Optional<bool>& mask, bool skip_nonfinite,
                 const Rows& scratch, py::ssize_t scratch_rows) {
  if (mask) check_length("mask", mask->size(), ids.size());
  if (scratch.size() < scratch_rows) throw ArgumentError("scratch: shorter than the batch");
  return {ids.data(), data_of(mask), ids.size(), skip_nonfinite};
}

Matrix logits_of(const py::array& logits, py::ssize_t axes, py::ssize_t rows) {
  const Matrix matrix = matrix_of("logits", logits, axes);
  if (matrix.width < 1) throw ArgumentError("logits: there must be at least one class");
  check_length("logits: rows", logits.shape(0), rows);
  return matrix;
}

std::int64_t bind_observe_logits(const Array<std::int64_t>& ids, const py::array& logits,
                                 const std::optional<py::array>& features, const Array<std::int64_t>& targets,
                                 const Optional<bool>& mask, bool skip_nonfinite, Rows& scratch, Rows& epoch,
                                 int threads) {
  const Matrix rows = logits_of(logits, 2, ids.size());
  Matrix hidden{};
  if (features) {
    hidden = matrix_of("features", *features, 2);
    check_length("features: rows", features->shape(0), ids.size());
  }
  check_length("targets", targets.size(), ids.size());
  const Batch batch = make_batch(ids, mask, skip_nonfinite, scratch, ids.size());
  Row *to = scratch.mutable_data(), *all = epoch.mutable_data();
  const std::int64_t samples = epoch.size(), *target = targets.data();
  const Matrix* given = features ? &hidden : nullptr;
  py::gil_scoped_release nogil;
  return observe_logits(batch, rows, given, target, to, all, samples, threads);
}

std::int64_t bind_observe_tokens(const Array<std::int64_t>& ids, const py::array& logits,
                                 const Array<std::int64_t>& targets, const Array<bool>& live,
                                 const Optional<bool>& mask, bool skip_nonfinite, Rows& scratch, Rows& epoch,
                                 int threads) {
  const Matrix rows = logits_of(logits, 3, ids.size());
  const py::ssize_t length = logits.shape(1);
  check_length("targets", targets.size(), ids.size() * length);
  check_length("live", live.size(), ids.size() * length);
  const Batch batch = make_batch(ids, mask, skip_nonfinite, scratch, ids.size() * (length + 1));
  const Tokens tokens{rows, logits.strides(0) / logits.itemsize(), length, targets.data(), live.data()};
  Row *to = scratch.mutable_data(), *all = epoch.mutable_data();
  const std::int64_t samples = epoch.size();
  py::gil_scoped_release nogil;
  return observe_tokens(batch, tokens, to, all, samples, threads);
}

std::int64_t bind_observe_losses(const Array<std::int64_t>& ids, const Array<double>& losses,
                                 const Optional<bool>& mask, bool skip_nonfinite, Rows& scratch, Rows& epoch,
                                 int threads) {
  check_length("loss", losses.size(), ids.size());
  const Batch batch = make_batch(ids, mask, skip_nonfinite, scratch, ids.size());
  Row *to = scratch.mutable_data(), *all = epoch.mutable_data();
  const std::int64_t samples = epoch.size();
  const double* loss = losses.data();
  py::gil_scoped_release nogil;
  return observe_losses(batch, loss, to, all, samples, threads);
}

void bind_commit_rows(const Array<std::int64_t>& ids, const Rows& rows, Rows& epoch, int threads) {
  check_length("rows", rows.size(), ids.size());
  Row* all = epoch.mutable_data();
  const std::int64_t n = ids.size(), samples = epoch.size(), *id = ids.data();
  const Row* from = rows.data();
  py::gil_scoped_release nogil;
  commit_rows(id, from, n, all, samples, threads);
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
               f64("loss_last"),  f64("margin_last"), f32("el2n_last"),     f32("entropy_last"),
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

void bind_fold(const py::dict& arrays, const Rows& rows, std::int32_t epoch, int threads) {
  const Columns columns = ColumnsOf(arrays, rows.size()).columns;
  const Row* from = rows.data();
  const std::int64_t samples = rows.size();
  py::gil_scoped_release nogil;
  fold_rows(columns, from, samples, epoch, threads);
}

// An array [E, N] of a dict by name; the epochs may lie apart.
Series series_of(const py::dict& arrays, const char* name, std::int64_t epochs, std::int64_t samples) {
  if (!arrays.contains(name)) return {nullptr, 0, Series::kMissing};
  const auto array = py::array::ensure(arrays[name]);
  if (!array || array.ndim() != 2 || array.shape(0) != epochs || array.shape(1) != samples) {
    throw ArgumentError(std::string(name) + ": must be an array [E, N] like the others");
  }
  const Series::Kind kind = py::isinstance<py::array_t<float>>(array)    ? Series::kFloat
                            : py::isinstance<py::array_t<double>>(array) ? Series::kDouble
                            : py::isinstance<py::array_t<bool>>(array)   ? Series::kByte
                                                                         : Series::kMissing;
  const bool events = std::string(name) == "correct";
  if (kind == Series::kMissing || (kind == Series::kByte && !events) ||
      (epochs > 0 && samples > 1 && array.strides(1) != array.itemsize())) {
    throw ArgumentError(std::string(name) + ": must be float32 or float64, the samples adjacent in memory");
  }
  return {static_cast<const char*>(array.data()), array.strides(0), kind};
}

bool bind_reduce(const py::dict& arrays, const py::dict& history, std::int64_t epochs, std::int64_t samples,
                 double most_el2n, int threads) {
  const ColumnsOf all(arrays, samples);
  const Columns& c = all.columns;
  const auto series = [&](const char* name) { return series_of(history, name, epochs, samples); };
  const History h{series("loss"),  series("p_true"),  series("margin"), series("el2n"), series("entropy"),
                  series("grand"), series("correct"), epochs,           samples};
  const auto fits = [](const Series& s, const void* column) {
    return (s.kind != Series::kMissing) == (column != nullptr);
  };
  if (!fits(h.loss, c.loss_mean) || !fits(h.p_true, c.p_mean) || !fits(h.margin, c.margin_sum) ||
      !fits(h.el2n, c.el2n_sum) || !fits(h.entropy, c.entropy_sum) || !fits(h.grand, c.grand_sum) ||
      !fits(h.correct, c.correct)) {
    throw ArgumentError("columns: not those of the arrays");
  }
  py::gil_scoped_release nogil;
  return reduce(c, h, most_el2n, threads);
}

}  // namespace

void register_observe(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Row, loss, margin, el2n, entropy, code, grand);
  m.attr("row_dtype") = py::dtype::of<Row>();
  m.def("observe_logits", &bind_observe_logits, py::arg("ids").noconvert(), py::arg("logits").noconvert(),
        py::arg("features").noconvert(), py::arg("targets").noconvert(), py::arg("mask").noconvert(),
        py::arg("skip_nonfinite"), py::arg("scratch").noconvert(), py::arg("epoch").noconvert(),
        py::arg("threads"),
        "Scatter the statistics of logits [B, C] into the epoch's rows [N]; returns how many were skipped.");
  m.def("observe_tokens", &bind_observe_tokens, py::arg("ids").noconvert(), py::arg("logits").noconvert(),
        py::arg("targets").noconvert(), py::arg("live").noconvert(), py::arg("mask").noconvert(),
        py::arg("skip_nonfinite"), py::arg("scratch").noconvert(), py::arg("epoch").noconvert(),
        py::arg("threads"), "The same with the mean loss of the live ones of logits [B, T, C].");
  m.def("observe_losses", &bind_observe_losses, py::arg("ids").noconvert(), py::arg("losses").noconvert(),
        py::arg("mask").noconvert(), py::arg("skip_nonfinite"), py::arg("scratch").noconvert(),
        py::arg("epoch").noconvert(), py::arg("threads"), "The same with losses [B] alone.");
  m.def("commit_rows", &bind_commit_rows, py::arg("ids").noconvert(), py::arg("rows").noconvert(),
        py::arg("epoch").noconvert(), py::arg("threads"), "Scatter rows that another rank observed.");
  m.def("fold", &bind_fold, py::arg("columns"), py::arg("rows").noconvert(), py::arg("epoch"),
        py::arg("threads"), "Fold an epoch's rows [N] into the columns, in place.");
  m.def("reduce", &bind_reduce, py::arg("columns"), py::arg("history"), py::arg("epochs"), py::arg("samples"),
        py::arg("most_el2n"), py::arg("threads"),
        "Set the columns from arrays [E, N]; False where one holds what it must not.");
  m.def("instruction_sets", &instruction_sets, "Those of the row kernel that this processor has, best last.");
  m.def("instruction_set", &instruction_set, "The one in use.");
  m.def("use_instruction_set", &use_instruction_set, py::arg("name"));
}

}  // namespace pyi
