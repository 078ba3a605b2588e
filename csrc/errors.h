// Exceptions of the native parts. errors_bind.cpp maps them to the classes in pyimportance/errors.py.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace pyi {

// An argument is not allowed -> ArgumentError.
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A file is broken -> DataError. Most native parts know only a descriptor; then the caller names the file.
struct DataError : std::runtime_error {
  DataError(const std::string& problem, std::string member_, std::int64_t offset_, std::string path_ = "")
      : std::runtime_error(problem), member(std::move(member_)), offset(offset_), path(std::move(path_)) {}
  std::string member;   // empty: unknown
  std::int64_t offset;  // -1: unknown
  std::string path;     // empty: the caller knows it
};

}  // namespace pyi
