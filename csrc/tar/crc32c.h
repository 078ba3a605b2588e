// CRC32C (Castagnoli, RFC 3720 B.4), the checksum that object stores use too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyi::tar {

// Continues `crc` (0 at the start) over `n` bytes. Uses the CPU's instruction where it has one.
std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t n);

// The same by tables, for CPUs without the instruction and for tests against it.
std::uint32_t crc32c_table(std::uint32_t crc, const void* data, std::size_t n);

}  // namespace pyi::tar
