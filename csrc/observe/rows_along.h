// Rows of many classes: the lanes of a vector share a row. A part of the row kernel.
#pragma once

#include "observe/rows_block.h"

namespace pyi {
namespace PYI_ISA {
namespace {

// What lanes that share a row have of it. They share the reference, which is raised where a logit is far
// above it.
struct Stream {
  Share<WideFloats> share{};
  WideFloats reference = WideFloats{} + kLowest, top = WideFloats{} + kNothing;

  template <int N>
  PYI_INLINE void take(const WideFloats (&z)[N]) {
    WideFloats most = z[0];
    PYI_UNROLL
    for (int i = 1; i < N; ++i) most = larger(most, z[i]);
    top = larger(top, most);
    if (any(most > reference + kSlack)) {
      const WideFloats higher = WideFloats{} + largest_lane(most);
      move_reference(share, reference, higher);
      reference = higher;
    }
    add_logits<false>(share, z, reference);
  }
};

// All of a row but its target, y; at least kWide classes.
template <class T>
PYI_HD Stream stream(const T* z, std::int64_t classes, std::int64_t y) {
  Stream row;
  WideInts lanes;
  for (int lane = 0; lane < kWide; ++lane) lanes[lane] = lane;
  std::int64_t hole = y;  // from z on
  const auto take = [&](auto count) __attribute__((always_inline)) {
    constexpr int kCount = decltype(count)::value;
    WideFloats some[kCount];
    PYI_UNROLL
    for (int i = 0; i < kCount; ++i) some[i] = many_at(z + i * kWide);
    if (hole >= 0 && hole < kCount * kWide) {
      PYI_UNROLL
      for (int i = 0; i < kCount; ++i) {
        some[i] = without(some[i], lanes == static_cast<std::int32_t>(hole) - i * kWide);
      }
    }
    row.take(some);
    z += kCount * kWide;
    hole -= kCount * kWide;
  };
  in_eights(classes / kWide, take);
  if (const int rest = static_cast<int>(classes % kWide)) {
    // A last vector, of which only the last lanes have not been taken yet.
    const int before = kWide - rest;
    const WideInts not_its = (lanes < before) | (lanes == static_cast<std::int32_t>(hole) + before);
    const WideFloats last[] = {without(many_at(z - before), not_its)};
    row.take(last);
  }
  return row;
}

template <class T>
void rows_along(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  for (; begin < end; begin += kWide, out += kWide) {
    Block block{};
    for (int lane = 0; lane < kWide && begin + lane < end; ++lane) {
      const std::int64_t i = begin + lane, y = in.targets[i];
      if (in.mask != nullptr && !in.mask[i]) continue;
      const T* z = static_cast<const T*>(in.logits.data) + i * in.logits.stride;
      const Stream row = stream(z, in.logits.width, y);
      const float target = pyi::widen(z[y]), top = largest_lane(row.top);
      block.target[lane] = target;
      block.top[lane] = top;
      block.reference[lane] = row.reference[0];
      block.right[lane] = target > top || (target == top && is_first(z, y)) ? -1 : 0;
      const Sums<Doubles> low = sums_of(row.share, 0), high = sums_of(row.share, 1);
      Sums<Doubles>& sums = block.sums[lane / kLanes];
      sums.s[lane % kLanes] = sum_of_lanes(low.s + high.s);
      sums.q[lane % kLanes] = sum_of_lanes(low.q + high.q);
      sums.a[lane % kLanes] = sum_of_lanes(low.a + high.a);
    }
    finish_block(block, in, begin, end, out);
  }
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
