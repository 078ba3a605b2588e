// The row kernel, compiled once per instruction set: the including file defines PYI_ISA (a namespace) and
// PYI_VECTOR_BYTES, and has set the compiler's target before. It may define macros for what the compiler does
// not make of plain code: the larger of two vectors (the second if one is NaN), square roots, conversions of
// floats and halves, a table of 16 doubles (rows_vectors.h).
//
// Few classes: a block of rows is transposed and each lane of a vector works on a row of its own. Many: the
// lanes share a row, of which as much is taken at a time as stays in the first-level cache between the search
// for its largest logit and the sums. The two round differently, so the number of classes alone chooses.
// There is no test for the end of a row or for j inside the loops: what does not count is set to -inf, which
// adds nothing (kFloor).
#include "observe/rows.h"
#include "observe/rows_vectors.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kMaxTransposed = 320;  // classes: two tiles of them fit the first-level cache
constexpr std::int64_t kPart = 2048;          // classes, of a row of many, taken at a time; whole vectors
constexpr float kNaN = __builtin_nanf("");

// What a row's statistics are made of (arithmetic.h), for kLanes rows.
struct Block {
  Doubles top, second, target, is_right;
  Sums<Doubles> sums;
};

// sum of squares of a row
template <class T>
PYI_HD double squared_norm(const T* h, std::int64_t width) {
  Doubles even{}, odd{};
  std::int64_t k = 0;
  const auto square = [](Floats x) __attribute__((always_inline)) {
    const Doubles wide = widen(x);
    return wide * wide;
  };
  for (; k + kWide <= width; k += kWide) {
    even = even + square(few_at(h + k));
    odd = odd + square(few_at(h + k + kLanes));
  }
  Doubles lanes = even + odd;
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  for (; k < width; ++k) {
    const double x = pyi::widen(h[k]);
    sum += x * x;
  }
  return sum;
}

double squared_norm(const Matrix& features, std::int64_t row) {
  return with_type(features.type, [&](auto kind) __attribute__((always_inline)) {
    using T = decltype(kind);
    return squared_norm(static_cast<const T*>(features.data) + row * features.stride, features.width);
  });
}

PYI_HD void finish_block(const Block& block, const Inputs& in, std::int64_t begin, std::int64_t end,
                         Row* out) {
  const auto right = block.is_right != 0.0;
  const Statistics<Doubles> row = finish(block.target, block.top, block.second, block.sums, right);
  const Doubles el2n = square_root(row.el2n_squared);
  const Doubles unsure = (block.top - block.top) + (row.loss - row.loss) + (row.entropy - row.entropy);
  for (int lane = 0; lane < kLanes && begin + lane < end; ++lane) {
    const std::int64_t i = begin + lane;
    if (in.mask != nullptr && !in.mask[i]) {
      out[i] = Row{};
      continue;
    }
    float grand = kNaN;
    bool sound = unsure[lane] == 0.0;  // else it is NaN
    if (in.features != nullptr) {
      grand = static_cast<float>(el2n[lane] * __builtin_sqrt(1.0 + squared_norm(*in.features, i)));
      sound = sound && grand - grand == 0.0f;
    }
    const std::int32_t code = !sound ? kNonFinite : block.is_right[lane] != 0.0 ? kCorrect : kWrong;
    out[i] = {row.loss[lane],
              row.margin[lane],
              static_cast<float>(el2n[lane]),
              static_cast<float>(row.entropy[lane]),
              code,
              grand};
  }
}

// kLanes rows side by side. Read in one step and settled in another, so that the next block can be read in
// between: a logit that was overwritten in memory is slow to read back as part of a vector before it has got
// there.
struct Tile {
  alignas(64) float logits[kMaxTransposed * kLanes];  // class k of lane l at [k * kLanes + l]
  Floats top, second, target;
  Doubles is_right;
};

template <class T>
PYI_HD void read_tile(Tile& tile, const Inputs& in, std::int64_t begin, std::int64_t end) {
  const T* z[kLanes];
  std::int64_t y[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t row =
        begin + lane < end ? begin + lane : begin;  // lanes past the end repeat the first
    z[lane] = static_cast<const T*>(in.logits.data) + row * in.logits.stride;
    y[lane] = in.mask == nullptr || in.mask[row] ? in.targets[row] : 0;
  }
  Top<Floats, Ints> top{Floats{} + kNone, Floats{} + kNone, Ints{}};
  for (std::int64_t k = 0; k < in.logits.width; ++k) {
    typename Stored<T>::Few column;
    for (int lane = 0; lane < kLanes; ++lane) column[lane] = Stored<T>::bits(z[lane][k]);
    const Floats now = Stored<T>::few(column);
    __builtin_memcpy(tile.logits + k * kLanes, &now, sizeof now);
    meet(top, now, Ints{} + static_cast<std::int32_t>(k));
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    tile.target[lane] = pyi::widen(z[lane][y[lane]]);
    tile.is_right[lane] = y[lane] == top.place[lane];
    tile.logits[top.place[lane] * kLanes + lane] = kNone;
  }
  tile.top = top.first;
  tile.second = top.second;
}

PYI_HD Block summed(const Tile& tile, std::int64_t classes) {
  Block block{widen(tile.top), widen(tile.second), widen(tile.target), tile.is_right, {}};
  for (std::int64_t k = 0; k < classes; ++k) {
    add_class(block.sums, widen(load<Floats>(tile.logits + k * kLanes)), block.top);
  }
  return block;
}

template <class T>
void rows_across(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  Tile tiles[2];
  if (begin < end) read_tile<T>(tiles[0], in, begin, end);
  for (int now = 0; begin < end; begin += kLanes, now ^= 1) {
    if (begin + kLanes < end) read_tile<T>(tiles[now ^ 1], in, begin + kLanes, end);
    finish_block(summed(tiles[now], in.logits.width), in, begin, end, out);
  }
}

// Some classes of a row: the largest of them and its first place, the largest of the others and the sums over
// those.
struct Part {
  float top, second;
  std::int64_t place;
  Sums<double> sums;
};

// The last classes of a row, where they fill no vector, and then as many of -inf.
template <class T, int kCount>
PYI_HD void rest_of(const T* z, std::int64_t classes, T (&rest)[kCount]) {
  for (int lane = 0; lane < kCount; ++lane) rest[lane] = lane < classes ? z[lane] : Stored<T>::none;
}

template <class T>
PYI_HD void find_top(const T* z, std::int64_t classes, Part& part) {
  WideFloats first = WideFloats{} + kNone, second = first;
  const auto meet = [&](WideFloats now) __attribute__((always_inline)) {
    second = larger(smaller(now, first), second);
    first = larger(now, first);
  };
  const std::int64_t whole = classes - classes % kWide;
  T rest[kWide];
  rest_of(z + whole, classes - whole, rest);
  for (std::int64_t k = 0; k < whole; k += kWide) meet(many_at(z + k));
  if (whole < classes) meet(many_at(rest));
  float a[kWide], b[kWide];
  __builtin_memcpy(a, &first, sizeof a);
  __builtin_memcpy(b, &second, sizeof b);
  for (int half = kLanes; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) {
      const float x = a[lane], y = a[lane + half], lesser = x < y ? x : y;
      b[lane] = b[lane] > b[lane + half] ? b[lane] : b[lane + half];
      b[lane] = b[lane] > lesser ? b[lane] : lesser;
      a[lane] = x > y ? x : y;
    }
  }
  part.top = a[0];
  part.second = b[0];
  std::int64_t k = 0;
  while (k < whole && !any_equal(many_at(z + k), WideFloats{} + part.top)) k += kWide;
  while (k < classes - 1 && pyi::widen(z[k]) != part.top) ++k;
  part.place = k;
  if (pyi::widen(z[k]) != part.top) part.top = kNaN;  // all are NaN, and the one left out is one
}

// next: what will be looked at after these, to be fetched meanwhile.
template <class T>
PYI_HD Part part_of(const T* z, std::int64_t classes, const T* next) {
  constexpr int kLine = 64 / sizeof(T);
  Part part;
  find_top(z, classes, part);
  const double top = part.top == kNone ? 0.0 : part.top;  // with -inf alone, the sums are 0
  const Doubles peak = Doubles{} + top;
  const std::int64_t whole = classes / kLanes, hole = part.place / kLanes;
  Sums<Doubles> lanes{};
  const auto add = [&](std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
    for (std::int64_t b = from; b < to; ++b) {
      if (b * kLanes % kLine == 0) __builtin_prefetch(next + b * kLanes);
      add_class(lanes, widen(few_at(z + b * kLanes)), peak);
    }
  };
  const auto add_some = [&](std::int64_t b) __attribute__((always_inline)) {
    T some[kLanes];
    rest_of(z + b * kLanes, classes - b * kLanes, some);
    if (b == hole) some[part.place % kLanes] = Stored<T>::none;
    add_class(lanes, widen(few_at(some)), peak);
  };
  add(0, hole);
  add(hole + 1, whole);
  add_some(hole);  // the vector of the largest logit, without it
  if (whole != hole && whole * kLanes < classes) add_some(whole);
  part.sums = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    part.sums.s += lanes.s[lane];
    part.sums.q += lanes.q[lane];
    part.sums.a += lanes.a[lane];
  }
  return part;
}

PYI_HD void join(Part& row, const Part& part) {
  const bool better = part.top > row.top;
  const Part &more = better ? part : row, &less = better ? row : part;
  row.sums = joined<double>(more.sums, more.top, less.sums, less.top);
  const float second = more.second > less.top ? more.second : less.top;
  row.place = more.place;
  row.top = more.top;
  row.second = second;
}

template <class T>
PYI_HD Part whole_row(const T* z, std::int64_t classes, const T* next) {
  Part row{};
  for (std::int64_t from = 0; from < classes; from += kPart) {
    const std::int64_t to = from + kPart < classes ? from + kPart : classes;
    Part part = part_of(z + from, to - from, to < classes ? z + to : next);
    part.place += from;
    if (from == 0) {
      row = part;
    } else {
      join(row, part);
    }
  }
  return row;
}

template <class T>
void rows_along(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  for (; begin < end; begin += kLanes) {
    Block block{};
    for (int lane = 0; lane < kLanes && begin + lane < end; ++lane) {
      const std::int64_t i = begin + lane, y = in.targets[i];
      if (in.mask != nullptr && !in.mask[i]) continue;
      const T* z = static_cast<const T*>(in.logits.data) + i * in.logits.stride;
      const Part row = whole_row(z, in.logits.width, z + in.logits.stride);
      block.top[lane] = row.top;
      block.second[lane] = row.second;
      block.target[lane] = pyi::widen(z[y]);
      block.is_right[lane] = y == row.place;
      block.sums.s[lane] = row.sums.s;
      block.sums.q[lane] = row.sums.q;
      block.sums.a[lane] = row.sums.a;
    }
    finish_block(block, in, begin, end, out);
  }
}

template <class T>
void rows_of(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  (in.logits.width <= kMaxTransposed ? rows_across<T> : rows_along<T>)(in, begin, end, out);
}

}  // namespace

void rows(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  with_type(in.logits.type, [&](auto kind) { rows_of<decltype(kind)>(in, begin, end, out); });
}

}  // namespace PYI_ISA
}  // namespace pyi
