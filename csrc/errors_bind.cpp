#include "errors.h"
#include "module.h"

namespace pyi {

void register_errors(py::module_&) {
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const ArgumentError& e) {
      py::object type = py::module_::import("pyimportance.errors").attr("ArgumentError");
      PyErr_SetString(type.ptr(), e.what());
    } catch (const DataError& e) {
      py::object type = py::module_::import("pyimportance.errors").attr("DataError");
      py::object member = e.member.empty() ? py::object(py::none()) : py::object(py::str(e.member));
      py::object offset = e.offset < 0 ? py::object(py::none()) : py::object(py::int_(e.offset));
      // The path is unknown here: the caller, who opened the file, raises again with its name.
      py::object value =
          type(e.what(), py::arg("path") = "", py::arg("member") = member, py::arg("offset") = offset);
      PyErr_SetObject(type.ptr(), value.ptr());
    }
  });
}

}  // namespace pyi
