// The ensemble's kernel, compiled once per instruction set: include it after rows_kernel.h.
//
// A block of rows at a time is brought to the one form of ensemble_arithmetic.h. Of rows of few classes the
// exponentials (or logarithms) run over the block as if it were one row.
#include "observe/ensemble_rows.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kLong = 4 * kLanes;  // classes from which lanes share a row

PYI_HD void store(double* to, Doubles v) { __builtin_memcpy(to, &v, sizeof v); }

struct Buffers {
  double *d, *e;     // a block of rows, each of `classes`
  double *sum, *ed;  // of a row: of e, and of -e d, without class j
  double* place;     // j
  double* row;       // a row as numbers that can be computed with
};

PYI_HD Buffers divide(double* scratch, std::int64_t classes) {
  const std::int64_t room = ((classes > kBlockClasses ? classes : kBlockClasses) + 15) / 8 * 8;
  double* rows = scratch + 3 * room;
  return {scratch, scratch + room, rows, rows + kBlockClasses, rows + 2 * kBlockClasses, scratch + 2 * room};
}

// The sums of row r, in which e_j is 0.
PYI_HD void sum_row(const Buffers& at, std::int64_t r, std::int64_t classes) {
  const double *d = at.d + r * classes, *e = at.e + r * classes;
  double sum = 0, ed = 0;
  std::int64_t k = 0;
  if (classes >= 2 * kLanes) {
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

// Of a block of rows whose e and d are there. Zeroing in a loop of its own: a number just written alone is
// slow to read back as part of a vector.
PYI_HD void sum_rows(const Buffers& at, std::int64_t rows, std::int64_t classes) {
  for (std::int64_t r = 0; r < rows; ++r) at.e[r * classes + static_cast<std::int64_t>(at.place[r])] = 0;
  for (std::int64_t r = 0; r < rows; ++r) sum_row(at, r, classes);
}

// e and sums of a row of many classes, from its logits.
template <class W>
PYI_HD void exp_row(const Buffers& at, std::int64_t r, const W* z, std::int64_t classes, double sharpness) {
  const Peak peak = peak_of(z, classes);
  const Doubles top = Doubles{} + peak.top;
  const std::int64_t whole = classes / kLanes, hole = peak.place / kLanes;
  double* e = at.e + r * classes;
  Doubles sum{}, ed{};
  const auto add = [&](std::int64_t b, Doubles logits) __attribute__((always_inline)) {
    const Ratio<Doubles> ratio = ratio_of_logits(logits, top, sharpness);
    store(e + b * kLanes, ratio.e);
    sum += ratio.e;
    ed -= ratio.e * ratio.d;
  };
  const auto add_some = [&](std::int64_t b) __attribute__((always_inline)) {
    Doubles some;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t k = b * kLanes + lane;
      some[lane] = k < classes && k != peak.place ? z[k] : -__builtin_inf();
    }
    add(b, some);
  };
  for (std::int64_t b = 0; b < hole; ++b) add(b, load_wide(z + b * kLanes));
  for (std::int64_t b = hole + 1; b < whole; ++b) add(b, load_wide(z + b * kLanes));
  add_some(hole);  // the block of the largest logit, without it
  if (whole != hole && whole * kLanes < classes) add_some(whole);  // past the row only the next one's e lie
  at.place[r] = static_cast<double>(peak.place);
  at.sum[r] = sum_of_lanes(sum);
  at.ed[r] = sum_of_lanes(ed);
}

template <class T>
PYI_HD void from_logits(const Buffers& at, const Predictions& from, std::int64_t begin, std::int64_t rows) {
  const std::int64_t classes = from.classes;
  const double sharpness = from.sharpness;
  if (classes >= kLong) {
    for (std::int64_t r = 0; r < rows; ++r) {
      exp_row(at, r, row_of<T>(from, begin + r, at.row), classes, sharpness);
    }
    return;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const Wide<T>* z = row_of<T>(from, begin + r, at.row);
    const Peak peak = peak_of(z, classes);
    double* d = at.d + r * classes;
    for (std::int64_t k = 0; k < classes; ++k) d[k] = z[k] - peak.top;
    at.place[r] = static_cast<double>(peak.place);
  }
  for (std::int64_t i = 0; i < rows * classes; i += kLanes) {
    const Ratio<Doubles> ratio = ratio_of_logits(load<Doubles>(at.d + i), Doubles{}, sharpness);
    store(at.d + i, ratio.d);
    store(at.e + i, ratio.e);
  }
  sum_rows(at, rows, classes);
}

// row(r): what is proportional to the probabilities of row r.
template <class Row>
PYI_HD void from_probabilities(const Buffers& at, std::int64_t rows, std::int64_t classes, const Row& row) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto* p = row(r);
    double* e = at.e + r * classes;
    const Peak peak = peak_of(p, classes);
    for (std::int64_t k = 0; k < classes; ++k) e[k] = p[k] / peak.top;
    at.place[r] = static_cast<double>(peak.place);
  }
  for (std::int64_t i = 0; i < rows * classes; i += kLanes) {
    store(at.d + i, log_positive(load<Doubles>(at.e + i)));
  }
  sum_rows(at, rows, classes);
}

// The entropies of a block of rows, which then stand in `ed`.
PYI_HD void settle(const Buffers& at, std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    store(at.ed + r, entropy_of(load<Doubles>(at.sum + r), load<Doubles>(at.ed + r)));
  }
}

PYI_HD std::int64_t block_of(std::int64_t classes) {
  return classes < kBlockClasses ? kBlockClasses / classes : 1;
}

template <class T>
std::int64_t first_bad_of(const Predictions& from, std::int64_t begin, std::int64_t end, double* scratch) {
  const std::int64_t block = block_of(from.classes);
  const Buffers at = divide(scratch, from.classes);
  for (; begin < end; begin += block) {
    const std::int64_t rows = end - begin < block ? end - begin : block;
    if (all_finite<T>(from, begin, rows)) continue;
    for (std::int64_t r = 0; r < rows; ++r) {
      if (!is_distribution<T>(from, begin + r, at.row)) return begin + r;
    }
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
    for (std::int64_t r = 0; r < rows && from.ids != nullptr; ++r) {
      __builtin_prefetch(state.p_sum + sample(begin + r) * classes, 1);
      __builtin_prefetch(state.votes + sample(begin + r) * classes, 1);
    }
    if (from.probabilities) {
      from_probabilities(at, rows, classes,
                         [&](std::int64_t r) { return row_of<T>(from, begin + r, at.row); });
    } else {
      from_logits<T>(at, from, begin, rows);
    }
    settle(at, rows);
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
    from_probabilities(at, rows, classes,
                       [&](std::int64_t r) { return state.p_sum + (begin + r) * classes; });
    settle(at, rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      out[begin + r] = state.count[begin + r] > 0 ? at.ed[r] : __builtin_nan("");
    }
  }
}

}  // namespace

const EnsembleKernel ensemble_kernel{first_bad, add, entropy};

}  // namespace PYI_ISA
}  // namespace pyi
