// bytes objects to read into, used again where nobody else has them any more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

#include "module.h"

namespace pyi {

// What a function of Python's has made, which throws where it is nothing.
inline py::object owned(PyObject* made) {
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

inline unsigned char* contents(PyObject* bytes) {
  return reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes));
}
// The object that has these contents.
inline PyObject* bytes_at(unsigned char* contents) {
  return reinterpret_cast<PyObject*>(contents - offsetof(PyBytesObject, ob_sval));
}

// A bytes object of which this is the only reference is written to by those who make it, and one of which it
// is so again may be made again. What the consumer of samples keeps is left to him. Used with the GIL.
class BytesPool {
 public:
  BytesPool() = default;
  BytesPool(const BytesPool&) = delete;
  BytesPool& operator=(const BytesPool&) = delete;
  ~BytesPool() {
    for (auto& [capacity, objects] : spare_)
      for (PyObject* const object : objects) Py_DECREF(object);
  }

  // A bytes object of that size to write to, and the capacity to give it back with.
  std::pair<PyObject*, Py_ssize_t> take(Py_ssize_t size) {
    const Py_ssize_t capacity = capacity_of(size);
    std::vector<PyObject*>& objects = spare_[capacity];
    PyObject* object;
    if (objects.empty()) {
      object = PyBytes_FromStringAndSize(nullptr, capacity);
      if (object == nullptr) throw py::error_already_set();
    } else {
      object = objects.back();
      objects.pop_back();
      bytes_ -= capacity;
    }
    resize(object, size);
    return {object, capacity};
  }
  void give_back(PyObject* object, Py_ssize_t capacity) {
#ifndef Py_GIL_DISABLED
    if (Py_REFCNT(object) == 1 && bytes_ + capacity <= most_) {
      spare_[capacity].push_back(object);
      bytes_ += capacity;
      return;
    }
#endif
    Py_DECREF(object);
  }
  // Keeps as much as two windows of so many bytes need; before one is made, not more than there is room for.
  void expect(Py_ssize_t window) {
    most_ = std::max(most_, 2 * window);
    if (bytes_ <= most_ - window) return;
    for (auto& [capacity, objects] : spare_)  // sizes that did not come again
      for (; bytes_ > most_ - window && objects.size() > 1; objects.pop_back(), bytes_ -= capacity)
        Py_DECREF(objects.back());
  }

 private:
  // Sizes an eighth apart share objects.
  static Py_ssize_t capacity_of(Py_ssize_t size) {
    Py_ssize_t step = 1;
    while (step * 16 <= size) step *= 2;
    return (size + step - 1) / step * step;
  }
  static void resize(PyObject* object, Py_ssize_t size) {
    Py_SET_SIZE(reinterpret_cast<PyVarObject*>(object), size);
    contents(object)[size] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    reinterpret_cast<PyBytesObject*>(object)->ob_shash = -1;
#pragma GCC diagnostic pop
  }

  std::unordered_map<Py_ssize_t, std::vector<PyObject*>> spare_;  // by capacity
  Py_ssize_t bytes_ = 0, most_ = 0;
};

}  // namespace pyi
