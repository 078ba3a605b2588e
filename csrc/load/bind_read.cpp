#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "load/bind_columns.h"
#include "load/bind_objects.h"

namespace pyi {
namespace {

class Reader {
 public:
  Reader(const unsigned char* data, std::int64_t size, std::vector<py::object> views, py::list others,
         Received* received)
      : data_(data), size_(size), views_(std::move(views)), others_(std::move(others)), received_(received) {
    received->begin(size_);
  }

  py::object read() {
    const auto head = get<std::int64_t>();
    check(head >= 0 && head <= size_ - at_);
    contents_ = at_ + head;
    py::object made = next();
    copy_all(copies_, contents_);
    return made;
  }

 private:
  template <class T>
  T get() {
    T value;
    check(size_ - at_ >= static_cast<std::int64_t>(sizeof(T)));
    std::memcpy(&value, data_ + at_, sizeof(T));
    at_ += static_cast<std::int64_t>(sizeof(T));
    return value;
  }
  static void check(bool holds) { require(holds, "what a loader process wrote is damaged"); }

  py::object next() {
    switch (get<Tag>()) {
      case Tag::none:
        return py::none();
      case Tag::yes:
        return py::bool_(true);
      case Tag::no:
        return py::bool_(false);
      case Tag::integer:
        return owned(PyLong_FromLongLong(get<std::int64_t>()));
      case Tag::real:
        return owned(PyFloat_FromDouble(get<double>()));
      case Tag::text:
        return text();
      case Tag::bytes:
        return numbered_.emplace_back(part(get<std::int64_t>()));
      case Tag::again:
        return numbered_.at(static_cast<std::size_t>(get<std::int64_t>()));
      case Tag::view:
        return view();
      case Tag::copied:
        return owned(PyMemoryView_FromObject(part(get<std::int64_t>()).ptr()));
      case Tag::list:
        return list();
      case Tag::tuple:
        return tuple();
      case Tag::dict:
        return dict(true);
      case Tag::alike:
        return dict(false);
      case Tag::other:
        return others_[other_++];
    }
    throw ArgumentError("what a loader process wrote is damaged");
  }
  py::object text() {
    const auto size = get<std::int64_t>();
    check(size >= 0 && size <= size_ - at_);
    numbered_.push_back(
        owned(PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data_ + at_), size, nullptr)));
    at_ += size;
    return numbered_.back();
  }
  // A bytes object, to be filled when all else is there.
  py::object part(std::int64_t size) {
    contents_ = begin_of_part(size, contents_);
    check(size >= 0 && size <= size_ - contents_);
    py::object made =
        size < kLargePart ? owned(PyBytes_FromStringAndSize(nullptr, size)) : received_->take(size);
    auto* const to = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(made.ptr()));
    copies_.push_back({to, data_ + contents_, static_cast<std::size_t>(size)});
    contents_ += size;
    return made;
  }
  py::object view() {
    const auto number = get<std::int64_t>(), begin = get<std::int64_t>(), size = get<std::int64_t>();
    const py::object& whole = views_.at(static_cast<std::size_t>(number));
    const py::object from = owned(PyLong_FromLongLong(begin)), to = owned(PyLong_FromLongLong(begin + size));
    return owned(PyObject_GetItem(whole.ptr(), owned(PySlice_New(from.ptr(), to.ptr(), nullptr)).ptr()));
  }
  Py_ssize_t length() {
    const auto n = get<std::int64_t>();
    check(n >= 0 && n <= size_ - at_);  // each of them takes a byte
    return n;
  }
  py::object list() {
    const Py_ssize_t n = length();
    py::list made(n);
    numbered_.push_back(made);
    for (Py_ssize_t i = 0; i < n; ++i) PyList_SET_ITEM(made.ptr(), i, next().release().ptr());
    return std::move(made);
  }
  py::object tuple() {
    const Py_ssize_t n = length();
    py::tuple made(n);
    numbered_.push_back(made);
    for (Py_ssize_t i = 0; i < n; ++i) PyTuple_SET_ITEM(made.ptr(), i, next().release().ptr());
    return std::move(made);
  }
  void keys() {
    keys_ = std::make_shared<std::vector<py::object>>();
    empty_ = py::dict();
    for (Py_ssize_t n = length(); n > 0; --n) {
      PyObject* key = next().release().ptr();
      if (PyUnicode_CheckExact(key)) PyUnicode_InternInPlace(&key);
      keys_->push_back(py::reinterpret_steal<py::object>(key));
      if (PyDict_SetItem(empty_.ptr(), key, Py_None) != 0) throw py::error_already_set();
    }
  }
  // A copy of one with the same keys has its table and its hashes.
  py::object dict(bool has_keys) {
    const std::size_t number = numbered_.size();
    numbered_.emplace_back();
    if (has_keys) keys();
    check(keys_ != nullptr);
    const py::object made = owned(PyDict_Copy(empty_.ptr()));
    numbered_[number] = made;
    const auto names = keys_;  // a dict in this one may have others
    for (const py::object& name : *names)
      if (PyDict_SetItem(made.ptr(), name.ptr(), next().ptr()) != 0) throw py::error_already_set();
    return made;
  }

  const unsigned char* data_;
  std::int64_t size_, at_ = 0, contents_ = 0;
  std::vector<py::object> views_;  // of all of what each handle is of
  py::list others_;
  std::size_t other_ = 0;
  Received* received_;
  std::vector<py::object> numbered_;
  std::shared_ptr<std::vector<py::object>> keys_;  // of the last dict
  py::dict empty_;                                 // with these keys
  std::vector<Copy> copies_;
};

}  // namespace

py::object read_object(const unsigned char* data, std::int64_t size, std::vector<py::object> views,
                       py::list others, Received* received) {
  return Reader(data, size, std::move(views), std::move(others), received).read();
}

}  // namespace pyi
