// Python's view of the tar part. Arrays are checked with the GIL held; the work runs without it.
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "errors.h"
#include "module.h"
#include "tar/bind_arrays.h"
#include "tar/bind_copier.h"
#include "tar/bind_index.h"
#include "tar/bind_input.h"
#include "tar/copy.h"
#include "tar/crc32c.h"
#include "tar/name.h"
#include "tar/read.h"
#include "tar/scan.h"
#include "tar/summing.h"

namespace pyi {
namespace {

template <class T>
Array<T> to_array(std::vector<T>&& values) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  const T* data = owned->data();
  const auto n = static_cast<py::ssize_t>(owned->size());
  py::capsule owner(owned.release(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return Array<T>(n, data, owner);
}

std::uint32_t crc32c_of(const py::buffer& data, std::uint32_t crc, bool hardware) {
  const py::buffer_info info = data.request();
  if (info.ndim != 1 || (info.size > 0 && info.strides[0] != info.itemsize))
    throw py::buffer_error("crc32c needs contiguous bytes");
  const auto n = static_cast<std::size_t>(info.size * info.itemsize);
  py::gil_scoped_release release;
  return hardware ? tar::crc32c(crc, info.ptr, n) : tar::crc32c_table(crc, info.ptr, n);
}

py::tuple crc32c_of_file(const py::object& handle, std::int64_t size) {
  const auto input = make_input(handle);
  tar::Written sum;
  {
    py::gil_scoped_release release;
    sum = tar::sum_file(input.get(), size, tar::never);
  }
  return py::make_tuple(sum.crc32c, sum.read.bytes, sum.read.requests);
}

py::dict to_dict(tar::Columns&& c) {
  py::dict out;
  out["key_offsets"] = to_array(std::move(c.key_offsets));
  out["key_text"] = to_array(std::vector<std::uint8_t>(c.key_text.begin(), c.key_text.end()));
  out["offset"] = to_array(std::move(c.offset));
  out["nbytes"] = to_array(std::move(c.nbytes));
  out["part_start"] = to_array(std::move(c.part_start));
  out["part_ext"] = to_array(std::move(c.part_ext));
  out["part_offset"] = to_array(std::move(c.part_offset));
  out["part_size"] = to_array(std::move(c.part_size));
  out["part_crc32c"] =
      c.part_crc32c.empty() ? py::object(py::none()) : py::object(to_array(std::move(c.part_crc32c)));
  out["extensions"] = py::cast(c.extensions);
  out["bytes_read"] = c.bytes_read;
  out["requests"] = c.requests;
  return out;
}

// Files that are read one after the other by one call: to wait for the GIL between small ones would take as
// long as they do.
using Opened = std::tuple<py::object, std::int64_t, std::string>;  // handle, size, path for errors

std::vector<std::unique_ptr<tar::Input>> inputs_of(const std::vector<Opened>& files) {
  std::vector<std::unique_ptr<tar::Input>> inputs;
  for (const auto& [handle, size, path] : files) inputs.push_back(make_input(handle));
  return inputs;
}

py::tuple scan(const std::vector<Opened>& files, bool allow_missing_eof, std::int64_t limit, bool checksums) {
  const auto inputs = inputs_of(files);
  std::vector<tar::Columns> found(files.size());
  std::vector<std::int64_t> samples(files.size());
  tar::Columns whole;
  {
    py::gil_scoped_release release;
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto& [handle, size, path] = files[i];
      try {
        found[i] = tar::scan(inputs[i].get(), size, allow_missing_eof, limit, checksums);
      } catch (const DataError& e) {
        throw DataError(e.what(), e.member, e.offset, path);
      }
      samples[i] = found[i].samples();
    }
    whole = tar::joined(std::move(found));
  }
  return py::make_tuple(to_dict(std::move(whole)), to_array(std::move(samples)));
}

// The sum of the whole file, and its samples or what is wrong with them, by reading it once.
struct Summed {
  std::uint32_t crc = 0;
  tar::Count count;
  tar::Columns columns;
  std::optional<DataError> problem;
};

Summed sum_and_scan(tar::Input* input, std::int64_t size, bool allow_missing_eof, bool checksums) {
  Summed s;
  tar::Summing summing(input);
  try {
    s.columns = tar::scan(&summing, size, allow_missing_eof, -1, checksums);
  } catch (const DataError& e) {
    s.problem = e;
  }
  s.crc = summing.finish(size);
  s.count = summing.count();
  return s;
}

py::list sum_and_scan_each(const std::vector<Opened>& files, bool allow_missing_eof, bool checksums) {
  const auto inputs = inputs_of(files);
  std::vector<Summed> found(files.size());
  {
    py::gil_scoped_release release;
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto& [handle, size, path] = files[i];
      try {
        found[i] = sum_and_scan(inputs[i].get(), size, allow_missing_eof, checksums);
      } catch (const DataError& e) {
        throw DataError(e.what(), e.member, e.offset, path);
      }
    }
  }
  py::list out;
  for (Summed& s : found) {
    py::object columns = py::none(), said = py::none();
    if (!s.problem) {
      columns = to_dict(std::move(s.columns));
    } else {
      const py::object member =
          s.problem->member.empty() ? py::none() : py::object(py::cast(s.problem->member));
      const py::object offset = s.problem->offset < 0 ? py::none() : py::object(py::cast(s.problem->offset));
      said = py::make_tuple(std::string(s.problem->what()), member, offset);
    }
    out.append(py::make_tuple(s.crc, s.count.bytes, s.count.requests, columns, said));
  }
  return out;
}

std::int64_t first_leading_out(const Int64s& key_offsets, const Bytes& key_text) {
  check_offsets(key_offsets, key_text.size(), "key_offsets do not fit key_text");
  const auto* text = reinterpret_cast<const char*>(key_text.data());
  py::gil_scoped_release release;
  return tar::first_leading_out(key_offsets.data(), text, key_offsets.size() - 1);
}

std::pair<std::int64_t, std::int64_t> first_repeated(const Int64s& key_offsets, const Bytes& key_text) {
  check_offsets(key_offsets, key_text.size(), "key_offsets do not fit key_text");
  const auto* text = reinterpret_cast<const char*>(key_text.data());
  py::gil_scoped_release release;
  return tar::first_repeated(key_offsets.data(), text, key_offsets.size() - 1);
}

Int64s header_sizes(const Int64s& key_offsets, const Bytes& key_text, std::vector<std::string> extensions,
                    const Int64s& part_start, const Int32s& part_ext, const Int64s& part_size) {
  const tar::Samples s =
      samples_of(key_offsets, key_text, std::move(extensions), part_start, part_ext, part_size);
  Int64s out(part_ext.size());
  std::int64_t* p = out.mutable_data();
  {
    py::gil_scoped_release release;
    tar::header_sizes(s, p);
  }
  return out;
}

py::tuple headers(const Int64s& key_offsets, const Bytes& key_text, std::vector<std::string> extensions,
                  const Int64s& part_start, const Int32s& part_ext, const Int64s& part_size) {
  const tar::Samples s =
      samples_of(key_offsets, key_text, std::move(extensions), part_start, part_ext, part_size);
  Int64s sizes(part_ext.size());
  std::int64_t* p = sizes.mutable_data();
  std::string bytes;
  {
    py::gil_scoped_release release;
    bytes = tar::headers(s, p);
  }
  return py::make_tuple(py::bytes(bytes), sizes);
}

// The columns are whole, and were checked when the index was made; only what `rows` names is looked at.
void check(const std::tuple<py::object, std::int64_t, std::string>& source, bool ours, const py::bytes& data,
           std::int64_t base, const Int64s& rows, const Int64s& key_offsets, const Bytes& key_text,
           std::vector<std::string> extensions, const Int64s& offset, const Int64s& part_start,
           const Int32s& part_ext, const Int64s& part_size, const Int64s& part_offset) {
  const auto N = static_cast<std::int64_t>(offset.size());
  const auto P = static_cast<std::int64_t>(part_ext.size());
  require(key_offsets.size() == N + 1 && part_start.size() == N + 1,
          "key_offsets or part_start does not fit");
  require(part_size.size() == P && part_offset.size() == P, "part_size or part_offset does not fit part_ext");
  const tar::Samples s{N,
                       key_offsets.data(),
                       reinterpret_cast<const char*>(key_text.data()),
                       part_start.data(),
                       part_ext.data(),
                       part_size.data(),
                       nullptr,
                       offset.data(),
                       part_offset.data(),
                       std::move(extensions)};
  for (py::ssize_t i = 0; i < rows.size(); ++i) {
    const std::int64_t row = rows.data()[i];
    require(row >= 0 && row < N, "rows out of range");
    require(0 <= s.key_offsets[row] && s.key_offsets[row] <= s.key_offsets[row + 1] &&
                s.key_offsets[row + 1] <= key_text.size(),
            "key_offsets do not fit key_text");
    require(
        0 <= s.part_start[row] && s.part_start[row] <= s.part_start[row + 1] && s.part_start[row + 1] <= P,
        "part_start does not fit part_ext");
    for (std::int64_t p = s.part_start[row]; p < s.part_start[row + 1]; ++p)
      require(s.part_ext[p] >= 0 && s.part_ext[p] < static_cast<std::int64_t>(s.extensions.size()),
              "part_ext out of range");
  }
  const std::string_view bytes = data;
  const auto& [handle, size, path] = source;
  const auto input = make_input(handle);
  py::gil_scoped_release release;
  tar::check_samples({input.get(), size, path, "", ours}, s, rows.data(), rows.size(),
                     reinterpret_cast<const unsigned char*>(bytes.data()), base,
                     static_cast<std::int64_t>(bytes.size()));
}

}  // namespace

void register_tar(py::module_& m) {
  register_index(m);
  register_copier(m);
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("crc32c", &crc32c_of, py::arg("data"), py::arg("crc") = 0, py::kw_only(), py::arg("hardware") = true);
  m.def("crc32c_of_file", &crc32c_of_file, py::arg("handle"), py::arg("size"));
  m.def("tar_sum_and_scan", &sum_and_scan_each, py::arg("files"), py::arg("allow_missing_eof") = false,
        py::arg("checksums") = false);
  m.def("tar_scan", &scan, py::arg("files"), py::arg("allow_missing_eof"), py::arg("limit"),
        py::arg("checksums") = false);
  m.def("first_key_leading_out", &first_leading_out, arr("key_offsets"), arr("key_text"));
  m.def("first_repeated_key", &first_repeated, arr("key_offsets"), arr("key_text"));
  m.def("tar_header_sizes", &header_sizes, arr("key_offsets"), arr("key_text"), py::arg("extensions"),
        arr("part_start"), arr("part_ext"), arr("part_size"));
  m.def("tar_headers", &headers, arr("key_offsets"), arr("key_text"), py::arg("extensions"),
        arr("part_start"), arr("part_ext"), arr("part_size"));
  m.def("tar_check", &check, py::arg("source"), py::arg("ours"), py::arg("data"), py::arg("base"),
        arr("rows"), arr("key_offsets"), arr("key_text"), py::arg("extensions"), arr("offset"),
        arr("part_start"), arr("part_ext"), arr("part_size"), arr("part_offset"));
}

}  // namespace pyi
