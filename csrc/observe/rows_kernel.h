// The row kernel, compiled once per instruction set: the including file defines PYI_ISA (a namespace) and
// PYI_VECTOR_BYTES, and has set the compiler's target before.
//
// Few classes: a block of rows is transposed and each lane of a vector works on a row of its own. Many: the
// lanes share a row. The two round differently, so the number of classes alone chooses. There is no test for
// the end of a row or for j inside the loops: what does not count is set to -inf, which adds nothing
// (kFloor).
#include "observe/arithmetic.h"
#include "observe/rows.h"

namespace pyi {
namespace PYI_ISA {

constexpr int kLanes = PYI_VECTOR_BYTES / 8;  // doubles in a vector
typedef double Doubles __attribute__((vector_size(kLanes * 8)));
typedef std::uint64_t Words __attribute__((vector_size(kLanes * 8)));
typedef float Floats __attribute__((vector_size(kLanes * 4)));  // as many as Doubles
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef float WideFloats __attribute__((vector_size(kLanes * 8)));  // a whole vector of them
typedef std::int32_t WideInts __attribute__((vector_size(kLanes * 8)));

}  // namespace PYI_ISA

template <>
struct BitsOf<PYI_ISA::Doubles> {
  using type = PYI_ISA::Words;
};

namespace PYI_ISA {
namespace {

constexpr std::int64_t kMaxTransposed = 192;  // classes; more are better read along the row
constexpr float kNone = -__builtin_inff();

template <class V>
PYI_HD V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

PYI_HD Doubles widen(Floats x) {
#if PYI_VECTOR_BYTES == 64  // GCC 12 makes four instructions of the general form
  return reinterpret_cast<Doubles>(_mm512_maskz_cvtps_pd(0xff, reinterpret_cast<__m256>(x)));
#else
  return __builtin_convertvector(x, Doubles);
#endif
}

template <class T>
PYI_HD bool is_finite(T x) {
  return x - x == 0;
}

PYI_HD Row make_row(double loss, double margin, double el2n_squared, double entropy, float top, bool right) {
  if (!is_finite(top) || !is_finite(loss) || !is_finite(entropy)) return {0, 0, 0, 0, kNonFinite};
  return {loss, margin, static_cast<float>(__builtin_sqrt(el2n_squared)), static_cast<float>(entropy),
          right ? kCorrect : kWrong};
}

// The largest logit, its first place, and the largest of the others, per lane.
template <class F, class I>
struct Top {
  F first, second;
  I place;
};

template <class F, class I>
PYI_HD void meet(Top<F, I>& top, F z, I place) {
  const auto more = z > top.first;
  const F rest = z > top.second ? z : top.second;
  top.second = more ? top.first : rest;
  top.place = more ? place : top.place;
  top.first = more ? z : top.first;
}

// kLanes rows, transposed: tile[k * kLanes + lane].
PYI_HD void across_rows(float* tile, std::int64_t classes, const std::int64_t* targets, const bool* live,
                        int lanes, Row* out) {
  Top<Floats, Ints> top{Floats{} + kNone, Floats{} + kNone, Ints{}};
  for (std::int64_t k = 0; k < classes; ++k) {
    meet(top, load<Floats>(tile + k * kLanes), Ints{} + static_cast<std::int32_t>(k));
  }
  Floats target;
  Doubles is_right;
  for (int lane = 0; lane < kLanes; ++lane) {
    target[lane] = tile[targets[lane] * kLanes + lane];
    is_right[lane] = targets[lane] == top.place[lane];
  }
  for (int lane = 0; lane < kLanes; ++lane) tile[top.place[lane] * kLanes + lane] = kNone;

  const Doubles peak = widen(top.first);
  Sums<Doubles> sums{};
  for (std::int64_t k = 0; k < classes; ++k) {
    add_class(sums, widen(load<Floats>(tile + k * kLanes)), peak);
  }
  const Statistics<Doubles> row = finish(widen(target), peak, widen(top.second), sums, is_right != 0.0);
  for (int lane = 0; lane < lanes; ++lane) {
    out[lane] = live[lane] ? make_row(row.loss[lane], row.margin[lane], row.el2n_squared[lane],
                                      row.entropy[lane], top.first[lane], is_right[lane] != 0)
                           : Row{};
  }
}

void rows_across(const Logits& logits, const std::int64_t* targets, const bool* mask, std::int64_t begin,
                 std::int64_t end, Row* out) {
  alignas(64) float tile[kMaxTransposed * kLanes];
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = static_cast<int>(end - i < kLanes ? end - i : kLanes);
    std::int64_t target[kLanes];
    bool live[kLanes];
    const float* from[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t row = i + (lane < lanes ? lane : 0);  // lanes past the end repeat the first
      live[lane] = mask == nullptr || mask[row];
      target[lane] = live[lane] ? targets[row] : 0;
      from[lane] = logits.data + row * logits.stride;
    }
    for (std::int64_t k = 0; k < logits.classes; ++k) {
      for (int lane = 0; lane < kLanes; ++lane) tile[k * kLanes + lane] = from[lane][k];
    }
    across_rows(tile, logits.classes, target, live, lanes, out + i);
  }
}

struct RowTop {
  float first, second;
  std::int64_t place;
};

PYI_HD RowTop top_of(const float* z, std::int64_t classes) {
  constexpr int kWide = 2 * kLanes;
  Top<WideFloats, WideInts> top{WideFloats{} + kNone, WideFloats{} + kNone, WideInts{}};
  WideInts place;
  for (int lane = 0; lane < kWide; ++lane) place[lane] = lane;
  std::int64_t k = 0;
  for (; k + kWide <= classes; k += kWide, place += kWide) meet(top, load<WideFloats>(z + k), place);
  if (k < classes) {
    WideFloats rest = WideFloats{} + kNone;
    for (int lane = 0; k + lane < classes; ++lane) rest[lane] = z[k + lane];
    meet(top, rest, place);
  }
  RowTop row{top.first[0], top.second[0], top.place[0]};
  for (int lane = 1; lane < kWide; ++lane) {
    const float first = top.first[lane], second = top.second[lane];
    const std::int64_t at = top.place[lane];
    const bool better = first > row.first || (first == row.first && at < row.place);
    const float loser = better ? row.first : first;
    row.second = loser > row.second ? loser : row.second;
    row.second = second > row.second ? second : row.second;
    row.first = better ? first : row.first;
    row.place = better ? at : row.place;
  }
  return row;
}

PYI_HD Row along_row(const float* z, std::int64_t classes, std::int64_t target) {
  const RowTop top = top_of(z, classes);
  const Doubles peak = Doubles{} + static_cast<double>(top.first);
  const std::int64_t whole = classes / kLanes, hole = top.place / kLanes;
  Sums<Doubles> lanes{};
  const auto add = [&](std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
    for (std::int64_t b = from; b < to; ++b) {
      add_class(lanes, widen(load<Floats>(z + b * kLanes)), peak);
    }
  };
  const auto add_some = [&](std::int64_t b) __attribute__((always_inline)) {
    Floats some;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t k = b * kLanes + lane;
      some[lane] = k < classes && k != top.place ? z[k] : kNone;
    }
    add_class(lanes, widen(some), peak);
  };
  add(0, hole);
  add(hole + 1, whole);
  add_some(hole);  // the block of the largest logit, without it
  if (whole != hole && whole * kLanes < classes) add_some(whole);

  Sums<double> sums{};
  for (int lane = 0; lane < kLanes; ++lane) {
    sums.s += lanes.s[lane];
    sums.q += lanes.q[lane];
    sums.a += lanes.a[lane];
  }
  const bool right = target == top.place;
  const Statistics<double> row = finish<double>(z[target], top.first, top.second, sums, right);
  return make_row(row.loss, row.margin, row.el2n_squared, row.entropy, top.first, right);
}

}  // namespace

void rows(const Logits& logits, const std::int64_t* targets, const bool* mask, std::int64_t begin,
          std::int64_t end, Row* out) {
  if (logits.classes <= kMaxTransposed) {
    rows_across(logits, targets, mask, begin, end, out);
    return;
  }
  for (std::int64_t i = begin; i < end; ++i) {
    const bool live = mask == nullptr || mask[i];
    out[i] = live ? along_row(logits.data + i * logits.stride, logits.classes, targets[i]) : Row{};
  }
}

}  // namespace PYI_ISA
}  // namespace pyi
