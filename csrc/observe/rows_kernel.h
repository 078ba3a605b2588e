// The row kernel, compiled once per instruction set: the including file defines PYI_ISA (a namespace) and
// PYI_VECTOR_BYTES, and has set the compiler's target before. It may define PYI_MAX, PYI_SQRT and PYI_WIDEN,
// the intrinsics for the larger of two vectors of doubles (the second if one is NaN), for the square root,
// and for floats to doubles.
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

#ifdef PYI_MAX
template <>
struct Larger<PYI_ISA::Doubles> {
  PYI_HD PYI_ISA::Doubles of(PYI_ISA::Doubles a, PYI_ISA::Doubles b) { return PYI_MAX(a, b); }
};
#endif

namespace PYI_ISA {
namespace {

constexpr std::int64_t kMaxTransposed = 320;  // classes: two tiles of them fit the first-level cache
constexpr float kNone = -__builtin_inff();
constexpr float kNoFeatures = __builtin_nanf("");

template <class V>
PYI_HD V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

PYI_HD Doubles widen(Floats x) {
#ifdef PYI_WIDEN
  return PYI_WIDEN(x);
#else
  return __builtin_convertvector(x, Doubles);
#endif
}

PYI_HD Doubles square_root(Doubles x) {
#ifdef PYI_SQRT
  return PYI_SQRT(x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

// The largest logit, its first place, and the largest of the others, per lane.
template <class F, class I>
struct Top {
  F first, second;
  I place;
};

template <class F, class I>
PYI_HD void meet(Top<F, I>& top, F z, I place) {
  const F lesser = z < top.first ? z : top.first;
  top.second = lesser > top.second ? lesser : top.second;
  top.place = z > top.first ? place : top.place;
  top.first = z > top.first ? z : top.first;
}

// kLanes rows side by side. Read in one step and settled in another, so that the next block can be read in
// between: a logit that was overwritten in memory is slow to read back as part of a vector before it has got
// there.
struct Block {
  alignas(64) float tile[kMaxTransposed * kLanes];  // class k of lane l at [k * kLanes + l]
  Top<Floats, Ints> top;
  Floats target;
  Doubles is_right;
};

PYI_HD void read_block(Block& block, const Logits& logits, const std::int64_t* targets, const bool* mask,
                       std::int64_t begin, std::int64_t end) {
  const float* z[kLanes];
  std::int64_t y[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t row =
        begin + lane < end ? begin + lane : begin;  // lanes past the end repeat the first
    z[lane] = logits.data + row * logits.stride;
    y[lane] = mask == nullptr || mask[row] ? targets[row] : 0;
  }
  Top<Floats, Ints> top{Floats{} + kNone, Floats{} + kNone, Ints{}};
  for (std::int64_t k = 0; k < logits.classes; ++k) {
    Floats column;
    for (int lane = 0; lane < kLanes; ++lane) column[lane] = z[lane][k];
    __builtin_memcpy(block.tile + k * kLanes, &column, sizeof column);
    meet(top, column, Ints{} + static_cast<std::int32_t>(k));
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    block.target[lane] = z[lane][y[lane]];
    block.is_right[lane] = y[lane] == top.place[lane];
    block.tile[top.place[lane] * kLanes + lane] = kNone;
  }
  block.top = top;
}

PYI_HD void settle_block(const Block& block, std::int64_t classes, const bool* mask, std::int64_t begin,
                         std::int64_t end, Row* out) {
  const Doubles top = widen(block.top.first);
  Sums<Doubles> sums{};
  for (std::int64_t k = 0; k < classes; ++k)
    add_class(sums, widen(load<Floats>(block.tile + k * kLanes)), top);
  const auto right = block.is_right != 0.0;
  const Statistics<Doubles> row = finish(widen(block.target), top, widen(block.top.second), sums, right);
  const Doubles el2n = square_root(row.el2n_squared);
  const Doubles unsure = (top - top) + (row.loss - row.loss) + (row.entropy - row.entropy);  // 0, or NaN
  const auto all = [](std::uint64_t code) { return Words{} + code; };
  const Words code = unsure == 0.0 ? (right ? all(kCorrect) : all(kWrong)) : all(kNonFinite);
  for (int lane = 0; lane < kLanes && begin + lane < end; ++lane) {
    out[begin + lane] = {row.loss[lane],
                         row.margin[lane],
                         static_cast<float>(el2n[lane]),
                         static_cast<float>(row.entropy[lane]),
                         static_cast<std::int32_t>(code[lane]),
                         kNoFeatures};
    if (mask != nullptr && !mask[begin + lane]) out[begin + lane] = Row{};
  }
}

void rows_across(const Logits& logits, const std::int64_t* targets, const bool* mask, std::int64_t begin,
                 std::int64_t end, Row* out) {
  Block blocks[2];
  if (begin < end) read_block(blocks[0], logits, targets, mask, begin, end);
  for (int now = 0; begin < end; begin += kLanes, now ^= 1) {
    if (begin + kLanes < end) read_block(blocks[now ^ 1], logits, targets, mask, begin + kLanes, end);
    settle_block(blocks[now], logits.classes, mask, begin, end, out);
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
    for (std::int64_t b = from; b < to; ++b) add_class(lanes, widen(load<Floats>(z + b * kLanes)), peak);
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
  if ((top.first - top.first) + (row.loss - row.loss) + (row.entropy - row.entropy) != 0) {  // NaN is not 0
    return {0, 0, 0, 0, kNonFinite, 0};
  }
  return {row.loss,
          row.margin,
          static_cast<float>(__builtin_sqrt(row.el2n_squared)),
          static_cast<float>(row.entropy),
          right ? kCorrect : kWrong,
          kNoFeatures};
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
