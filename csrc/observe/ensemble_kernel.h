// The ensemble's kernel, compiled once per instruction set: include it after rows_kernel.h.
//
// A block of rows at a time is brought to one form: e_k = p_k / p_j and d_k = log e_k, with j the (first)
// most probable class; the exponentials (or logarithms) run over the block as if it were one row, however few
// classes a row has. Then p_k = e_k / sum e and the entropy is log(sum e) - sum(e d) / sum e, where e_j = 1
// and d_j = 0 are left out of the sums, so that the entropy of a sure row keeps its digits.
#include "observe/ensemble.h"
#include "observe/narrow.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kLong = 4 * kLanes;  // classes from which a row's largest is found lane by lane

typedef std::int64_t Longs __attribute__((vector_size(kLanes * 8)));

PYI_HD void store(double* to, Doubles v) { __builtin_memcpy(to, &v, sizeof v); }

struct Buffers {
  double *d, *e;     // a block of rows, each of `classes`
  double *sum, *ed;  // of a row: of e, and of -e d, without class j
  double* place;     // j
};

PYI_HD Buffers divide(double* scratch, std::int64_t classes) {
  const std::int64_t room = ((classes > kBlockClasses ? classes : kBlockClasses) + 15) / 8 * 8;
  double* rows = scratch + 2 * room;
  return {scratch, scratch + room, rows, rows + kBlockClasses, rows + 2 * kBlockClasses};
}

template <class T>
PYI_HD void read_row(const Predictions& from, std::int64_t row, double* to) {
  const T* z = static_cast<const T*>(from.data) + row * from.row_stride;
  const std::int64_t classes = from.classes, stride = from.class_stride;
  if (stride == 1) {
    for (std::int64_t k = 0; k < classes; ++k) to[k] = pyi::widen(z[k]);
  } else {
    for (std::int64_t k = 0; k < classes; ++k) to[k] = pyi::widen(z[k * stride]);
  }
}

PYI_HD double sum_of_lanes(Doubles v) {
  double total = v[0];
  for (int lane = 1; lane < kLanes; ++lane) total += v[lane];
  return total;
}

struct Peak {
  double top;
  std::int64_t place;
};

// Without a branch that depends on the values.
PYI_HD Peak peak_of(const double* z, std::int64_t classes) {
  if (classes < kLong) {
    double top = z[0];
    for (std::int64_t k = 1; k < classes; ++k) top = Larger<double>::of(top, z[k]);
    std::int64_t place = 0;
    for (std::int64_t k = classes; k-- > 0;) place = z[k] == top ? k : place;
    return {top, place};
  }
  Top<Doubles, Longs> top{Doubles{} - __builtin_inf(), Doubles{} - __builtin_inf(), Longs{}};
  Longs place;
  for (int lane = 0; lane < kLanes; ++lane) place[lane] = lane;
  std::int64_t k = 0;
  for (; k + kLanes <= classes; k += kLanes, place += kLanes) meet(top, load<Doubles>(z + k), place);
  Peak peak{top.first[0], top.place[0]};
  for (int lane = 1; lane < kLanes; ++lane) {
    const bool equal = top.first[lane] == peak.top && top.place[lane] < peak.place;
    if (top.first[lane] > peak.top || equal) peak = {top.first[lane], top.place[lane]};
  }
  for (; k < classes; ++k) {
    if (z[k] > peak.top) peak = {z[k], k};
  }
  return peak;
}

// The sums of a row, without class j.
PYI_HD void sum_row(const Buffers& at, std::int64_t r, std::int64_t classes) {
  const double *d = at.d + r * classes, *e = at.e + r * classes;
  double sum = 0, ed = 0;
  std::int64_t k = 0;
  if (classes >= kLanes) {
    Doubles sums{}, eds{};
    for (; k + kLanes <= classes; k += kLanes) {
      const Doubles lanes = load<Doubles>(e + k);
      sums += lanes;
      eds -= lanes * load<Doubles>(d + k);
    }
    sum = sum_of_lanes(sums);
    ed = sum_of_lanes(eds);
  }
  for (; k < classes; ++k) {
    sum += e[k];
    ed -= e[k] * d[k];
  }
  at.sum[r] = sum;
  at.ed[r] = ed;
}

// d of a block of rows, from logits; e from it.
PYI_HD void from_logits(const Buffers& at, std::int64_t rows, std::int64_t classes, double sharpness) {
  for (std::int64_t r = 0; r < rows; ++r) {
    double* d = at.d + r * classes;
    const Peak peak = peak_of(d, classes);
    for (std::int64_t k = 0; k < classes; ++k) d[k] = (d[k] - peak.top) * sharpness;
    at.place[r] = static_cast<double>(peak.place);
  }
  for (std::int64_t i = 0; i < rows * classes; i += kLanes) {
    const Doubles d = at_least_floor(load<Doubles>(at.d + i));
    store(at.d + i, d);
    store(at.e + i, exp_negative(d));
  }
}

// e of a block of rows, from what is proportional to probabilities (in d); d from it.
PYI_HD void from_probabilities(const Buffers& at, std::int64_t rows, std::int64_t classes) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* p = at.d + r * classes;
    double* e = at.e + r * classes;
    const Peak peak = peak_of(p, classes);
    for (std::int64_t k = 0; k < classes; ++k) e[k] = p[k] / peak.top;
    at.place[r] = static_cast<double>(peak.place);
  }
  for (std::int64_t i = 0; i < rows * classes; i += kLanes) {
    store(at.d + i, log_positive(load<Doubles>(at.e + i)));
  }
}

// The sums of a block of rows; e_j becomes 0. The entropies then stand in `ed`.
PYI_HD void settle(const Buffers& at, std::int64_t rows, std::int64_t classes) {
  for (std::int64_t r = 0; r < rows; ++r) at.e[r * classes + static_cast<std::int64_t>(at.place[r])] = 0;
  // In a loop of its own: a number just written alone is slow to read back as part of a vector.
  for (std::int64_t r = 0; r < rows; ++r) sum_row(at, r, classes);
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    const Doubles sum = load<Doubles>(at.sum + r);
    store(at.ed + r, log1p_positive(sum) + load<Doubles>(at.ed + r) / (sum + 1.0));
  }
}

PYI_HD std::int64_t block_of(std::int64_t classes) {
  return classes < kBlockClasses ? kBlockClasses / classes : 1;
}

template <class T>
std::int64_t first_bad_of(const Predictions& from, std::int64_t begin, std::int64_t end, double* d) {
  const double least = from.probabilities ? 0 : -__builtin_inf();
  const double most = from.probabilities ? 1 + kSumTolerance : __DBL_MAX__;
  for (std::int64_t i = begin; i < end; ++i) {
    read_row<T>(from, i, d);
    std::int64_t outside = 0, some = 0;
    for (std::int64_t k = 0; k < from.classes; ++k) {
      outside |= !(d[k] >= least) | !(d[k] <= most);
      some |= d[k] > least;
    }
    if (outside != 0 || some == 0) return i;
    if (!from.probabilities) continue;
    Doubles sums{};
    std::int64_t k = 0;
    for (; k + kLanes <= from.classes; k += kLanes) sums += load<Doubles>(d + k);
    double sum = sum_of_lanes(sums);
    for (; k < from.classes; ++k) sum += d[k];
    if (sum < 1 - kSumTolerance || sum > 1 + kSumTolerance) return i;
  }
  return end;
}

template <class T>
void add_of(const EnsembleState& state, const Predictions& from, std::int64_t begin, std::int64_t end,
            double* scratch) {
  const std::int64_t classes = from.classes, block = block_of(classes);
  const Buffers at = divide(scratch, classes);
  const auto sample = [&](std::int64_t row) { return from.ids == nullptr ? row : from.ids[row]; };
  for (; begin < end; begin += block) {
    const std::int64_t rows = end - begin < block ? end - begin : block;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t id = sample(begin + r);
      __builtin_prefetch(state.p_sum + id * classes, 1);
      __builtin_prefetch(state.votes + id * classes, 1);
      read_row<T>(from, begin + r, at.d + r * classes);
    }
    if (from.probabilities) {
      from_probabilities(at, rows, classes);
    } else {
      from_logits(at, rows, classes, from.sharpness);
    }
    settle(at, rows, classes);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t id = sample(begin + r), vote = static_cast<std::int64_t>(at.place[r]);
      const double p = 1.0 / (1.0 + at.sum[r]);  // of the most probable class
      const double* __restrict e = at.e + r * classes;
      double* __restrict p_sum = state.p_sum + id * classes;
      for (std::int64_t k = 0; k < classes; ++k) p_sum[k] += e[k] * p;
      p_sum[vote] += p;
      ++state.votes[id * classes + vote];
      state.entropy_sum[id] += at.ed[r];
      ++state.count[id];
      if (from.targets != nullptr) state.wrong[id] += from.targets[begin + r] != vote;
    }
  }
}

std::int64_t first_bad(const Predictions& from, std::int64_t begin, std::int64_t end, double* scratch) {
  switch (from.element) {
    case Element::kFloat:
      return first_bad_of<float>(from, begin, end, scratch);
    case Element::kDouble:
      return first_bad_of<double>(from, begin, end, scratch);
    case Element::kHalf:
      return first_bad_of<Half>(from, begin, end, scratch);
    case Element::kBfloat:
      return first_bad_of<BFloat16>(from, begin, end, scratch);
  }
  return begin;
}

void add(const EnsembleState& state, const Predictions& from, std::int64_t begin, std::int64_t end,
         double* scratch) {
  switch (from.element) {
    case Element::kFloat:
      return add_of<float>(state, from, begin, end, scratch);
    case Element::kDouble:
      return add_of<double>(state, from, begin, end, scratch);
    case Element::kHalf:
      return add_of<Half>(state, from, begin, end, scratch);
    case Element::kBfloat:
      return add_of<BFloat16>(state, from, begin, end, scratch);
  }
}

void entropy(const EnsembleState& state, std::int64_t begin, std::int64_t end, double* out, double* scratch) {
  const std::int64_t classes = state.classes, block = block_of(classes);
  const Buffers at = divide(scratch, classes);
  for (; begin < end; begin += block) {
    const std::int64_t rows = end - begin < block ? end - begin : block;
    __builtin_memcpy(at.d, state.p_sum + begin * classes,
                     static_cast<std::size_t>(rows * classes) * sizeof(double));
    from_probabilities(at, rows, classes);
    settle(at, rows, classes);
    for (std::int64_t r = 0; r < rows; ++r) {
      out[begin + r] = state.count[begin + r] > 0 ? at.ed[r] : __builtin_nan("");
    }
  }
}

}  // namespace

const EnsembleKernel ensemble_kernel{first_bad, add, entropy};

}  // namespace PYI_ISA
}  // namespace pyi
