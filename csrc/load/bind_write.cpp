#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "load/bind_objects.h"

namespace pyi {
namespace {

using load::Region;

constexpr std::int64_t kLeast = 32 << 10;  // bytes of text and parts; what has less goes through the pipe
constexpr std::size_t kRemembered = 512;
constexpr int kDeepest = 32;

// Contents of bytes objects follow all else; views of the region stay where they are.
class Writer {
 public:
  explicit Writer(Region* region) : region_(region) {}
  ~Writer() {
    for (const Region::Handle& handle : sent_) region_->take_back(handle);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  py::object write(PyObject* object) {
    handle_.resize(1);
    add(object, 0);
    if (payload_ + static_cast<std::int64_t>(out_.size()) < kLeast) return py::none();
    const std::int64_t begin = kHead + static_cast<std::int64_t>(out_.size());
    std::int64_t size = begin;
    for (const auto& [part, view] : parts_) size = begin_of_part(view.second, size) + view.second;
    unsigned char* const block = region_->take(static_cast<std::size_t>(size));
    if (block == nullptr) return py::none();
    const std::int64_t head = static_cast<std::int64_t>(out_.size());
    std::memcpy(block, &head, sizeof(head));
    std::memcpy(block + kHead, out_.data(), out_.size());
    std::vector<Copy> copies;
    std::int64_t at = begin;
    for (const auto& [part, contents] : parts_) {
      at = begin_of_part(contents.second, at);
      copies.push_back({block + at, contents.first, static_cast<std::size_t>(contents.second)});
      at += contents.second;
    }
    copy_all(copies, size);
    const std::optional<Region::Handle> handle = region_->send(block);
    region_->give_back(block);
    if (!handle) return py::none();
    handle_[0] = {handle->block, handle->serial};
    sent_.clear();
    return py::make_tuple(handle_, others_);
  }

 private:
  static constexpr std::int64_t kHead = 8;  // bytes that say how many follow, of what `add` writes
  using Contents = std::pair<const unsigned char*, std::int64_t>;

  template <class T>
  void put(T value) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof(value));
  }
  void put(Tag tag) { out_.push_back(static_cast<unsigned char>(tag)); }
  template <class T>
  void put(Tag tag, T value) {
    put(tag);
    put(value);
  }

  void add(PyObject* object, int depth) {
    if (object == Py_None)
      put(Tag::none);
    else if (PyBool_Check(object))
      put(object == Py_True ? Tag::yes : Tag::no);
    else if (PyLong_CheckExact(object))
      add_integer(object);
    else if (PyFloat_CheckExact(object))
      put(Tag::real, PyFloat_AS_DOUBLE(object));
    else if (PyUnicode_CheckExact(object))
      add_text(object);
    else if (PyBytes_CheckExact(object))
      add_bytes(object);
    else if (PyMemoryView_Check(object))
      add_view(object);
    else if (depth == kDeepest)
      add_other(object);
    else if (PyList_CheckExact(object) || PyTuple_CheckExact(object))
      add_sequence(object, depth);
    else if (PyDict_CheckExact(object))
      add_dict(object, depth);
    else
      add_other(object);
  }

  void add_integer(PyObject* object) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0)
      add_other(object);
    else
      put(Tag::integer, static_cast<std::int64_t>(value));
  }
  void add_text(PyObject* object) {
    if (was_there(object)) return;
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(object, &size);
    if (text == nullptr) {  // half of a pair of surrogates
      PyErr_Clear();
      add_other(object);
      return;
    }
    put(Tag::text, static_cast<std::int64_t>(size));
    out_.insert(out_.end(), text, text + size);
    remember(object);
  }
  void add_bytes(PyObject* object) {
    if (was_there(object)) return;
    const std::int64_t size = PyBytes_GET_SIZE(object);
    put(Tag::bytes, size);
    add_contents(py::reinterpret_borrow<py::object>(object),
                 reinterpret_cast<const unsigned char*>(PyBytes_AS_STRING(object)), size);
    remember(object);
  }
  void add_contents(const py::object& owner, const unsigned char* contents, std::int64_t size) {
    parts_.push_back({owner, {contents, size}});
    payload_ += size;
  }
  void add_view(PyObject* object) {
    const auto own = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(object));
    if (!own) {  // it was released
      PyErr_Clear();
      add_other(object);
      return;
    }
    const Py_buffer* const view = PyMemoryView_GET_BUFFER(own.ptr());
    const bool plain = view->ndim == 1 && view->itemsize == 1 && view->readonly != 0 &&
                       PyBuffer_IsContiguous(view, 'C') != 0 && std::strcmp(view->format, "B") == 0;
    const auto* const at = static_cast<const unsigned char*>(view->buf);
    const std::int64_t size = view->len;
    if (!plain) {
      add_other(object);
    } else if (const std::int64_t number = handle_of(at, size); number >= 0) {
      put(Tag::view, number);
      put(static_cast<std::int64_t>(at - begin_[static_cast<std::size_t>(number)].first));
      put(size);
      payload_ += size;
    } else {
      put(Tag::copied, size);
      add_contents(own, at, size);
    }
  }
  std::int64_t handle_of(const unsigned char* at, std::int64_t size) {
    const auto holds = [&](const Contents& block) {
      return at >= block.first && at + size <= block.first + block.second;
    };
    const auto found = std::find_if(begin_.begin(), begin_.end(), holds);
    if (found != begin_.end()) return found - begin_.begin();
    const std::optional<Region::Handle> handle = region_->send(at);
    if (!handle) return -1;
    sent_.push_back(*handle);
    begin_.resize(handle_.size());
    begin_.emplace_back(region_->data(handle->block),
                        static_cast<std::int64_t>(region_->size(handle->block)));
    handle_.emplace_back(handle->block, handle->serial);
    return static_cast<std::int64_t>(handle_.size()) - 1;
  }

  void add_sequence(PyObject* object, int depth) {
    if (was_begun(object)) return;
    const bool is_list = PyList_CheckExact(object);
    const Py_ssize_t n = is_list ? PyList_GET_SIZE(object) : PyTuple_GET_SIZE(object);
    put(is_list ? Tag::list : Tag::tuple, static_cast<std::int64_t>(n));
    for (Py_ssize_t i = 0; i < n; ++i)
      add(is_list ? PyList_GET_ITEM(object, i) : PyTuple_GET_ITEM(object, i), depth + 1);
  }
  // All keys, then all values; a dict with the keys of the one before says so instead of the keys.
  void add_dict(PyObject* object, int depth) {
    std::vector<PyObject*> keys, values;
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &value) != 0;) {
      if (!PyUnicode_CheckExact(key) || PyUnicode_AsUTF8AndSize(key, nullptr) == nullptr) {
        PyErr_Clear();
        add_other(object);
        return;
      }
      keys.push_back(key), values.push_back(value);
    }
    if (was_begun(object)) return;
    if (!keys.empty() && keys == keys_) {
      put(Tag::alike);
    } else {
      put(Tag::dict, static_cast<std::int64_t>(keys.size()));
      for (PyObject* const name : keys) add_text(name);
      keys_ = keys;
    }
    for (PyObject* const each : values) add(each, depth + 1);
  }

  void add_other(PyObject* object) {
    put(Tag::other);
    others_.append(py::reinterpret_borrow<py::object>(object));
  }

  // All text, bytes, lists, tuples and dicts are numbered, and what is found again is said by number: for
  // what holds others always, or two would come out of it, for text and bytes where it is still remembered.
  std::pair<PyObject*, std::int64_t>& memory_of(PyObject* object) {
    return remembered_[reinterpret_cast<std::uintptr_t>(object) / 16 % kRemembered];
  }
  bool was_there(PyObject* object) {
    const auto& [there, number] = memory_of(object);
    if (there != object) return false;
    put(Tag::again, number);
    return true;
  }
  void remember(PyObject* object) { memory_of(object) = {object, numbered_++}; }
  bool was_begun(PyObject* object) {
    if (Py_REFCNT(object) > 1) {  // else nobody but who led here has it
      const auto [begun, is_new] = begun_.emplace(object, numbered_);
      if (!is_new) {
        put(Tag::again, begun->second);
        return true;
      }
    }
    ++numbered_;
    return false;
  }

  Region* region_;
  std::vector<unsigned char> out_;
  std::vector<std::pair<py::object, Contents>> parts_;
  std::vector<Contents> begin_;  // of each handle
  Handles handle_;
  std::vector<Region::Handle> sent_;  // until they are given to who sends them
  std::int64_t payload_ = 0, numbered_ = 0;
  std::array<std::pair<PyObject*, std::int64_t>, kRemembered> remembered_{};
  std::unordered_map<PyObject*, std::int64_t> begun_;
  std::vector<PyObject*> keys_;  // of the last dict
  py::list others_;
};

}  // namespace

py::object write_object(load::Region* region, PyObject* object) { return Writer(region).write(object); }

}  // namespace pyi
