// What an index says lies in a tar, against what lies there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tar/read.h"
#include "tar/samples.h"

namespace pyi::tar {

// A tar whose samples are to be read.
struct Source {
  Input* input;
  std::int64_t size;
  std::string path;    // for errors
  std::string prefix;  // goes before the keys of its samples where they are written
  bool ours = false;   // written once and never again: what differs from the index is damage
};

// A part of a sample, as an index has it.
struct Place {
  std::string_view key, extension;
  std::int64_t begin;  // of its first header at the earliest: where the part before it ends
  std::int64_t payload, size;
};

// Throws DataError unless the headers from `begin` on describe a file of that name and size whose payload
// starts where the index says. Other members may come before it, extended headers and all; what lies before
// `begin` is not looked at, where nobody but a forger ends with an extended header. `known`: the bytes
// between `begin` and the payload, null to have them read; `count` is charged with what is.
void check_member(const Source& source, const Place& place, const unsigned char* known, Count* count);

// check_member for bytes that are known, and quick where they are one usual header.
void check_known(const Source& source, const Place& place, const unsigned char* known, Count* count);

// Throws DataError unless in front of every part of these samples, `rows` [n] of s, is what its index says. s
// lists parts in file order. `data`: the bytes of the source from `base` on, `length` of them; headers before
// it are not looked at.
void check_samples(const Source& source, const Samples& s, const std::int64_t* rows, std::int64_t n,
                   const unsigned char* data, std::int64_t base, std::int64_t length);

// Throws DataError unless the payload sums to what the index says.
void check_payload(const Source& source, const Place& place, std::uint32_t crc32c, std::uint32_t expected);

// Throws DataError unless `header`, the n bytes in front of the payload, is what we write for this part.
void check_canonical(const Source& source, const Place& place, const unsigned char* header, std::int64_t n);

}  // namespace pyi::tar
