#include "load/bind_columns.h"

#include "errors.h"
#include "tar/header.h"

namespace pyi {

LoadColumns::LoadColumns(Int64s key_offsets, Bytes key_text, const std::vector<std::string>& extensions,
                         Int64s ids_, Int32s file, Int64s offset, Int64s nbytes_, Int64s part_start,
                         Int32s part_ext, Int64s part_offset, Int64s part_size,
                         const std::vector<std::string>& files, const std::vector<LoadField>& fields_,
                         bool views_, const std::optional<Int64s>& part_begin,
                         const std::optional<Int64s>& name_offsets, const std::optional<Bytes>& name_text)
    : index{
          {ids_.size(), key_offsets.data(), reinterpret_cast<const char*>(key_text.data()), part_start.data(),
           part_ext.data(), part_size.data(), file.data(), offset.data(), part_offset.data(), extensions},
          ids_.data(),
          nbytes_.data(),
          part_begin ? part_begin->data() : nullptr,
          files,
          name_offsets ? name_offsets->data() : nullptr,
          name_text ? reinterpret_cast<const char*>(name_text->data()) : nullptr},
      N(ids_.size()),
      P(part_ext.size()),
      text(key_text.size()),
      names_text(name_text ? name_text->size() : 0),
      fields(fields_),
      field_of(extensions.size(), -1),
      views(views_) {
  require(key_offsets.size() == N + 1 && part_start.size() == N + 1,
          "key_offsets or part_start does not fit ids");
  require(file.size() == N && offset.size() == N && nbytes_.size() == N,
          "file, offset or nbytes does not fit ids");
  require(part_offset.size() == P && part_size.size() == P, "part_offset or part_size does not fit part_ext");
  require(!part_begin || part_begin->size() == P, "part_begin does not fit part_ext");
  require(
      name_offsets.has_value() == name_text.has_value() && (!name_offsets || name_offsets->size() == P + 1),
      "name_offsets does not fit part_ext, or there is no name_text");
  for (const std::string& extension : extensions)
    names.push_back(py::reinterpret_steal<py::str>(PyUnicode_InternFromString(extension.c_str())));
  for (const std::string& path : files) urls.emplace_back(path);
  for (std::size_t e = 0; e < extensions.size(); ++e)
    for (std::size_t f = 0; f < fields.size(); ++f)
      if (std::get<0>(fields[f]) == extensions[e]) field_of[e] = static_cast<int>(f);
  arrays = {std::move(key_offsets), std::move(key_text), std::move(ids_),       std::move(file),
            std::move(offset),      std::move(nbytes_),  std::move(part_start), std::move(part_ext),
            std::move(part_offset), std::move(part_size)};
  if (part_begin) arrays.push_back(*part_begin);
  if (name_offsets) arrays.insert(arrays.end(), {*name_offsets, *name_text});
}

// The columns are whole, and were checked when the index was made: this is what memory safety takes.
void LoadColumns::check_rows(const std::int64_t* rows, std::int64_t n) const {
  const tar::Samples& s = index.samples;
  const std::int64_t* nbytes = index.nbytes;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = rows[i];
    require(row >= 0 && row < N, "rows out of range");
    require(s.file[row] >= 0 && s.file[row] < static_cast<std::int64_t>(urls.size()), "file out of range");
    require(0 <= s.key_offsets[row] && s.key_offsets[row] <= s.key_offsets[row + 1] &&
                s.key_offsets[row + 1] <= text,
            "key_offsets do not fit key_text");
    require(
        0 <= s.part_start[row] && s.part_start[row] <= s.part_start[row + 1] && s.part_start[row + 1] <= P,
        "part_start does not fit part_ext");
    const std::int64_t begin = s.offset[row];
    require(begin >= 0 && nbytes[row] >= 0 && nbytes[row] <= tar::kMaxSize, "nbytes out of range");
    for (std::int64_t p = s.part_start[row]; p < s.part_start[row + 1]; ++p) {
      require(s.part_ext[p] >= 0 && s.part_ext[p] < static_cast<std::int64_t>(names.size()),
              "part_ext out of range");
      require(s.part_offset[p] >= begin && s.part_size[p] >= 0 &&
                  s.part_size[p] <= nbytes[row] - (s.part_offset[p] - begin),
              "a part lies outside its sample");
      if (index.name_offsets != nullptr)
        require(0 <= index.name_offsets[p] && index.name_offsets[p] <= index.name_offsets[p + 1] &&
                    index.name_offsets[p + 1] <= names_text,
                "name_offsets do not fit name_text");
    }
  }
}

}  // namespace pyi
