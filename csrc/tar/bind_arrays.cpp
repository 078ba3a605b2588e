#include "tar/bind_arrays.h"

#include <utility>

#include "errors.h"

namespace pyi {

void require(bool holds, const char* problem) {
  if (!holds) throw ArgumentError(problem);
}

void check_offsets(const Int64s& offsets, py::ssize_t total, const char* problem) {
  const std::int64_t* p = offsets.data();
  const py::ssize_t n = offsets.size();
  require(offsets.ndim() == 1 && n >= 1 && p[0] == 0 && p[n - 1] == total, problem);
  for (py::ssize_t i = 1; i < n; ++i) require(p[i - 1] <= p[i], problem);
}

tar::Samples samples_of(const Int64s& key_offsets, const Bytes& key_text, std::vector<std::string> extensions,
                        const Int64s& part_start, const Int32s& part_ext, const Int64s& part_size) {
  check_offsets(key_offsets, key_text.size(), "key_offsets do not fit key_text");
  check_offsets(part_start, part_ext.size(), "part_start does not fit part_ext");
  require(part_start.size() == key_offsets.size(), "part_start does not fit key_offsets");
  require(part_size.size() == part_ext.size(), "part_size does not fit part_ext");
  for (py::ssize_t i = 0; i < part_ext.size(); ++i) {
    const std::int32_t e = part_ext.data()[i];
    require(e >= 0 && e < static_cast<std::int64_t>(extensions.size()), "part_ext out of range");
    require(part_size.data()[i] >= 0, "part_size is negative");
  }
  return {key_offsets.size() - 1,
          key_offsets.data(),
          reinterpret_cast<const char*>(key_text.data()),
          part_start.data(),
          part_ext.data(),
          part_size.data(),
          nullptr,
          nullptr,
          nullptr,
          std::move(extensions)};
}

}  // namespace pyi
