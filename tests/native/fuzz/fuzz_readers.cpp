// What reads in Python, in an interpreter within the target, so that libFuzzer and the sanitizers have it
// together with the native code below it: a line that follows another is a place that inputs may reach, and
// whatever the interpreter and its packages allocate has bounds of its own. --reader=NAME says which of
// readers.py, and PYTHONPATH where that is, and the package.
#include <pybind11/embed.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "module.h"

namespace py = pybind11;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

// Where libFuzzer looks for more coverage than compilers count.
__attribute__((section("__libfuzzer_extra_counters"))) static std::uint8_t counters[1 << 14];

namespace {

PyObject *reader = nullptr, *mutate = nullptr;

int count_line(PyObject*, PyFrameObject* frame, int what, PyObject*) {
  static std::unordered_map<PyCodeObject*, unsigned> codes;  // numbered, to be the same in every process
  static unsigned before = 0;
  if (what != PyTrace_LINE) return 0;
  PyCodeObject* code = PyFrame_GetCode(frame);
  const unsigned number = codes.try_emplace(code, static_cast<unsigned>(codes.size())).first->second;
  Py_DECREF(code);
  const unsigned place = number * 2654435761u + static_cast<unsigned>(PyFrame_GetLineNumber(frame)) * 40503u;
  std::uint8_t& counter = counters[((place ^ before) >> 8) % sizeof counters];
  if (counter < 255) ++counter;
  before = place >> 1;
  return 0;
}

py::bytes bytes(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

[[noreturn]] void fail() {
  PyErr_Print();
  std::abort();
}

}  // namespace

// Nothing that an interpreter has at its end is lost.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

// Of the native module as much as readers call, here instead of in a library beside the package.
PYBIND11_EMBEDDED_MODULE(_C, m) {
  pyi::register_errors(m);
  pyi::register_threads(m);
  pyi::register_tar(m);
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const char* name = "";
  for (int i = 1; i < *argc; ++i)
    if (std::strncmp((*argv)[i], "--reader=", 9) == 0) name = (*argv)[i] + 9;
  setenv("ARROW_DEFAULT_MEMORY_POOL", "system", 1);
  PyPreConfig before;
  PyPreConfig_InitPythonConfig(&before);
  before.allocator = PYMEM_ALLOCATOR_MALLOC;
  Py_PreInitialize(&before);
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 0;
  // The interpreter that has the packages, which may be one of a virtual environment.
  PyConfig_SetBytesString(&config, &config.program_name, PYI_PYTHON);
  py::initialize_interpreter(&config, 0, nullptr, false);
  try {
    py::module_::import("sys").attr("modules")["pyimportance._C"] = py::module_::import("_C");
    const py::object target = py::module_::import("readers").attr("target")(name);
    reader = py::object(target.attr("read")).release().ptr();
    mutate = py::object(target.attr("mutate")).release().ptr();
  } catch (py::error_already_set& e) {
    e.restore();
    fail();
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
  const auto input = bytes(data, length);
  PyEval_SetTrace(count_line, nullptr);
  const auto done = py::reinterpret_steal<py::object>(PyObject_CallOneArg(reader, input.ptr()));
  PyEval_SetTrace(nullptr, nullptr);
  if (!done) fail();
  return 0;
}

// Mostly by what the input says, where the reader knows how: one that is no JSON says little of the checks.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const auto changed = py::reinterpret_steal<py::object>(
      PyObject_CallFunctionObjArgs(mutate, bytes(data, size).ptr(), py::int_(seed).ptr(), nullptr));
  if (!changed) fail();
  if (changed.is_none()) return LLVMFuzzerMutate(data, size, max_size);
  const auto text = changed.cast<std::string_view>();
  if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}
