// pyimportance._cuda: device tensors in by DLPack, work enqueued on the caller's stream. The current device
// must be the tensors'.
#include <optional>

#include "bind_cuda.h"
#include "borrowed.h"
#include "observe/epoch_cuda.h"
#include "observe/reduce_cuda.h"

namespace pyi::cuda {
namespace {

// Rows [rows, classes], or of tokens [rows, length, classes].
Logits logits_of(const Borrowed& tensor, std::int64_t rows, int axes = 2) {
  tensor.expect(axes);
  Number number = Number::kFloat;
  if (tensor.is(dlpack::kFloat, 16)) {
    number = Number::kHalf;
  } else if (tensor.is(dlpack::kBFloat, 16)) {
    number = Number::kBFloat16;
  } else if (!tensor.is(dlpack::kFloat, 32)) {
    tensor.refuse("must be float32, float16 or bfloat16");
  }
  const std::int64_t got = tensor->shape[0], classes = tensor->shape[axes - 1];
  if (got != rows) tensor.refuse(std::to_string(got) + " rows; must be " + std::to_string(rows));
  if (classes < 1 || classes > INT32_MAX) tensor.refuse("must have 1 to 2**31 - 1 classes");
  Logits logits{
      tensor.data<const void>(), number, static_cast<std::ptrdiff_t>(tensor.stride(axes - 2)), classes, 0, 0};
  if (axes == 3 && tensor.stride(0) != tensor->shape[1] * tensor.stride(1)) {
    logits.length = tensor->shape[1];
    logits.sequence_stride = static_cast<std::ptrdiff_t>(tensor.stride(0));
  }
  return logits;
}

// A batch's tensors, and the batch.
struct Entries {
  Entries(const py::object& ids, const py::object& mask, const py::object& norms, bool skip,
          std::int64_t samples, const py::object& scratch, std::intptr_t stream)
      : ids_("ids", ids, stream), scratch_("scratch", scratch, stream) {
    ids_.expect(1);
    const std::int64_t rows = ids_->shape[0];
    if (rows > INT32_MAX) ids_.refuse("must be at most 2**31 - 1 of them");
    ids_.expect(1, dlpack::kInt, 64, rows);
    scratch_.expect_structs<Gist>(rows);
    batch.ids = ids_.data<const std::int64_t>();
    if (!mask.is_none()) {
      mask_.emplace("mask", mask, stream);
      mask_->expect(1, dlpack::kUInt, 8, rows);
      batch.mask = mask_->data<const std::uint8_t>();
    }
    if (!norms.is_none()) {
      norms_.emplace("norms", norms, stream);
      norms_->expect(1, dlpack::kFloat, 32, rows);
      batch.norms = norms_->data<const float>();
    }
    batch.rows = rows;
    batch.samples = samples;
    batch.skip_nonfinite = skip;
  }
  Gist* gists() const { return scratch_.data<Gist>(); }
  Batch batch{};

 private:
  Borrowed ids_, scratch_;
  std::optional<Borrowed> mask_, norms_;
};

// The columns of a dict name -> tensor [samples] that are there.
class ColumnsOf {
 public:
  ColumnsOf(const py::dict& tensors, std::int64_t samples, std::intptr_t stream) {
    const auto column = [&](const char* name, dlpack::TypeCode code, int bits) -> void* {
      if (!tensors.contains(name)) return nullptr;
      kept_.emplace_back(name, tensors[name], stream);
      kept_.back().expect(1, code, bits, samples);
      return kept_.back().data<void>();
    };
    const auto f64 = [&](const char* name) { return static_cast<double*>(column(name, dlpack::kFloat, 64)); };
    const auto f32 = [&](const char* name) { return static_cast<float*>(column(name, dlpack::kFloat, 32)); };
    const auto i32 = [&](const char* name) {
      return static_cast<std::int32_t*>(column(name, dlpack::kInt, 32));
    };
    const auto u8 = [&](const char* name) {
      return static_cast<std::uint8_t*>(column(name, dlpack::kUInt, 8));
    };
    columns = {i32("count"),      f64("weight"),      f64("weight_sq"),     f64("loss_mean"),
               f64("loss_m2"),    f64("p_mean"),      f64("p_m2"),          f64("q_sum"),
               f64("margin_sum"), f64("el2n_sum"),    f64("entropy_sum"),   f64("grand_sum"),
               f64("loss_last"),  f64("margin_last"), f32("el2n_last"),     f32("entropy_last"),
               i32("correct"),    i32("forgotten"),   i32("first_learned"), u8("ends")};
    if (!complete(columns)) throw py::value_error("columns: count, or the companion of a column, is missing");
  }
  Columns columns{};

 private:
  std::vector<Borrowed> kept_;
};

// An epoch in progress, in tensors that somebody else made: uint8 rows [N, 32], zeros; int32 claims [N], -1;
// and int64 problems [7]: -1, then zeros.
class Epoch {
 public:
  Epoch(const py::object& rows, const py::object& claims, const py::object& problems, std::intptr_t stream)
      : rows_("rows", rows, stream),
        claims_("claims", claims, stream),
        problems_("problems", problems, stream) {
    rows_.expect(2);
    samples_ = rows_->shape[0];
    rows_.expect_structs<Row>(samples_);
    claims_.expect(1, dlpack::kInt, 32, samples_);
    problems_.expect(1, dlpack::kInt, 64, sizeof(Problems) / sizeof(std::int64_t));
  }

  void observe_logits(const py::object& ids, const py::object& logits, const py::object& targets,
                      const py::object& mask, const py::object& norms, bool skip, const py::object& scratch,
                      std::intptr_t stream) {
    Entries entries(ids, mask, norms, skip, samples_, scratch, stream);
    const Borrowed z("logits", logits, stream), y("targets", targets, stream);
    y.expect(1, dlpack::kInt, 64, entries.batch.rows);
    entries.batch.targets = y.data<const std::int64_t>();
    check(scan_logits(entries.batch, logits_of(z, entries.batch.rows), entries.gists(), claims(), problems(),
                      handle(stream)));
    store(entries, stream);
  }

  // targets and live: a token each.
  void observe_tokens(const py::object& ids, const py::object& logits, const py::object& targets,
                      const py::object& live, const py::object& mask, bool skip, const py::object& of_tokens,
                      const py::object& scratch, std::intptr_t stream) {
    const Entries entries(ids, mask, py::none(), skip, samples_, scratch, stream);
    const Borrowed z("logits", logits, stream), y("targets", targets, stream),
        g("of_tokens", of_tokens, stream);
    const std::int64_t rows = entries.batch.rows;
    Tokens tokens{logits_of(z, rows, 3), y.data<const std::int64_t>(), nullptr, z->shape[1]};
    const std::int64_t all = rows * tokens.length;
    if (tokens.length > INT32_MAX || all > INT32_MAX) z.refuse("must be of at most 2**31 - 1 tokens");
    y.expect(1, dlpack::kInt, 64, all);
    g.expect_structs<Gist>(all);
    std::optional<Borrowed> flags;
    if (!live.is_none()) {
      flags.emplace("live", live, stream);
      flags->expect(1, dlpack::kUInt, 8, all);
      tokens.live = flags->data<const std::uint8_t>();
    }
    check(scan_tokens(entries.batch, tokens, g.data<Gist>(), entries.gists(), claims(), problems(),
                      handle(stream)));
    store(entries, stream);
  }

  void observe_losses(const py::object& ids, const py::object& losses, const py::object& mask, bool skip,
                      const py::object& scratch, std::intptr_t stream) {
    const Entries entries(ids, mask, py::none(), skip, samples_, scratch, stream);
    const Borrowed loss("loss", losses, stream);
    loss.expect(1, dlpack::kFloat, 64, entries.batch.rows);
    check(scan_losses(entries.batch, loss.data<const double>(), entries.gists(), claims(), problems(),
                      handle(stream)));
    store(entries, stream);
  }

  void commit(const py::object& ids, const py::object& rows, std::intptr_t stream) {
    const Borrowed id("ids", ids, stream), from("rows", rows, stream);
    id.expect(1);
    const std::int64_t n = id->shape[0];
    id.expect(1, dlpack::kInt, 64, n);
    from.expect_structs<Row>(n);
    check(commit_rows(id.data<const std::int64_t>(), from.data<const Row>(), n, rows_.data<Row>(), samples_,
                      problems(), handle(stream)));
  }

  void fold(const py::dict& tensors, std::int32_t epoch, std::intptr_t stream) {
    const ColumnsOf all(tensors, samples_, stream);
    check(fold_rows(all.columns, rows_.data<Row>(), samples_, epoch, handle(stream)));
  }

 private:
  Claim* claims() const { return claims_.data<Claim>(); }
  Problems* problems() const { return problems_.data<Problems>(); }
  void store(const Entries& entries, std::intptr_t stream) {
    check(
        store_rows(entries.batch, entries.gists(), claims(), problems(), rows_.data<Row>(), handle(stream)));
  }

  Borrowed rows_, claims_, problems_;
  std::int64_t samples_;
};

void rows(const py::object& logits, const py::object& targets, const py::object& scratch,
          const py::object& out, std::intptr_t stream) {
  const Borrowed z("logits", logits, stream), y("targets", targets, stream), g("scratch", scratch, stream),
      r("out", out, stream);
  z.expect(2);
  y.expect(1);
  const std::int64_t n = y->shape[0];
  if (n > INT32_MAX) y.refuse("must be at most 2**31 - 1 of them");
  const Logits from = logits_of(z, n);
  y.expect(1, dlpack::kInt, 64, n);
  g.expect_structs<Gist>(n);
  r.expect_structs<Row>(n);
  Batch batch{};
  batch.targets = y.data<const std::int64_t>();
  batch.rows = n;
  check(scan_logits(batch, from, g.data<Gist>(), nullptr, nullptr, handle(stream)));
  check(settle_rows(g.data<const Gist>(), n, r.data<Row>(), handle(stream)));
}

void reduce_history(const py::dict& tensors, const py::dict& history, double most_el2n,
                    const py::object& wrong, std::intptr_t stream) {
  const Borrowed flag("wrong", wrong, stream);
  flag.expect(1, dlpack::kInt, 32, 1);
  std::vector<Borrowed> kept;
  bool floats = false, doubles = false;
  const auto series = [&](const char* name) -> Series {
    if (!history.contains(name)) return {nullptr, 0, Series::kMissing};
    kept.emplace_back(name, history[name], stream);
    const Borrowed& array = kept.back();
    array.expect(2);
    if (array->shape[0] != kept[0]->shape[0] || array->shape[1] != kept[0]->shape[1]) {
      array.refuse("must be of the same shape [E, N] as the others");
    }
    const bool bytes = std::string(name) == "correct" && array.is(dlpack::kUInt, 8);
    floats |= array.is(dlpack::kFloat, 32);
    doubles |= array.is(dlpack::kFloat, 64);
    if (!bytes && !array.is(dlpack::kFloat, 32) && !array.is(dlpack::kFloat, 64)) {
      array.refuse("must be float32 or float64 (correct: or bytes)");
    }
    const int item = array->dtype.bits / 8;
    return {array.data<const char>(), static_cast<std::ptrdiff_t>(array.stride() * item),
            bytes       ? Series::kByte
            : item == 4 ? Series::kFloat
                        : Series::kDouble};
  };
  History h{series("loss"),
            series("p_true"),
            series("margin"),
            series("el2n"),
            series("entropy"),
            series("grand"),
            series("correct"),
            0,
            0};
  if (kept.empty()) throw py::value_error("history: nothing was given");
  if (floats && doubles) throw py::value_error("history: must be all float32 or all float64");
  h.epochs = kept[0]->shape[0];
  h.samples = kept[0]->shape[1];
  const ColumnsOf all(tensors, h.samples, stream);
  const Columns& c = all.columns;
  const auto fits = [](const Series& s, const void* column) {
    return (s.kind != Series::kMissing) == (column != nullptr);
  };
  if (!fits(h.loss, c.loss_mean) || !fits(h.p_true, c.p_mean) || !fits(h.margin, c.margin_sum) ||
      !fits(h.el2n, c.el2n_sum) || !fits(h.entropy, c.entropy_sum) || !fits(h.grand, c.grand_sum) ||
      !fits(h.correct, c.correct)) {
    throw py::value_error("columns: not those of the arrays");
  }
  check(reduce(c, h, most_el2n, flag.data<std::int32_t>(), handle(stream)));
}

}  // namespace
}  // namespace pyi::cuda

PYBIND11_MODULE(_cuda, m) {
  using pyi::py::arg;
  m.doc() = "CUDA kernels of pyimportance. Tensors come in by DLPack; stream is the handle of a CUDA stream.";
  pyi::cuda::register_order(m);
  m.def("rows", &pyi::cuda::rows, arg("logits"), arg("targets"), arg("scratch"), arg("out"), arg("stream"),
        "Statistics of logits [B, C] for int64 targets [B] into uint8 out [B, 32] (csrc/observe/row.h); a "
        "target "
        "out of range counts as unseen. scratch: as out.");
  m.def("reduce", &pyi::cuda::reduce_history, arg("columns"), arg("history"), arg("most_el2n"), arg("wrong"),
        arg("stream"),
        "Set the columns from tensors [E, N]; wrong[0] becomes 1 where one holds what it must not.");
  pyi::py::class_<pyi::cuda::Epoch>(m, "Epoch", pyi::py::module_local(), "An epoch's rows [N], on a device.")
      .def(pyi::py::init<pyi::py::object, pyi::py::object, pyi::py::object, std::intptr_t>(), arg("rows"),
           arg("claims"), arg("problems"), arg("stream"))
      .def("observe_logits", &pyi::cuda::Epoch::observe_logits, arg("ids"), arg("logits"), arg("targets"),
           arg("mask"), arg("norms"), arg("skip_nonfinite"), arg("scratch"), arg("stream"))
      .def("observe_tokens", &pyi::cuda::Epoch::observe_tokens, arg("ids"), arg("logits"), arg("targets"),
           arg("live"), arg("mask"), arg("skip_nonfinite"), arg("of_tokens"), arg("scratch"), arg("stream"))
      .def("observe_losses", &pyi::cuda::Epoch::observe_losses, arg("ids"), arg("losses"), arg("mask"),
           arg("skip_nonfinite"), arg("scratch"), arg("stream"))
      .def("commit_rows", &pyi::cuda::Epoch::commit, arg("ids"), arg("rows"), arg("stream"))
      .def("fold", &pyi::cuda::Epoch::fold, arg("columns"), arg("epoch"), arg("stream"));
  pyi::cuda::register_ensemble(m);
}
