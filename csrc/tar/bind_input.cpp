#include "tar/bind_input.h"

#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "errors.h"

namespace pyi {
namespace {

// Something that only Python can read. Of a compressed file fetch gives (bytes, what of the file that took).
class Remote final : public tar::Input {
 public:
  Remote(py::object file, bool framed)
      : Input(framed ? tar::kFramed : tar::kRemote), file_(std::move(file)), framed_(framed) {}
  ~Remote() override {
    if (std::uncaught_exceptions() == 0) return;  // what was counted is fetched
    for (const auto& [range, request] : begun_) give_up(request);
  }
  using Input::read;

  void read(iovec* places, int n, std::int64_t offset, tar::Count* count) override {
    std::int64_t wanted = 0;
    for (int i = 0; i < n; ++i) wanted += static_cast<std::int64_t>(places[i].iov_len);
    if (wanted == 0) return;
    py::gil_scoped_acquire gil;
    const py::buffer_info data = fetch(offset, wanted, count).request();
    if (data.size * data.itemsize != wanted)
      throw DataError(
          "got " + std::to_string(data.size * data.itemsize) + " of " + std::to_string(wanted) + " bytes", "",
          offset);
    const auto* from = static_cast<const unsigned char*>(data.ptr);
    py::gil_scoped_release release;
    for (int i = 0; i < n; from += places[i++].iov_len)
      std::memcpy(places[i].iov_base, from, places[i].iov_len);
  }

  void expect(std::int64_t offset, std::int64_t n, tar::Count* count) override {
    py::gil_scoped_acquire gil;
    begun_[{offset, n}] = file_.attr("begin")(offset, n);
    if (!framed_) add(n, 1, count);
  }

 private:
  // Nobody comes for it: what is not under way yet need not be.
  static void give_up(const py::object& request) noexcept {
    if (PyObject* answer = PyObject_CallMethod(request.ptr(), "cancel", nullptr))
      Py_DECREF(answer);
    else
      PyErr_Clear();
  }

  static void add(std::int64_t bytes, std::int64_t requests, tar::Count* count) {
    count->bytes += bytes;
    count->requests += requests;
  }

  py::buffer fetch(std::int64_t offset, std::int64_t n, tar::Count* count) {
    begun_.erase(begun_.begin(), begun_.lower_bound({offset, 0}));  // what nobody came for
    try {
      auto found = begun_.extract({offset, n});
      const py::object got = found ? found.mapped().attr("result")() : file_.attr("fetch")(offset, n);
      if (framed_) {
        const auto [data, bytes, requests] = got.cast<std::tuple<py::buffer, std::int64_t, std::int64_t>>();
        add(bytes, requests, count);
        return data;
      }
      if (!found) add(n, 1, count);
      return got;
    } catch (py::error_already_set& e) {
      if (!e.matches(py::module_::import("pyimportance.errors").attr("DataError"))) throw;
      const py::object at = e.value().attr("offset");
      throw DataError(e.value().attr("problem").cast<std::string>(), "",
                      at.is_none() ? offset : at.cast<std::int64_t>());
    }
  }

  py::object file_;
  bool framed_;
  std::map<std::pair<std::int64_t, std::int64_t>, py::object> begun_;  // by offset and length
};

}  // namespace

std::unique_ptr<tar::Input> make_input(const py::object& handle) {
  if (py::isinstance<py::int_>(handle)) return std::make_unique<tar::Descriptor>(handle.cast<int>());
  return std::make_unique<Remote>(handle, py::hasattr(handle, "is_framed"));
}

}  // namespace pyi
