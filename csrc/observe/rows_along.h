// Rows of many classes: the lanes of a vector share a row, of which as much is taken at a time as stays in
// the first-level cache between the search for its largest logit and the sums. While those are made, what
// comes next is fetched. A part of the row kernel.
#pragma once

#include "observe/rows_block.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kPart = 2048;  // classes taken at a time; whole vectors

// Some classes of a row: the largest of them and its first place, the largest of the others and the sums over
// those.
struct Part {
  float top, second;
  std::int64_t place;
  Sums<double> sums;
};

// The last classes of a row, where they fill no vector, and then as many of -inf.
template <int kCount>
PYI_HD void rest_of(const float* z, std::int64_t classes, float (&rest)[kCount]) {
  for (int lane = 0; lane < kCount; ++lane) rest[lane] = lane < classes ? z[lane] : kNone;
}

// The largest logit and its first place.
PYI_HD void find_top(const float* z, std::int64_t classes, Part& part) {
  const std::int64_t whole = classes - classes % kWide;
  WideFloats even = WideFloats{} + kNone, odd = even;
  std::int64_t k = 0;
  for (; k + 2 * kWide <= whole; k += 2 * kWide) {
    even = larger(load<WideFloats>(z + k), even);
    odd = larger(load<WideFloats>(z + k + kWide), odd);
  }
  if (k < whole) even = larger(load<WideFloats>(z + k), even);
  if (whole < classes) {
    float rest[kWide];
    rest_of(z + whole, classes - whole, rest);
    odd = larger(load<WideFloats>(rest), odd);
  }
  part.top = largest_lane(larger(even, odd));
  const WideFloats top = WideFloats{} + part.top;
  const auto at = [z](std::int64_t k) __attribute__((always_inline)) { return load<WideFloats>(z + k); };
  const auto there = [&](std::int64_t k) __attribute__((always_inline)) {
    return any_equal(larger(larger(at(k), at(k + kWide)), larger(at(k + 2 * kWide), at(k + 3 * kWide))), top);
  };
  for (k = 0; k + 4 * kWide <= whole && !there(k);) k += 4 * kWide;
  while (k < whole && !any_equal(at(k), top)) k += kWide;
  while (k < classes - 1 && z[k] != part.top) ++k;
  part.place = k;
  if (z[k] != part.top) part.top = kNaN;  // all are NaN, and the one left out is one
}

// The sums where the largest logit, top, is not far from 0: of 2^(z log2(e) - c), c a constant next to top
// log2(e). That saves the difference z - top, and the cut at the floor is one of floats. z log2(e) is rounded
// where it is that of a number up to 4396, which makes 5e-13 of the power; the way back from c to top, 2e-12.
struct Near {
  double top, c;
  Doubles base;
  Floats least;
};

PYI_HD bool is_near(double top) { return top >= -4096 && top <= 4096; }

PYI_HD Near near(double top) {
  constexpr double kRound = Power<Doubles>::kRound;
  const double c = (top * kLog2E + kRound) - kRound;
  return {top, c, Doubles{} + (kRound - c), Floats{} + static_cast<float>(top + kFloor)};
}

PYI_HD void add_near(Sums<Doubles>& sums, Floats z, const Near& to) {
  const Doubles x = widen(to.least > z ? to.least : z);  // a NaN stays one
  const Doubles shifted = x * kLog2E + to.base;
  const Doubles e = Power<Doubles>::of(shifted, x * kLog2E - (shifted - to.base));
  sums.s = sums.s + e;
  sums.q = sums.q + e * e;
  sums.a = sums.a + e * x;
}

PYI_HD Sums<double> finish_near(const Sums<double>& sums, const Near& to) {
  const double scale = 1.0 + power_less_one(to.c - to.top * kLog2E);
  return {sums.s * scale, sums.q * (scale * scale), (to.top * sums.s - sums.a) * scale};
}

// Where the part that will be looked at after this begins, to be fetched meanwhile.
struct Next {
  const char* data;
  int item;  // bytes an element takes
};

// The sums of all classes but the one at part.place, vector after vector by add(sums, z), and the largest of
// them.
template <class Add>
PYI_HD void sum_others(const float* z, std::int64_t classes, Next next, Part& part, const Add& add) {
  const std::int64_t whole = classes / kLanes, hole = part.place / kLanes;
  const std::int64_t line =
      next.item * kLanes < 64 ? 64 / (next.item * kLanes) : 1;  // vectors that share one
  Sums<Doubles> lanes{};
  Floats second = Floats{} + kNone;
  const auto take = [&](Floats x) __attribute__((always_inline)) {
    second = x > second ? x : second;
    add(lanes, x);
  };
  const auto take_from = [&](std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
    for (std::int64_t b = from; b < to; ++b) {
      if ((b & (line - 1)) == 0) __builtin_prefetch(next.data + b * kLanes * next.item);
      take(load<Floats>(z + b * kLanes));
    }
  };
  const auto take_but = [&](Floats x, std::int64_t place) __attribute__((always_inline)) {
    Ints lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    take(lane == static_cast<std::int32_t>(place) ? Floats{} + kNone : x);
  };
  take_from(0, hole);
  take_from(hole + 1, whole);
  if (hole < whole) take_but(load<Floats>(z + hole * kLanes), part.place % kLanes);
  if (whole * kLanes < classes) {
    float rest[kLanes];
    rest_of(z + whole * kLanes, classes - whole * kLanes, rest);
    take_but(load<Floats>(rest), part.place - whole * kLanes);
  }
  part.sums = {};
  part.second = kNone;
  for (int lane = 0; lane < kLanes; ++lane) {
    part.second = second[lane] > part.second ? second[lane] : part.second;
    part.sums.s += lanes.s[lane];
    part.sums.q += lanes.q[lane];
    part.sums.a += lanes.a[lane];
  }
}

PYI_HD Part part_of(const float* z, std::int64_t classes, Next next) {
  Part part;
  find_top(z, classes, part);
  const double top = part.top == kNone ? 0.0 : part.top;  // with -inf alone, the sums are 0
  if (is_near(top)) {
    const Near to = near(top);
    const auto add = [&](Sums<Doubles>& sums, Floats x)
                         __attribute__((always_inline)) { add_near(sums, x, to); };
    sum_others(z, classes, next, part, add);
    part.sums = finish_near(part.sums, to);
  } else {
    const Doubles peak = Doubles{} + top;
    const auto add = [&](Sums<Doubles>& sums, Floats x)
                         __attribute__((always_inline)) { add_class(sums, widen(x), peak); };
    sum_others(z, classes, next, part, add);
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

// Floats are taken where they lie, others from a copy of a part at a time.
PYI_HD const float* floats_of(const float* z, std::int64_t, float*) { return z; }

template <class T>
PYI_HD const float* floats_of(const T* z, std::int64_t classes, float* copy) {
  std::int64_t k = 0;
  for (; k + kWide <= classes; k += kWide) {
    const WideFloats wide = many_at(z + k);
    __builtin_memcpy(copy + k, &wide, sizeof wide);
  }
  for (; k < classes; ++k) copy[k] = pyi::widen(z[k]);
  return copy;
}

template <class T>
PYI_HD Part whole_row(const T* z, std::int64_t classes, const T* next) {
  alignas(64) float copy[kPart];
  Part row{};
  for (std::int64_t from = 0; from < classes; from += kPart) {
    const std::int64_t to = from + kPart < classes ? from + kPart : classes;
    const Next after{reinterpret_cast<const char*>(to < classes ? z + to : next), sizeof(T)};
    Part part = part_of(floats_of(z + from, to - from, copy), to - from, after);
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

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
