// Python's view of the loader's native part: an index, threads that read ahead, and windows of samples.
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "errors.h"
#include "load/bind_columns.h"
#include "load/bind_samples.h"
#include "load/readahead.h"
#include "tar/bind_input.h"
#include "tar/header.h"

namespace pyi {
namespace {

void require(bool holds, const char* problem) {
  if (!holds) throw ArgumentError(problem);
}

}  // namespace

LoadColumns::LoadColumns(Int64s key_offsets, Bytes key_text, const std::vector<std::string>& extensions,
                         Int64s ids_, Int32s file, Int64s offset, Int64s nbytes_, Int64s part_start,
                         Int32s part_ext, Int64s part_offset, Int64s part_size,
                         const std::vector<std::string>& files, const std::vector<LoadField>& fields_)
    : index{
          {ids_.size(), key_offsets.data(), reinterpret_cast<const char*>(key_text.data()), part_start.data(),
           part_ext.data(), part_size.data(), file.data(), offset.data(), part_offset.data(), extensions},
          ids_.data(),
          nbytes_.data(),
          files},
      N(ids_.size()),
      P(part_ext.size()),
      text(key_text.size()),
      fields(fields_),
      field_of(extensions.size(), -1) {
  require(key_offsets.size() == N + 1 && part_start.size() == N + 1,
          "key_offsets or part_start does not fit ids");
  require(file.size() == N && offset.size() == N && nbytes_.size() == N,
          "file, offset or nbytes does not fit ids");
  require(part_offset.size() == P && part_size.size() == P, "part_offset or part_size does not fit part_ext");
  for (const std::string& extension : extensions)
    names.push_back(py::reinterpret_steal<py::str>(PyUnicode_InternFromString(extension.c_str())));
  for (const std::string& path : files) urls.emplace_back(path);
  for (std::size_t e = 0; e < extensions.size(); ++e)
    for (std::size_t f = 0; f < fields.size(); ++f)
      if (std::get<0>(fields[f]) == extensions[e]) field_of[e] = static_cast<int>(f);
  arrays = {std::move(key_offsets), std::move(key_text), std::move(ids_),       std::move(file),
            std::move(offset),      std::move(nbytes_),  std::move(part_start), std::move(part_ext),
            std::move(part_offset), std::move(part_size)};
}

// The columns are whole, and were checked when the index was made: this is what memory safety takes.
void LoadColumns::check_rows(const std::int64_t* rows, std::int64_t n) const {
  const tar::Samples& s = index.samples;
  const std::int64_t* nbytes = index.nbytes;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = rows[i];
    require(row >= 0 && row < N, "rows out of range");
    require(s.file[row] >= 0 && s.file[row] < static_cast<std::int64_t>(urls.size()), "file out of range");
    require(0 <= s.key_offsets[row] && s.key_offsets[row] <= s.key_offsets[row + 1] &&
                s.key_offsets[row + 1] <= text,
            "key_offsets do not fit key_text");
    require(
        0 <= s.part_start[row] && s.part_start[row] <= s.part_start[row + 1] && s.part_start[row + 1] <= P,
        "part_start does not fit part_ext");
    const std::int64_t begin = s.offset[row];
    require(begin >= 0 && nbytes[row] >= 0 && nbytes[row] <= tar::kMaxSize, "nbytes out of range");
    for (std::int64_t p = s.part_start[row]; p < s.part_start[row + 1]; ++p) {
      require(s.part_ext[p] >= 0 && s.part_ext[p] < static_cast<std::int64_t>(names.size()),
              "part_ext out of range");
      require(s.part_offset[p] >= begin && s.part_size[p] >= 0 &&
                  s.part_size[p] <= nbytes[row] - (s.part_offset[p] - begin),
              "a part lies outside its sample");
    }
  }
}

namespace {

using Source = std::tuple<std::int32_t, py::object, std::int64_t, std::string>;  // file, handle, size, path

using Error = std::tuple<std::int64_t, std::string, std::string, std::string, std::int64_t>;

// A window, and the bytes objects that its large parts are read into.
class LoadWindow {
 public:
  LoadWindow(std::shared_ptr<load::ReadAhead> ahead, std::shared_ptr<LoadColumns> columns, const Int64s& rows,
             const Array<bool>& pad)
      : ahead_(std::move(ahead)), columns_(std::move(columns)), pad_(pad.data(), pad.data() + pad.size()) {
    require(rows.size() == pad.size(), "pad does not fit rows");
    columns_->check_rows(rows.data(), rows.size());
    window_ = std::make_shared<load::Window>(
        columns_->index, rows.data(), rows.size(),
        [this](std::int64_t size, std::int32_t extension) { return place(size, extension); },
        ahead_->buffers);
    check_fields();
  }
  ~LoadWindow() {
    const py::gil_scoped_release release;
    ahead_->forget(*window_);
  }
  LoadWindow(const LoadWindow&) = delete;
  LoadWindow& operator=(const LoadWindow&) = delete;

  void read(const std::vector<Source>& sources) {
    auto opened = std::make_shared<load::Sources>();
    for (const auto& [number, handle, size, path] : sources) {
      inputs_.push_back(make_input(handle));
      opened->emplace(number, tar::Source{inputs_.back().get(), size, path, "", true});
    }
    const py::gil_scoped_release release;
    ahead_->read(window_, std::move(opened));
  }

  void wait() {
    for (;;) {
      {
        const py::gil_scoped_release release;
        if (ahead_->wait(*window_, std::chrono::milliseconds(100))) return;
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
  }

  py::tuple count() const {
    const tar::Count c = window_->count();
    return py::make_tuple(c.bytes, c.requests);
  }

  void give_up(std::int32_t file, const std::string& problem, const std::string& path,
               const std::optional<std::string>& member, std::optional<std::int64_t> offset) {
    window_->give_up(file, DataError(problem, member.value_or(""), offset.value_or(-1), path));
  }

  std::vector<Error> errors() const {
    std::vector<Error> found;
    for (const auto& [i, e] : window_->errors()) found.emplace_back(i, e.what(), e.path, e.member, e.offset);
    return found;
  }

  void replace(std::int64_t i, std::int64_t by) {
    require(i >= 0 && i < size() && by >= 0 && by < size(), "sample out of range");
    window_->replace(i, by);
    pad_[static_cast<std::size_t>(i)] = true;
  }

  py::list samples(std::int64_t begin, std::int64_t end) {
    require(0 <= begin && begin <= end && end <= size(), "samples out of range");
    require(window_->whole(), "the window was not read");
    return make_samples(*columns_, *window_, pad_, large_, begin, end);
  }

  void fill(std::int64_t begin, const Int64s& slots, const py::dict& lists, Int64s index, Array<bool> pad,
            std::vector<Bytes> fields) {
    const std::int64_t n = slots.size(), B = index.size();
    require(0 <= begin && begin <= size() && n <= size() - begin, "samples out of range");
    require(window_->whole(), "the window was not read");
    require(pad.size() == B, "pad does not fit index");
    for (std::int64_t i = 0; i < n; ++i)
      require(slots.data()[i] >= 0 && slots.data()[i] < B, "slots out of range");
    require(fields.size() == columns_->fields.size(), "fields are not those of the columns");
    Batch batch{lists, index.mutable_data(), pad.mutable_data(), {}, B};
    for (std::size_t f = 0; f < fields.size(); ++f) {
      require(fields[f].size() == B * std::get<1>(columns_->fields[f]), "a field has another size");
      batch.fields.push_back(fields[f].mutable_data());
    }
    for (const auto& [i, error] : window_->errors())
      require(i < begin || i >= begin + n, "a sample that is in error was asked for");
    fill_batch(*columns_, *window_, pad_, large_, begin, slots.data(), n, &batch);
  }

  std::int64_t size() const { return window_->samples(); }

 private:
  // Samples without a field, or with one of another size, are in error: the index says so.
  void check_fields() {
    if (columns_->fields.empty()) return;
    for (std::size_t number = 0; number < window_->lying().size(); ++number) {
      const load::Lying& sample = window_->lying()[number];
      const load::Piece* const pieces = window_->pieces(sample);
      for (std::size_t f = 0; f < columns_->fields.size(); ++f) {
        const auto& [extension, size, words] = columns_->fields[f];
        std::string problem = "has no part '" + extension + "'";
        for (const load::Piece* p = pieces; p < pieces + sample.pieces; ++p) {
          if (columns_->field_of[static_cast<std::size_t>(p->extension)] != static_cast<int>(f)) continue;
          problem = "part '" + extension + "' has " + std::to_string(p->size) + " bytes";
          if (p->size == size) problem.clear();
        }
        if (problem.empty()) continue;
        window_->fail(number,
                      DataError(problem + "; fields says " + words + ", " + std::to_string(size) + " bytes",
                                std::string(sample.key, static_cast<std::size_t>(sample.key_size)),
                                columns_->index.samples.offset[sample.row],
                                columns_->index.files[static_cast<std::size_t>(sample.file)]));
        break;
      }
    }
  }

  unsigned char* place(std::int64_t size, std::int32_t extension) {
    if (columns_->field_of[static_cast<std::size_t>(extension)] >= 0) return nullptr;
    auto bytes = py::reinterpret_steal<py::object>(PyBytes_FromStringAndSize(nullptr, size));
    if (!bytes) throw py::error_already_set();
    auto* const data = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes.ptr()));
    large_.emplace(data, std::move(bytes));
    return data;
  }

  std::shared_ptr<load::ReadAhead> ahead_;
  std::shared_ptr<LoadColumns> columns_;
  std::vector<char> pad_;
  LargeParts large_;
  std::vector<std::unique_ptr<tar::Input>> inputs_;
  std::shared_ptr<load::Window> window_;
};

}  // namespace

void register_load(py::module_& m) {
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<LoadColumns, std::shared_ptr<LoadColumns>>(m, "LoadColumns")
      .def(py::init<Int64s, Bytes, const std::vector<std::string>&, Int64s, Int32s, Int64s, Int64s, Int64s,
                    Int32s, Int64s, Int64s, const std::vector<std::string>&, const std::vector<LoadField>&>(),
           arr("key_offsets"), arr("key_text"), py::arg("extensions"), arr("ids"), arr("file"), arr("offset"),
           arr("nbytes"), arr("part_start"), arr("part_ext"), arr("part_offset"), arr("part_size"),
           py::arg("files"), py::arg("fields"));
  py::class_<load::ReadAhead, std::shared_ptr<load::ReadAhead>>(m, "ReadAhead")
      .def(py::init([](int threads) {
             require(threads >= 1, "threads must be 1 or more");
             return std::make_shared<load::ReadAhead>(threads);
           }),
           py::arg("threads"))
      .def("close", &load::ReadAhead::close, py::call_guard<py::gil_scoped_release>());
  py::class_<LoadWindow>(m, "LoadWindow")
      .def(py::init<std::shared_ptr<load::ReadAhead>, std::shared_ptr<LoadColumns>, const Int64s&,
                    const Array<bool>&>(),
           py::arg("ahead"), py::arg("columns"), arr("rows"), arr("pad"))
      .def("__len__", &LoadWindow::size)
      .def("read", &LoadWindow::read, py::arg("sources"))
      .def("wait", &LoadWindow::wait)
      .def("count", &LoadWindow::count)
      .def("give_up", &LoadWindow::give_up, py::arg("file"), py::arg("problem"), py::arg("path"),
           py::arg("member"), py::arg("offset"))
      .def("errors", &LoadWindow::errors)
      .def("replace", &LoadWindow::replace, py::arg("sample"), py::arg("by"))
      .def("samples", &LoadWindow::samples, py::arg("begin"), py::arg("end"))
      .def("fill", &LoadWindow::fill, py::arg("begin"), arr("slots"), py::arg("lists"), arr("index"),
           arr("pad"), py::arg("fields").noconvert());
}

}  // namespace pyi
