#include "tar/bind_index.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "tar/bind_arrays.h"
#include "tar/index.h"

namespace pyi {
namespace {

// The lengths are looked at here, the values by is_sound.
bool is_sound(const Int64s& file_bytes, const Int64s& key_offsets, const Bytes& key_text,
              std::vector<std::string> extensions, const Int64s& ids, const Int32s& file,
              const Int64s& offset, const Int64s& nbytes, const Int64s& part_start, const Int32s& part_ext,
              const Int64s& part_offset, const Int64s& part_size, int threads) {
  const py::ssize_t N = ids.size(), P = part_ext.size();
  require(key_offsets.size() == N + 1 && part_start.size() == N + 1,
          "key_offsets or part_start does not fit ids");
  require(file.size() == N && offset.size() == N && nbytes.size() == N,
          "file, offset or nbytes does not fit ids");
  require(part_offset.size() == P && part_size.size() == P, "part_offset or part_size does not fit part_ext");
  const tar::IndexColumns columns{{N, key_offsets.data(), reinterpret_cast<const char*>(key_text.data()),
                                   part_start.data(), part_ext.data(), part_size.data(), file.data(),
                                   offset.data(), part_offset.data(), std::move(extensions)},
                                  ids.data(),
                                  nbytes.data(),
                                  key_text.size(),
                                  P,
                                  {file_bytes.data(), file_bytes.data() + file_bytes.size()}};
  const py::gil_scoped_release release;
  return tar::is_sound(columns, threads);
}

bool in_storage_order(const Int32s& bin, const Int32s& file, const Int64s& offset) {
  require(bin.size() == offset.size() && file.size() == offset.size(), "columns of different lengths");
  const py::gil_scoped_release release;
  return tar::in_storage_order(offset.size(), bin.data(), file.data(), offset.data());
}

Int64s block_starts(const std::optional<Int64s>& order, const Int32s& bin, const Int32s& file,
                    const Int64s& offset, const std::optional<Int32s>& frame, const Int64s& nbytes,
                    std::int64_t block_bytes) {
  const py::ssize_t n = nbytes.size();
  require(bin.size() == n && file.size() == n && offset.size() == n && (!frame || frame->size() == n) &&
              (!order || order->size() == n),
          "columns of different lengths");
  require(block_bytes >= 1, "block_bytes: must be at least 1");
  if (order)
    for (py::ssize_t i = 0; i < n; ++i)
      require(order->data()[i] >= 0 && order->data()[i] < n, "order: a row is out of range");
  std::vector<std::int64_t> starts;
  {
    const py::gil_scoped_release release;
    starts = tar::block_starts(n, order ? order->data() : nullptr, bin.data(), file.data(), offset.data(),
                               frame ? frame->data() : nullptr, nbytes.data(), block_bytes);
  }
  return Int64s(static_cast<py::ssize_t>(starts.size()), starts.data());
}

}  // namespace

void register_index(py::module_& m) {
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("index_is_sound", &is_sound, arr("file_bytes"), arr("key_offsets"), arr("key_text"),
        py::arg("extensions"), arr("ids"), arr("file"), arr("offset"), arr("nbytes"), arr("part_start"),
        arr("part_ext"), arr("part_offset"), arr("part_size"), py::arg("threads"));
  m.def("in_storage_order", &in_storage_order, arr("bin"), arr("file"), arr("offset"));
  m.def("block_starts", &block_starts, arr("order").none(true), arr("bin"), arr("file"), arr("offset"),
        arr("frame").none(true), arr("nbytes"), py::arg("block_bytes"));
}

}  // namespace pyi
