// Python's view of the tar part. Buffers are checked with the GIL held; the work runs without it.
#include "module.h"
#include "tar/crc32c.h"

namespace pyi {
namespace {

std::uint32_t crc32c_of(const py::buffer& data, std::uint32_t crc, bool hardware) {
  const py::buffer_info info = data.request();
  if (info.ndim != 1 || (info.size > 0 && info.strides[0] != info.itemsize))
    throw py::buffer_error("crc32c needs contiguous bytes");
  const auto n = static_cast<std::size_t>(info.size * info.itemsize);
  py::gil_scoped_release release;
  return hardware ? tar::crc32c(crc, info.ptr, n) : tar::crc32c_table(crc, info.ptr, n);
}

}  // namespace

void register_tar(py::module_& m) {
  m.def("crc32c", &crc32c_of, py::arg("data"), py::arg("crc") = 0, py::kw_only(), py::arg("hardware") = true);
}

}  // namespace pyi
