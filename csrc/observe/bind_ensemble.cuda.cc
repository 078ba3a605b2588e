// An ensemble whose state is on a device.
#include <optional>

#include "bind_cuda.h"
#include "borrowed.h"
#include "observe/ensemble_cuda.h"

namespace pyi::cuda {
namespace {

Element element_of(const Borrowed& tensor) {
  if (tensor.is(dlpack::kFloat, 32)) return Element::kFloat;
  if (tensor.is(dlpack::kFloat, 64)) return Element::kDouble;
  if (tensor.is(dlpack::kFloat, 16)) return Element::kHalf;
  if (tensor.is(dlpack::kBFloat, 16)) return Element::kBfloat;
  tensor.refuse("must be float32, float64, float16 or bfloat16");
}

// In tensors that somebody else made: float64 p_sum and int16 votes (whose bits count without a sign) [N, C];
// float64 entropy_sum, int32 count and wrong [N], all zeros; int32 claims [N], -1; and int64 problems [7]:
// -1, then zeros.
class Ensemble {
 public:
  Ensemble(const py::object& p_sum, const py::object& votes, const py::object& entropy_sum,
           const py::object& count, const py::object& wrong, const py::object& claims,
           const py::object& problems, std::intptr_t stream)
      : p_sum_("p_sum", p_sum, stream),
        votes_("votes", votes, stream),
        entropy_sum_("entropy_sum", entropy_sum, stream),
        count_("count", count, stream),
        wrong_("wrong", wrong, stream),
        claims_("claims", claims, stream),
        problems_("problems", problems, stream) {
    p_sum_.expect(2);
    const std::int64_t samples = p_sum_->shape[0], classes = p_sum_->shape[1];
    const auto expect_wide = [&](const Borrowed& tensor, dlpack::TypeCode code, int bits) {
      tensor.expect(2, code, bits, samples);
      if (tensor->shape[1] != classes || (samples > 1 && tensor.stride() != classes)) {
        tensor.refuse("must be contiguous [N, C]");
      }
    };
    expect_wide(p_sum_, dlpack::kFloat, 64);
    expect_wide(votes_, dlpack::kInt, 16);
    if (classes < 1 || classes > INT32_MAX) p_sum_.refuse("must have 1 to 2**31 - 1 classes");
    entropy_sum_.expect(1, dlpack::kFloat, 64, samples);
    count_.expect(1, dlpack::kInt, 32, samples);
    wrong_.expect(1, dlpack::kInt, 32, samples);
    claims_.expect(1, dlpack::kInt, 32, samples);
    problems_.expect(1, dlpack::kInt, 64, sizeof(Problems) / sizeof(std::int64_t));
    state_ = {p_sum_.data<double>(),
              votes_.data<std::uint16_t>(),
              entropy_sum_.data<double>(),
              count_.data<std::int32_t>(),
              wrong_.data<std::int32_t>(),
              nullptr,
              samples,
              classes};
  }

  void add(const py::object& predictions, bool probabilities, double sharpness, const py::object& ids,
           const py::object& targets, std::intptr_t stream) {
    const Borrowed z("predictions", predictions, stream);
    z.expect(2);
    const std::int64_t rows = z->shape[0];
    if (z->shape[1] != state_.classes || (ids.is_none() && rows != state_.samples)) {
      z.refuse("must be [B, C], or [N, C] without ids");
    }
    if (rows > INT32_MAX) z.refuse("must have at most 2**31 - 1 rows");
    std::optional<Borrowed> id, target;
    const auto rows_of = [&](const char* name, const py::object& given, std::optional<Borrowed>& tensor) {
      if (given.is_none()) return static_cast<const std::int64_t*>(nullptr);
      tensor.emplace(name, given, stream);
      tensor->expect(1, dlpack::kInt, 64, rows);
      return static_cast<const std::int64_t*>(tensor->data<std::int64_t>());
    };
    const Predictions from{z.data<const void>(),
                           element_of(z),
                           static_cast<std::ptrdiff_t>(z.stride()),
                           1,
                           rows,
                           state_.classes,
                           probabilities,
                           sharpness,
                           rows_of("ids", ids, id),
                           rows_of("targets", targets, target)};
    check(add_predictions(state_, from, claims_.data<Claim>(), problems_.data<Problems>(), handle(stream)));
  }

  void summarize(const py::object& entropy, const py::object& most_votes, std::intptr_t stream) {
    const Borrowed h("entropy", entropy, stream), most("most_votes", most_votes, stream);
    h.expect(1, dlpack::kFloat, 64, state_.samples);
    most.expect(1, dlpack::kInt, 32, state_.samples);
    check(cuda::summarize(state_, h.data<double>(), most.data<std::int32_t>(), handle(stream)));
  }

 private:
  Borrowed p_sum_, votes_, entropy_sum_, count_, wrong_, claims_, problems_;
  EnsembleState state_{};
};

}  // namespace

void register_ensemble(py::module_& m) {
  using py::arg;
  using Object = py::object;
  py::class_<Ensemble>(m, "Ensemble", py::module_local(), "The sums of an ensemble's members, on a device.")
      .def(py::init<Object, Object, Object, Object, Object, Object, Object, std::intptr_t>(), arg("p_sum"),
           arg("votes"), arg("entropy_sum"), arg("count"), arg("wrong"), arg("claims"), arg("problems"),
           arg("stream"))
      .def("add", &Ensemble::add, arg("predictions"), arg("probabilities"), arg("sharpness"), arg("ids"),
           arg("targets"), arg("stream"),
           "A member's predictions [B, C] for samples ids (None: all, in order) into the sums.")
      .def("summarize", &Ensemble::summarize, arg("entropy"), arg("most_votes"), arg("stream"),
           "Entropy of the mean probabilities, and most votes for one class, of all samples.");
}

}  // namespace pyi::cuda
