#include <cerrno>
#include <system_error>

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
      // Where the path is empty, the caller, who opened the file, raises again with its name.
      py::object value =
          type(e.what(), py::arg("path") = e.path, py::arg("member") = member, py::arg("offset") = offset);
      PyErr_SetObject(type.ptr(), value.ptr());
    } catch (const std::system_error& e) {
      errno = e.code().value();
      PyErr_SetFromErrno(PyExc_OSError);
    }
  });
}

}  // namespace pyi
