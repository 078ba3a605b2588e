// Rows of few classes: a block of them is transposed, and each lane of a vector works on a row of its own. A
// part of the row kernel.
#pragma once

#include "observe/rows_block.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kMaxTransposed = 160;  // classes; beyond, lanes that share a row are faster

// kWide rows side by side, without their targets.
struct Tile {
  alignas(64) float logits[kMaxTransposed * kWide];  // class k of lane l at [k * kWide + l]
  WideFloats target, top;
  WideInts right;
};

template <class T>
PYI_HD void read_tile(Tile& tile, const Inputs& in, std::int64_t begin, std::int64_t end) {
  const T* z[kWide];
  WideInts place;
  for (int lane = 0; lane < kWide; ++lane) {
    const std::int64_t row = begin + lane < end ? begin + lane : begin;  // past the end: the first again
    const std::int64_t y = in.mask == nullptr || in.mask[row] ? in.targets[row] : 0;
    z[lane] = static_cast<const T*>(in.logits.data) + row * in.logits.stride;
    place[lane] = static_cast<std::int32_t>(y);
    tile.target[lane] = pyi::widen(z[lane][y]);
  }
  WideFloats top = WideFloats{} + kNothing;
  for (std::int64_t k = 0; k < in.logits.width; ++k) {
    typename Stored<T>::Many column;
    for (int lane = 0; lane < kWide; ++lane) column[lane] = Stored<T>::bits(z[lane][k]);
    const WideFloats now = without(Stored<T>::many(column), place == static_cast<std::int32_t>(k));
    __builtin_memcpy(tile.logits + k * kWide, &now, sizeof now);
    top = larger(top, now);
  }
  tile.top = top;
  tile.right = tile.target > top;
  if (any(tile.target == top)) {
    for (int lane = 0; lane < kWide; ++lane) {
      if (tile.target[lane] == top[lane]) tile.right[lane] = is_first(z[lane], place[lane]) ? -1 : 0;
    }
  }
}

PYI_HD Share<WideFloats> sum_tile(const Tile& tile, std::int64_t classes, WideFloats reference) {
  Share<WideFloats> share{};
  const float* from = tile.logits;
  const auto take = [&](auto count) __attribute__((always_inline)) {
    constexpr int kCount = decltype(count)::value;
    WideFloats z[kCount];
    PYI_UNROLL
    for (int i = 0; i < kCount; ++i) z[i] = load<WideFloats>(from + i * kWide);
    add_logits<false>(share, z, reference);
    from += kCount * kWide;
  };
  in_eights(classes, take);
  return share;
}

template <class T>
void rows_across(const Inputs& in, std::int64_t begin, std::int64_t end, Row* out) {
  Tile tile;
  for (; begin < end; begin += kWide, out += kWide) {
    read_tile<T>(tile, in, begin, end);
    const WideFloats reference = larger(WideFloats{} + kLowest, tile.top);
    const Share<WideFloats> share = sum_tile(tile, in.logits.width, reference);
    const Block block{tile.target, tile.top, reference, tile.right, {sums_of(share, 0), sums_of(share, 1)}};
    finish_block(block, in, begin, end, out);
  }
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
