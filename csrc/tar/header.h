// Tar headers: the dialects we read (V7, ustar, pax, GNU) and the one form we write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pyi::tar {

constexpr std::int64_t kBlock = 512;
constexpr std::int64_t kEndBlocks = 2 * kBlock;           // two blocks of zeros end an archive
constexpr std::int64_t kMaxExtended = 1 << 20;            // a longer pax header or GNU name is refused
constexpr std::int64_t kMaxSize = std::int64_t{1} << 62;  // a larger number in a header is refused

// Bytes up to the next block.
constexpr std::int64_t padding(std::int64_t size) { return -size & (kBlock - 1); }

struct Header {
  std::string name;   // as in this block alone: prefix/name
  std::int64_t size;  // as in this block alone
  char type;          // '0' for a regular file, also where the block says '\0' or '7'
};

// Parses a block that is not all zeros. Throws DataError at `offset`: checksum, numbers.
Header parse_header(const unsigned char* block, std::int64_t offset);

// What a pax extended header says about the member after it.
struct Extended {
  bool has_path = false, has_size = false;
  std::string path;
  std::int64_t size = 0;
};

// Parses the records of a pax header. Throws DataError at `offset`: syntax, numbers, sparse files.
Extended parse_pax(std::string_view records, std::int64_t offset);

bool is_zero_block(const unsigned char* block);

// Our form: ustar; mode 0444; owner, group and time 0; preceded by a pax header only where the name is
// longer than ustar can hold or not ASCII, or the size is 8 GiB or more. A function of name and size.
std::int64_t header_bytes(std::string_view name, std::int64_t size);
void write_header(std::string_view name, std::int64_t size, unsigned char* out);  // header_bytes() of them

}  // namespace pyi::tar
