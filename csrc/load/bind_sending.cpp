// Memory that processes share as Python has it, and what is sent through it.
#include <unistd.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "load/bind_columns.h"
#include "load/bind_objects.h"
#include "load/region.h"

namespace pyi {
namespace {

using load::Region;

// A block that was received, for as long as what is made of it is there. A fork's child has not received it.
class LoadBlock {
 public:
  LoadBlock(std::shared_ptr<Region> region, std::uint32_t block, bool read_only)
      : region_(std::move(region)), block_(block), read_only_(read_only), process_(getpid()) {}
  ~LoadBlock() {
    if (process_ == getpid()) region_->release(block_);
  }
  LoadBlock(const LoadBlock&) = delete;
  LoadBlock& operator=(const LoadBlock&) = delete;
  unsigned char* data() const { return region_->data(block_); }
  std::int64_t size() const { return static_cast<std::int64_t>(region_->size(block_)); }
  bool read_only() const { return read_only_; }

 private:
  std::shared_ptr<Region> region_;
  std::uint32_t block_;
  bool read_only_;
  pid_t process_;
};

class LoadRegion {
 public:
  LoadRegion(int fd, std::int64_t begin, bool own) : region_(std::make_shared<Region>(fd, begin, own)) {}

  std::size_t room() const { return region_->room(); }
  void read_into() const { load::read_into(region_); }

  py::object write(const py::object& object) const { return write_object(region_.get(), object.ptr()); }
  py::object read(const Handles& handles, py::list others) {
    require(!handles.empty(), "handles must not be empty");
    std::vector<py::object> views(1);
    const auto block = received(handles[0], true);
    for (auto handle = handles.begin() + 1; handle != handles.end(); ++handle)
      views.push_back(py::memoryview(py::cast(received(*handle, true))));
    return read_object(block->data(), block->size(), std::move(views), std::move(others), &received_);
  }
  void take_back(const Handles& handles) const {
    for (const auto& [block, serial] : handles) region_->take_back({block, serial});
  }

  // Of an address: its handle, and where in the block it is.
  py::object send(std::uintptr_t address) const {
    const auto* const at = reinterpret_cast<const unsigned char*>(address);
    const std::optional<Region::Handle> handle = region_->send(at);
    if (!handle) return py::none();
    return py::make_tuple(handle->block, handle->serial, at - region_->data(handle->block));
  }
  std::unique_ptr<LoadBlock> received(std::pair<std::uint32_t, std::uint32_t> handle, bool read_only) const {
    if (!region_->receive({handle.first, handle.second}))
      throw std::runtime_error(
          "a batch came from a loader process that is gone, and its memory is not there");
    return std::make_unique<LoadBlock>(region_, handle.first, read_only);
  }

 private:
  std::shared_ptr<Region> region_;
  Received received_;
};

}  // namespace

void register_sending(py::module_& m) {
  py::class_<LoadBlock>(m, "LoadBlock", py::buffer_protocol()).def_buffer([](const LoadBlock& block) {
    return py::buffer_info(block.data(), block.size(), block.read_only());
  });
  py::class_<LoadRegion>(m, "LoadRegion")
      .def(py::init<int, std::int64_t, bool>(), py::arg("fd"), py::arg("begin"), py::arg("own"))
      .def_property_readonly_static("nbytes", [](const py::object&) { return Region::kBytes; })
      .def("room", &LoadRegion::room)
      .def("read_into", &LoadRegion::read_into)
      .def("write", &LoadRegion::write, py::arg("object"))
      .def("read", &LoadRegion::read, py::arg("handles"), py::arg("others"))
      .def("take_back", &LoadRegion::take_back, py::arg("handles"))
      .def("send", &LoadRegion::send, py::arg("address"))
      .def(
          "receive",
          [](const LoadRegion& region, std::uint32_t block, std::uint32_t serial) {
            return region.received({block, serial}, false);
          },
          py::arg("block"), py::arg("serial"));
}

}  // namespace pyi
