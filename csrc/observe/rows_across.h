// Rows of few classes: a block of them is transposed, and each lane of a vector works on a row of its own. A
// part of the row kernel.
#pragma once

#include "observe/rows_block.h"

namespace pyi {
namespace PYI_ISA {
namespace {

constexpr std::int64_t kMaxTransposed = 320;  // classes: two tiles of them fit the first-level cache

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

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
