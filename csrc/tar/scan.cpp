#include "tar/scan.h"

#include <string_view>
#include <unordered_map>

#include "errors.h"
#include "tar/header.h"
#include "tar/members.h"
#include "tar/name.h"

namespace pyi::tar {
namespace {

// Members -> samples.
class Grouper {
 public:
  explicit Grouper(Columns* out) : out_(out) {}

  // Appends the part to its sample. False, and nothing appended, if it would begin one sample too many.
  bool add(const Member& m, const Name& name, std::int64_t limit) {
    const bool begins = out_->samples() == 0 || name.key != key();
    if (begins) {
      if (out_->samples() == limit) return false;
      out_->key_text.append(name.key);
      out_->key_offsets.push_back(static_cast<std::int64_t>(out_->key_text.size()));
      out_->offset.push_back(m.start);
      out_->nbytes.push_back(0);
      out_->part_start.push_back(out_->part_start.back());
    }
    const std::int32_t ext = extension(name.extension);
    std::int64_t& last = last_sample_[static_cast<std::size_t>(ext)];
    if (last == out_->samples())
      throw DataError("extension '" + out_->extensions[static_cast<std::size_t>(ext)] +
                          "' repeats in the sample '" + std::string(name.key) + "'",
                      m.name, m.header);
    last = out_->samples();
    out_->part_ext.push_back(ext);
    out_->part_offset.push_back(m.payload);
    out_->part_size.push_back(m.size);
    ++out_->part_start.back();
    out_->nbytes.back() = m.payload + m.size + padding(m.size) - out_->offset.back();
    return true;
  }

 private:
  std::string_view key() const {
    const auto n = out_->key_offsets.size();
    return std::string_view(out_->key_text).substr(static_cast<std::size_t>(out_->key_offsets[n - 2]));
  }

  std::int32_t extension(std::string_view written) {
    std::string ext(written);
    for (char& c : ext) c = lower(c);
    const auto [it, is_new] = codes_.try_emplace(ext, static_cast<std::int32_t>(codes_.size()));
    if (is_new) {
      out_->extensions.push_back(ext);
      last_sample_.push_back(0);
    }
    return it->second;
  }

  Columns* out_;
  std::unordered_map<std::string, std::int32_t> codes_;
  std::vector<std::int64_t> last_sample_;  // per extension, the sample (from 1) that had it last
};

void check_adjacent(const Columns& c) {
  const auto [i, j] = first_repeated(c.key_offsets.data(), c.key_text.data(), c.samples());
  if (j < 0) return;
  const auto at = static_cast<std::size_t>(j);
  const auto from = static_cast<std::size_t>(c.key_offsets[at]);
  const std::string key = c.key_text.substr(from, static_cast<std::size_t>(c.key_offsets[at + 1]) - from);
  throw DataError("the key occurs a second time, first at offset " +
                      std::to_string(c.offset[static_cast<std::size_t>(i)]) +
                      ": all members of a sample must be adjacent",
                  key, c.offset[at]);
}

}  // namespace

Columns scan(Input* input, std::int64_t size, bool allow_missing_eof, std::int64_t limit, bool checksums) {
  Columns out;
  Members members(Window(input, size), 0, size, allow_missing_eof);
  Grouper grouper(&out);
  Member m{};
  Name name;
  while (limit != 0 && members.next(&m)) {
    if (m.type != '0' || !split_name(m.name, &name)) continue;
    if (name.extension.substr(0, 2) == "__")
      throw DataError("the extension is reserved: a sample's own fields begin with '__'", m.name, m.header);
    if (name.extension.size() > kMaxExtension)
      throw DataError("an extension of " + std::to_string(name.extension.size()) + " bytes; at most " +
                          std::to_string(kMaxExtension) + " are read",
                      m.name, m.header);
    if (!grouper.add(m, name, limit)) break;
    if (checksums) out.part_crc32c.push_back(members.payload_crc32c(m));
  }
  check_adjacent(out);
  out.bytes_read = members.count().bytes;
  out.requests = members.count().requests;
  return out;
}

Columns joined(std::vector<Columns>&& files) {
  if (files.size() == 1) return std::move(files.front());
  Columns out;
  std::unordered_map<std::string, std::int32_t> codes;
  const auto append = [](auto* to, const auto& from) { to->insert(to->end(), from.begin(), from.end()); };
  for (const Columns& c : files) {
    const auto text = static_cast<std::int64_t>(out.key_text.size());
    const auto parts = static_cast<std::int64_t>(out.part_ext.size());
    std::vector<std::int32_t> code;
    for (const std::string& extension : c.extensions) {
      const auto [it, is_new] = codes.try_emplace(extension, static_cast<std::int32_t>(codes.size()));
      if (is_new) out.extensions.push_back(extension);
      code.push_back(it->second);
    }
    for (std::size_t i = 1; i < c.key_offsets.size(); ++i) out.key_offsets.push_back(text + c.key_offsets[i]);
    for (std::size_t i = 1; i < c.part_start.size(); ++i) out.part_start.push_back(parts + c.part_start[i]);
    for (const std::int32_t e : c.part_ext) out.part_ext.push_back(code[static_cast<std::size_t>(e)]);
    out.key_text += c.key_text;
    append(&out.offset, c.offset);
    append(&out.nbytes, c.nbytes);
    append(&out.part_offset, c.part_offset);
    append(&out.part_size, c.part_size);
    append(&out.part_crc32c, c.part_crc32c);
    out.bytes_read += c.bytes_read;
    out.requests += c.requests;
  }
  return out;
}

}  // namespace pyi::tar
