#include "tar/name.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "errors.h"

namespace pyi::tar {
namespace {

// __x__ and __x__/... hold what a tool wrote about the shard, never a sample.
bool is_metadata(std::string_view name) {
  const std::string_view top = name.substr(0, name.find('/'));
  return top.size() >= 4 && top.substr(0, 2) == "__" && top.substr(top.size() - 2) == "__";
}

bool is_slash(char c) { return c == '/' || c == '\\'; }

}  // namespace

bool split_name(std::string_view name, Name* out) {
  if (is_metadata(name)) return false;
  const std::size_t slash = name.rfind('/');
  const std::size_t base = slash == std::string_view::npos ? 0 : slash + 1;
  const std::size_t dot = name.find('.', base);
  if (dot == std::string_view::npos) return false;
  if (dot == base) {
    // ".x" has no key. "dir/.x" does: the expression then takes "dir/" for it, if "dir" is free of dots.
    if (base == 0) return false;
    const std::size_t before = slash == 0 ? std::string_view::npos : name.rfind('/', slash - 1);
    const std::size_t from = before == std::string_view::npos ? 0 : before + 1;
    if (name.substr(from, base - from).find('.') != std::string_view::npos) return false;
  }
  out->key = name.substr(0, dot);
  out->extension = name.substr(dot + 1);
  return true;
}

bool is_part(std::string_view name, std::string_view key, std::string_view extension) {
  const std::size_t n = key.size();
  if (name.size() <= n || name.substr(0, n) != key || name[n] != '.') return false;
  const std::string_view written = name.substr(n + 1);
  if (std::any_of(written.begin(), written.end(), [](char c) { return (c & 0x80) != 0; }))
    return written.find('/') == std::string_view::npos;
  return std::equal(written.begin(), written.end(), extension.begin(), extension.end(),
                    [](char a, char b) { return lower(a) == b; });
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

bool is_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    const unsigned char c = *p;
    const int more = c < 0x80 ? 0 : (c >> 5) == 0x6 ? 1 : (c >> 4) == 0xE ? 2 : (c >> 3) == 0x1E ? 3 : -1;
    if (more < 0 || end - p <= more) return false;
    std::uint32_t point = more == 0 ? c : c & (0x3Fu >> more);
    for (int i = 1; i <= more; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
      point = point << 6 | (p[i] & 0x3F);
    }
    constexpr std::uint32_t kLowest[] = {0, 0x80, 0x800, 0x10000};
    if (point < kLowest[more] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return false;
    p += more + 1;
  }
  return true;
}

std::string shown(std::string_view name) {
  std::size_t n = 200;
  if (name.size() <= n) return std::string(name);
  while (n > 0 && (name[n] & 0xC0) == 0x80) --n;
  return std::string(name.substr(0, n)) + "...";
}

const char* leads_out(std::string_view name) {
  if (name.empty()) return nullptr;
  if (is_slash(name.front())) return "begins with a slash";
  for (std::size_t at = name.find(".."); at != std::string_view::npos; at = name.find("..", at + 1))
    if ((at == 0 || is_slash(name[at - 1])) && (at + 2 == name.size() || is_slash(name[at + 2])))
      return "has a component '..'";
  return nullptr;
}

std::int64_t first_leading_out(const std::int64_t* offsets, const char* text, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    if (leads_out({text + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i])}) != nullptr)
      return i;
  return -1;
}

void check_name(std::string_view name, std::int64_t offset) {
  if (name.empty()) throw DataError("member without a name", "", offset);
  if (!is_utf8(name)) throw DataError("name of a member is not UTF-8", "", offset);
  if (has_control(name)) throw DataError("name holds a control character", std::string(name), offset);
  if (const char* why = leads_out(name))
    throw DataError(std::string("name ") + why + "; names must stay below the folder they are unpacked into",
                    std::string(name), offset);
}

std::pair<std::int64_t, std::int64_t> first_repeated(const std::int64_t* offsets, const char* text,
                                                     std::int64_t n) {
  const auto key = [&](std::int64_t i) {
    return std::string_view(text + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
  };
  std::vector<std::pair<std::size_t, std::int64_t>> order;
  order.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) order.emplace_back(std::hash<std::string_view>{}(key(i)), i);
  std::sort(order.begin(), order.end());

  std::pair<std::int64_t, std::int64_t> first{-1, -1};
  for (std::size_t a = 0, b; a < order.size(); a = b) {
    for (b = a + 1; b < order.size() && order[b].first == order[a].first;) ++b;
    if (b - a < 2) continue;
    // Equal hashes: nearly always equal keys, but only the bytes decide. Stable, so rows stay ascending.
    const auto from = order.begin() + static_cast<std::ptrdiff_t>(a);
    const auto to = order.begin() + static_cast<std::ptrdiff_t>(b);
    std::stable_sort(from, to, [&](const auto& x, const auto& y) { return key(x.second) < key(y.second); });
    for (auto it = from + 1; it != to; ++it)
      if (key((it - 1)->second) == key(it->second) && (first.second < 0 || it->second < first.second))
        first = {(it - 1)->second, it->second};
  }
  return first;
}

}  // namespace pyi::tar
