#include "tar/bind_copier.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "tar/bind_arrays.h"
#include "tar/bind_input.h"
#include "tar/copy.h"
#include "tar/tasks.h"

namespace pyi {
namespace {

using Named = std::tuple<py::object, std::int64_t, std::string, std::string>;  // handle, size, path, prefix

// What a task holds of Python's. Threads that Python does not know let go of it.
struct Held {
  std::vector<py::object> arrays;
  std::vector<std::unique_ptr<tar::Input>> inputs;
  std::vector<tar::Source> sources;
  tar::Samples samples{};
  int out = -1;  // its own: Python may close the one it gave, interrupted at any moment, and open another

  Held() = default;
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (out >= 0) ::close(out);
    const py::gil_scoped_acquire gil;
    arrays.clear();
    inputs.clear();
  }
};

// Tars that are written, and files that are summed, several at a time, in threads of its own.
class TarCopier {
 public:
  TarCopier(std::vector<Named> sources, bool canonical, int threads)
      : sources_(std::move(sources)), canonical_(canonical), tasks_(threads) {
    require(threads >= 1, "threads: must be at least 1");
  }
  ~TarCopier() { close(); }
  TarCopier(const TarCopier&) = delete;
  TarCopier& operator=(const TarCopier&) = delete;

  std::int64_t begin(int out, const Int64s& key_offsets, const Bytes& key_text,
                     std::vector<std::string> extensions, const Int64s& part_start, const Int32s& part_ext,
                     const Int64s& part_size, const Int32s& file, const Int64s& offset,
                     const Int64s& part_offset, const std::optional<Array<std::uint32_t>>& part_crc32c,
                     std::int64_t window, bool sync) {
    auto held = std::make_shared<Held>();
    tar::Samples& s = held->samples;
    s = samples_of(key_offsets, key_text, std::move(extensions), part_start, part_ext, part_size);
    require(file.size() == s.n && offset.size() == s.n, "file or offset does not fit key_offsets");
    require(part_offset.size() == part_ext.size(), "part_offset does not fit part_ext");
    require(!part_crc32c || part_crc32c->size() == part_ext.size(), "part_crc32c does not fit part_ext");
    for (std::int64_t i = 0; i < s.n; ++i) {
      const std::int32_t f = file.data()[i];
      require(f >= 0 && f < static_cast<std::int64_t>(sources_.size()), "file out of range");
      const std::string& prefix = std::get<3>(sources_[static_cast<std::size_t>(f)]);
      require(s.key(i).substr(0, prefix.size()) == prefix,
              "a key does not begin with the prefix of its source");
    }
    s.file = file.data();
    s.offset = offset.data();
    s.part_offset = part_offset.data();
    held->arrays = {key_offsets, key_text, part_start, part_ext, part_size, file, offset, part_offset};
    if (part_crc32c) {
      s.part_crc32c = part_crc32c->data();
      held->arrays.push_back(*part_crc32c);
    }
    for (const auto& [handle, size, path, prefix] : sources_) {
      held->inputs.push_back(make_input(handle));
      held->sources.push_back({held->inputs.back().get(), size, path, prefix, canonical_});
    }
    held->out = fcntl(out, F_DUPFD_CLOEXEC, 0);
    if (held->out < 0) throw std::system_error(errno, std::generic_category());
    return give(
        [held = std::move(held), canonical = canonical_, window, sync](const std::atomic<bool>& stop) {
          const tar::Written written =
              tar::write_tar(held->out, held->sources, held->samples, canonical, window, stop);
          if (sync) tar::sync_file(held->out);
          return written;
        });
  }

  std::int64_t begin_sum(const py::object& handle, std::int64_t size) {
    auto held = std::make_shared<Held>();
    held->inputs.push_back(make_input(handle));
    return give([held = std::move(held), size](const std::atomic<bool>& stop) {
      return tar::sum_file(held->inputs.front().get(), size, stop);
    });
  }

  py::tuple wait(std::int64_t number) {
    std::optional<tar::Written> w;
    while (!w) {
      {
        const py::gil_scoped_release release;
        w = tasks_.wait(number, std::chrono::milliseconds(100));
      }
      if (!w && PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
    return py::make_tuple(w->bytes, w->crc32c, w->read.bytes, w->read.requests);
  }

  bool ended(std::int64_t number) {
    const py::gil_scoped_release release;
    return tasks_.ended(number);
  }

  void forget(std::int64_t number) {
    const py::gil_scoped_release release;
    tasks_.forget(number);
  }

  void close() {
    const py::gil_scoped_release release;
    tasks_.close();
  }

 private:
  std::int64_t give(tar::Tasks::Task task) {
    const py::gil_scoped_release release;
    return tasks_.begin(std::move(task));
  }

  std::vector<Named> sources_;
  bool canonical_;
  tar::Tasks tasks_;
};

}  // namespace

void register_copier(py::module_& m) {
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<TarCopier>(m, "TarCopier")
      .def(py::init<std::vector<Named>, bool, int>(), py::arg("sources"), py::arg("canonical"),
           py::arg("threads"))
      .def("begin", &TarCopier::begin, py::arg("out"), arr("key_offsets"), arr("key_text"),
           py::arg("extensions"), arr("part_start"), arr("part_ext"), arr("part_size"), arr("file"),
           arr("offset"), arr("part_offset"), arr("part_crc32c"), py::arg("window"), py::arg("sync"))
      .def("begin_sum", &TarCopier::begin_sum, py::arg("handle"), py::arg("size"))
      .def("wait", &TarCopier::wait, py::arg("number"))
      .def("ended", &TarCopier::ended, py::arg("number"))
      .def("forget", &TarCopier::forget, py::arg("number"))
      .def("close", &TarCopier::close);
}

}  // namespace pyi
