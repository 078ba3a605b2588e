// Names of tar members: which sample and part they are (the WebDataset convention), and which names we take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pyi::tar {

constexpr std::size_t kMaxExtension = 1024;  // bytes; a longer one is refused

struct Name {
  std::string_view key;
  std::string_view extension;  // without the dot, in the case it was written in
};

// Splits like ^((?:.*/|)[^.]+)[.]([^/]*)$ : directories belong to the key, the extension starts at the first
// dot of the last component. False: the member has no extension or is metadata (top-level __x__).
bool split_name(std::string_view name, Name* out);

// Whether a member of this name is the part `extension` (lower case) of the sample `key`. What is no ASCII
// has its case folded by Python, not here: where the written extension has such letters, any will do.
bool is_part(std::string_view name, std::string_view key, std::string_view extension);

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Why a file of this name, unpacked into a folder, could land outside it; null where it could not. A
// backslash is an ordinary character here, but a slash where some people unpack: it may stand in a name, not
// lead out.
const char* leads_out(std::string_view name);

// Throws DataError for a name that is empty, not UTF-8, holds control characters (NUL among them), or leads
// out.
void check_name(std::string_view name, std::int64_t offset);

bool has_control(std::string_view text);
bool is_utf8(std::string_view text);

// A name as an error shows it: its first 200 bytes, whole characters.
std::string shown(std::string_view name);

// The first of n keys that leads out, -1 if none does. Key i is text[offsets[i], offsets[i + 1]).
std::int64_t first_leading_out(const std::int64_t* offsets, const char* text, std::int64_t n);

// The first key (smallest j) that equals an earlier one (i), as {i, j}; {-1, -1} if all differ.
// Costs a sort of n hashes.
std::pair<std::int64_t, std::int64_t> first_repeated(const std::int64_t* offsets, const char* text,
                                                     std::int64_t n);

}  // namespace pyi::tar
