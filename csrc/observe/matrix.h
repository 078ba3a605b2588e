// Rows of floating-point numbers, as they lie in the caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "observe/narrow.h"

namespace pyi {

enum class Type { kFloat32, kFloat16, kBFloat16 };

// f of a float, Half or BFloat16 (narrow.h), as the type is.
template <class F>
PYI_HD auto with_type(Type type, const F& f) {
  if (type == Type::kFloat32) return f(float{});
  return type == Type::kFloat16 ? f(Half{}) : f(BFloat16{});
}

inline std::ptrdiff_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 2; }

struct Matrix {
  const void* data;
  Type type;
  std::ptrdiff_t stride;  // elements from one row to the next, of either sign; those of a row are adjacent
  std::int64_t width;     // elements in a row
};

}  // namespace pyi
