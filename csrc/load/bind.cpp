// Python's view of the loader's native part: an index, threads that read ahead, and windows of samples.
#include <algorithm>
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

namespace pyi {
namespace {

using Source = std::tuple<std::int32_t, py::object, std::int64_t, std::string>;  // file, handle, size, path

using Error = std::tuple<std::int64_t, std::string, std::string, std::string, std::int64_t>;

using Seats = std::tuple<Int64s, std::vector<Bytes>>;  // slots, and of each field the bytes of a batch

constexpr std::int64_t kOwnBytes = 2 << 10;  // a copy of what is smaller costs less than a place of its own

// A window, and what it is read into: the bytes objects of samples, the fields of batches. Of what lies
// between parts, -1 for `join` reads nothing, 0 what has no whole page (of at least 4 KiB), n less than n
// bytes as well.
class LoadWindow {
 public:
  LoadWindow(std::shared_ptr<load::ReadAhead> ahead, std::shared_ptr<LoadColumns> columns, const Int64s& rows,
             const Array<bool>& pad, std::vector<Seats> seats, std::int64_t join)
      : ahead_(std::move(ahead)),
        columns_(std::move(columns)),
        pad_(pad.data(), pad.data() + pad.size()),
        seats_(std::move(seats)) {
    require(rows.size() == pad.size(), "pad does not fit rows");
    require(join >= -1, "join must be -1, 0 or more");
    columns_->check_rows(rows.data(), rows.size());
    take_seats(rows.size());
    std::int64_t bytes = 0;
    for (std::int64_t i = 0; i < rows.size(); ++i) bytes += columns_->index.nbytes[rows.data()[i]];
    columns_->bytes.expect(bytes);
    columns_->buffers.expect(static_cast<std::size_t>(bytes));
    try {
      window_ = std::make_shared<load::Window>(
          columns_->index, rows.data(), rows.size(), join,
          [this](std::int64_t i, std::int64_t size, std::int32_t extension) {
            return place(i, size, extension);
          },
          columns_->views, &columns_->buffers);
    } catch (...) {
      give_back();
      throw;
    }
    check_fields();
  }
  ~LoadWindow() {
    {
      const py::gil_scoped_release release;
      ahead_->forget(*window_);
    }
    give_back();
    if (!memory_) columns_->buffers.give_back(window_->release());
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

  std::vector<std::pair<std::int64_t, std::int64_t>> spans(std::int32_t file) const {
    return window_->spans(file);
  }

  // Until all that was asked for is read: what it was read through is not needed any more. Nothing is asked
  // for meanwhile.
  void wait() {
    for (bool is_read = false; !is_read;) {
      {
        const py::gil_scoped_release release;
        is_read = ahead_->wait(*window_, std::chrono::milliseconds(100));
      }
      if (!is_read && PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
    inputs_.clear();
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

  // Fields of samples that others were read for (repeated ones, and those in the place of others).
  void settle() {
    require(window_->whole(), "the window was not read");
    for (std::int64_t i = 0; i < size() && !seat_of_.empty(); ++i) {
      const load::Lying& lying = window_->sample(i);
      const load::Piece* const pieces = window_->pieces(lying);
      for (const load::Piece* p = pieces; p < pieces + lying.pieces; ++p) {
        const int f = columns_->field(p->extension, p->size);
        unsigned char* const to = f < 0 ? p->data : seat(i, f);
        if (to != p->data) std::memcpy(to, p->data, static_cast<std::size_t>(p->size));
      }
    }
  }

  py::list samples(std::int64_t begin, std::int64_t end) {
    require(0 <= begin && begin <= end && end <= size(), "samples out of range");
    require(window_->whole(), "the window was not read");
    require(columns_->fields.empty(), "fields come in batches");
    return make_samples(*columns_, *window_, parts(), pad_, begin, end);
  }

  void fill(std::int64_t begin, const Int64s& slots, const py::dict& lists, Int64s index, Array<bool> pad) {
    const std::int64_t n = slots.size(), B = index.size();
    require(0 <= begin && begin <= size() && n <= size() - begin, "samples out of range");
    require(window_->whole(), "the window was not read");
    require(pad.size() == B, "pad does not fit index");
    for (std::int64_t i = 0; i < n; ++i)
      require(slots.data()[i] >= 0 && slots.data()[i] < B, "slots out of range");
    for (const auto& [i, error] : window_->errors())
      require(i < begin || i >= begin + n, "a sample that is in error was asked for");
    BatchPlaces batch{lists, index.mutable_data(), pad.mutable_data(), B};
    fill_batch(*columns_, *window_, parts(), pad_, begin, slots.data(), n, &batch);
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
        if (std::any_of(pieces, pieces + sample.pieces, [&, is = static_cast<int>(f)](const load::Piece& p) {
              return columns_->field(p.extension, p.size) == is;
            }))
          continue;
        std::string problem = "has no part '" + extension + "'";
        for (const load::Piece* p = pieces; p < pieces + sample.pieces; ++p)
          if (columns_->field_of[static_cast<std::size_t>(p->extension)] == static_cast<int>(f))
            problem = "part '" + extension + "' has " + std::to_string(p->size) + " bytes";
        window_->fail(number,
                      DataError(problem + "; fields says " + words + ", " + std::to_string(size) + " bytes",
                                std::string(sample.key, static_cast<std::size_t>(sample.key_size)),
                                columns_->index.samples.offset[sample.row],
                                columns_->index.files[static_cast<std::size_t>(sample.file)]));
        break;
      }
    }
  }

  // Where the fields of each sample go: all of them somewhere, if there are any.
  void take_seats(std::int64_t n) {
    const auto& fields = columns_->fields;
    if (fields.empty()) return;
    for (const auto& [slots, batch] : seats_) {
      require(batch.size() == fields.size(), "seats do not have the fields of the columns");
      for (std::int64_t j = 0; j < slots.size(); ++j) {
        for (std::size_t f = 0; f < fields.size(); ++f) {
          const std::int64_t size = std::get<1>(fields[f]), slot = slots.data()[j];
          require(slot >= 0 && slot < batch[f].size() / size, "slots out of range");
          seat_of_.push_back(const_cast<Bytes&>(batch[f]).mutable_data() + slot * size);
        }
      }
    }
    require(static_cast<std::int64_t>(seat_of_.size()) == n * static_cast<std::int64_t>(fields.size()),
            "seats do not fit rows");
  }
  unsigned char* seat(std::int64_t i, int field) const {
    return seat_of_[static_cast<std::size_t>(i) * columns_->fields.size() + static_cast<std::size_t>(field)];
  }

  unsigned char* place(std::int64_t i, std::int64_t size, std::int32_t extension) {
    if (const int f = columns_->field(extension, size); f >= 0) return seat(i, f);
    if (columns_->views || size < kOwnBytes) return nullptr;
    made_.push_back(columns_->bytes.take(size));
    return contents(made_.back().first);
  }
  // Where the parts are taken from. What is looked at and not copied belongs to those who look from now on.
  Parts parts() {
    if (columns_->views && !memory_) {
      const std::int64_t n = static_cast<std::int64_t>(window_->buffer().capacity);
      memory_ = py::memoryview(py::cast(std::make_unique<LoadMemory>(columns_, window_->release(), n, true)));
      start_ = static_cast<unsigned char*>(PyMemoryView_GET_BUFFER(memory_.ptr())->buf);
    }
    return {memory_.ptr(), start_};
  }
  void give_back() {
    for (const auto& [object, capacity] : made_) columns_->bytes.give_back(object, capacity);
  }

  std::shared_ptr<load::ReadAhead> ahead_;
  std::shared_ptr<LoadColumns> columns_;
  std::vector<char> pad_;
  std::vector<Seats> seats_;                            // keeps the batches
  std::vector<unsigned char*> seat_of_;                 // [samples, fields]
  std::vector<std::pair<PyObject*, Py_ssize_t>> made_;  // bytes objects, of these capacities
  std::vector<std::unique_ptr<tar::Input>> inputs_;
  std::shared_ptr<load::Window> window_;
  py::object memory_;  // a memoryview of the window's buffer, once parts of it were handed out
  const unsigned char* start_ = nullptr;
};

}  // namespace

void register_load(py::module_& m) {
  const auto arr = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<LoadColumns, std::shared_ptr<LoadColumns>>(m, "LoadColumns")
      .def(py::init<Int64s, Bytes, const std::vector<std::string>&, Int64s, Int32s, Int64s, Int64s, Int64s,
                    Int32s, Int64s, Int64s, const std::vector<std::string>&, const std::vector<LoadField>&,
                    bool, const std::optional<Int64s>&, const std::optional<Int64s>&,
                    const std::optional<Bytes>&>(),
           arr("key_offsets"), arr("key_text"), py::arg("extensions"), arr("ids"), arr("file"), arr("offset"),
           arr("nbytes"), arr("part_start"), arr("part_ext"), arr("part_offset"), arr("part_size"),
           py::arg("files"), py::arg("fields"), py::arg("views"),
           py::arg("part_begin").noconvert() = py::none(), py::arg("name_offsets").noconvert() = py::none(),
           py::arg("name_text").noconvert() = py::none());
  py::class_<LoadMemory>(m, "LoadMemory", py::buffer_protocol())
      .def(py::init([](std::shared_ptr<LoadColumns> columns, std::int64_t nbytes) {
             require(nbytes >= 0, "nbytes must be 0 or more");
             load::Buffer buffer = columns->buffers.take(static_cast<std::size_t>(nbytes), true);
             return std::make_unique<LoadMemory>(std::move(columns), std::move(buffer), nbytes, false);
           }),
           py::arg("columns"), py::arg("nbytes"))
      .def_buffer([](const LoadMemory& memory) {
        return py::buffer_info(memory.data(), memory.size(), memory.read_only());
      });
  py::class_<load::ReadAhead, std::shared_ptr<load::ReadAhead>>(m, "ReadAhead")
      .def(py::init([](int threads, int spare) {
             require(threads >= 1, "threads must be 1 or more");
             require(spare >= 0, "spare must be 0 or more");
             return std::make_shared<load::ReadAhead>(threads, spare);
           }),
           py::arg("threads"), py::arg("spare") = 0)
      .def("close", &load::ReadAhead::close, py::call_guard<py::gil_scoped_release>());
  py::class_<LoadWindow>(m, "LoadWindow")
      .def(py::init<std::shared_ptr<load::ReadAhead>, std::shared_ptr<LoadColumns>, const Int64s&,
                    const Array<bool>&, std::vector<Seats>, std::int64_t>(),
           py::arg("ahead"), py::arg("columns"), arr("rows"), arr("pad"), py::arg("seats").noconvert(),
           py::arg("join"))
      .def("__len__", &LoadWindow::size)
      .def("read", &LoadWindow::read, py::arg("sources"))
      .def("spans", &LoadWindow::spans, py::arg("file"))
      .def("wait", &LoadWindow::wait)
      .def("count", &LoadWindow::count)
      .def("give_up", &LoadWindow::give_up, py::arg("file"), py::arg("problem"), py::arg("path"),
           py::arg("member"), py::arg("offset"))
      .def("errors", &LoadWindow::errors)
      .def("replace", &LoadWindow::replace, py::arg("sample"), py::arg("by"))
      .def("samples", &LoadWindow::samples, py::arg("begin"), py::arg("end"))
      .def("settle", &LoadWindow::settle)
      .def("fill", &LoadWindow::fill, py::arg("begin"), arr("slots"), py::arg("lists"), arr("index"),
           arr("pad"));
}

}  // namespace pyi
