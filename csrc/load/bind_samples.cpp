#include "load/bind_samples.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "errors.h"

namespace pyi {
namespace {

void set(PyObject* sample, const py::object& name, const py::object& value) {
  if (PyDict_SetItem(sample, name.ptr(), value.ptr()) != 0) throw py::error_already_set();
}

// Names that all samples have. Python keeps one object of each: looking one up compares addresses.
struct Names {
  py::object key = of("__key__"), url = of("__url__"), index = of("__index__"), weight = of("__weight__"),
             pad = of("__pad__");

 private:
  static py::object of(const char* name) { return owned(PyUnicode_InternFromString(name)); }
};

// A dict with the names of samples that have the same parts. A copy of it has its table and its hashes, which
// is several times quicker than to put in one name after the other.
class Template {
 public:
  explicit Template(const LoadColumns& columns) : columns_(columns) {}

  py::object copy(const load::Piece* pieces, std::size_t n) {
    const auto same = [](std::int32_t extension, const load::Piece& piece) {
      return extension == piece.extension;
    };
    if (!made_ || extensions_.size() != n ||
        !std::equal(extensions_.begin(), extensions_.end(), pieces, same)) {
      extensions_.clear();
      for (std::size_t p = 0; p < n; ++p) extensions_.push_back(pieces[p].extension);
      make();
    }
    return owned(PyDict_Copy(made_.ptr()));
  }
  const Names names;

 private:
  void make() {
    made_ = owned(PyDict_New());
    const py::object none = py::none();
    for (const py::object* name : {&names.key, &names.url, &names.index}) set(made_.ptr(), *name, none);
    set(made_.ptr(), names.weight, py::float_(1.0));
    set(made_.ptr(), names.pad, py::bool_(false));
    for (const std::int32_t e : extensions_)
      set(made_.ptr(), columns_.names[static_cast<std::size_t>(e)], none);
  }

  const LoadColumns& columns_;
  std::vector<std::int32_t> extensions_;
  py::object made_;
};

py::object part_of(const load::Piece& piece, const Parts& parts) {
  if (piece.own) return py::reinterpret_borrow<py::object>(bytes_at(piece.data));
  if (parts.views == nullptr)
    return owned(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(piece.data), piece.size));
  const py::object begin = owned(PyLong_FromSsize_t(piece.data - parts.start));
  const py::object end = owned(PyLong_FromSsize_t(piece.data - parts.start + piece.size));
  return owned(PyObject_GetItem(parts.views, owned(PySlice_New(begin.ptr(), end.ptr(), nullptr)).ptr()));
}

// The samples come in another order than they lie in, hence out of memory and not out of a cache. So those to
// come are asked for in steps: where one lies, where its parts lie, the parts.
class Prefetch {
 public:
  Prefetch(const load::Window& window, const Parts& parts, std::int64_t end)
      : window_(window), copies_(parts.views == nullptr), end_(end) {}
  void ahead_of(std::int64_t i) const {
    if (i + 3 * kSteps < end_) __builtin_prefetch(&window_.sample(i + 3 * kSteps));
    if (i + 2 * kSteps < end_) __builtin_prefetch(window_.pieces(window_.sample(i + 2 * kSteps)));
    if (i + kSteps >= end_) return;
    const load::Lying& next = window_.sample(i + kSteps);
    __builtin_prefetch(next.key);
    for (const load::Piece* p = window_.pieces(next); p < window_.pieces(next) + next.pieces; ++p) {
      if (p->own)  // what counts its references
        __builtin_prefetch(p->data - offsetof(PyBytesObject, ob_sval));
      else
        for (std::int64_t at = 0; copies_ && at < p->size; at += kLine) __builtin_prefetch(p->data + at);
    }
  }

 private:
  static constexpr std::int64_t kSteps = 4, kLine = 64;
  const load::Window& window_;
  bool copies_;
  std::int64_t end_;
};

}  // namespace

py::list make_samples(const LoadColumns& columns, const load::Window& window, const Parts& parts,
                      const std::vector<char>& pad, std::int64_t begin, std::int64_t end) {
  py::list out(end - begin);
  Template common(columns);
  const Names& names = common.names;
  const py::object yes = py::bool_(true);
  const Prefetch prefetch(window, parts, end);
  for (std::int64_t i = begin; i < end; ++i) {
    prefetch.ahead_of(i);
    const load::Lying& lying = window.sample(i);
    const load::Piece* const pieces = window.pieces(lying);
    py::object sample = common.copy(pieces, lying.pieces);
    set(sample.ptr(), names.key, owned(PyUnicode_DecodeUTF8(lying.key, lying.key_size, nullptr)));
    set(sample.ptr(), names.url, columns.urls[static_cast<std::size_t>(lying.file)]);
    set(sample.ptr(), names.index, owned(PyLong_FromLongLong(lying.id)));
    if (pad[static_cast<std::size_t>(i)] != 0) set(sample.ptr(), names.pad, yes);
    for (const load::Piece* p = pieces; p < pieces + lying.pieces; ++p)
      set(sample.ptr(), columns.names[static_cast<std::size_t>(p->extension)], part_of(*p, parts));
    PyList_SET_ITEM(out.ptr(), i - begin, sample.release().ptr());
  }
  return out;
}

namespace {

// The list of a name, made of Nones where there is none.
PyObject* list_of(const BatchPlaces& batch, const py::object& name) {
  if (PyObject* found = PyDict_GetItemWithError(batch.lists.ptr(), name.ptr())) {
    if (!PyList_CheckExact(found) || PyList_GET_SIZE(found) != batch.size)
      throw ArgumentError("lists: each must be as long as the batch");
    return found;
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  const py::list made(batch.size);
  for (std::int64_t i = 0; i < batch.size; ++i) PyList_SET_ITEM(made.ptr(), i, py::none().release().ptr());
  set(batch.lists.ptr(), name, made);
  return made.ptr();
}

void put(PyObject* list, std::int64_t slot, py::object value) {
  if (PyList_SetItem(list, slot, value.release().ptr()) != 0) throw py::error_already_set();
}

}  // namespace

void fill_batch(const LoadColumns& columns, const load::Window& window, const Parts& parts,
                const std::vector<char>& pad, std::int64_t begin, const std::int64_t* slots, std::int64_t n,
                BatchPlaces* batch) {
  const Names names;
  PyObject* const keys = list_of(*batch, names.key);
  PyObject* const urls = list_of(*batch, names.url);
  std::vector<PyObject*> of_part(columns.names.size());  // of the batch's lists, as they are come across
  const Prefetch prefetch(window, parts, begin + n);
  for (std::int64_t i = begin; i < begin + n; ++i) {
    prefetch.ahead_of(i);
    const std::int64_t slot = slots[i - begin];
    const load::Lying& lying = window.sample(i);
    put(keys, slot, owned(PyUnicode_DecodeUTF8(lying.key, lying.key_size, nullptr)));
    put(urls, slot, columns.urls[static_cast<std::size_t>(lying.file)]);
    batch->index[slot] = lying.id;
    batch->pad[slot] = pad[static_cast<std::size_t>(i)] != 0;
    const load::Piece* const pieces = window.pieces(lying);
    for (const load::Piece* p = pieces; p < pieces + lying.pieces; ++p) {
      const auto extension = static_cast<std::size_t>(p->extension);
      if (columns.field_of[extension] >= 0) continue;
      if (of_part[extension] == nullptr) of_part[extension] = list_of(*batch, columns.names[extension]);
      put(of_part[extension], slot, part_of(*p, parts));
    }
  }
}

}  // namespace pyi
