#include "load/window.h"

#include <algorithm>
#include <exception>
#include <string>

#include "order/argsort.h"
#include "tar/header.h"

namespace pyi::load {
namespace {

constexpr std::size_t kPlaces = 1024;  // that one request may name (IOV_MAX)

std::int64_t after(const tar::Samples& s, std::int64_t part) {
  return s.part_offset[part] + s.part_size[part] + tar::padding(s.part_size[part]);
}

tar::Place place_of(const tar::Samples& s, std::int64_t row, std::int64_t part) {
  const std::int64_t begin = part == s.part_start[row] ? s.offset[row] : after(s, part - 1);
  return {s.key(row), s.extension(part), begin, s.part_offset[part], s.part_size[part]};
}

}  // namespace

Window::Window(const Index& index, const std::int64_t* rows, std::int64_t n, const Place& place,
               std::shared_ptr<Buffers> buffers)
    : index_(index), s_(index.samples), buffers_(std::move(buffers)) {
  arrange(rows, static_cast<std::size_t>(n));
  lay_out(place);
}

// Rows in order of storage, each once: that of an index, if it is in that order, as those of shards are.
void Window::arrange(const std::int64_t* rows, std::size_t n) {
  std::vector<std::uint32_t> order(n);
  order::argsort(rows, n, {false, 1, false}, {nullptr, false}, {order.data(), false});
  const auto before = [&](std::uint32_t i, std::uint32_t j) {
    const std::int64_t a = rows[i], b = rows[j];
    return s_.file[a] != s_.file[b] ? s_.file[a] < s_.file[b] : s_.offset[a] < s_.offset[b];
  };
  if (!std::is_sorted(order.begin(), order.end(), before))
    std::stable_sort(order.begin(), order.end(), before);
  number_.resize(n);
  lying_.reserve(n);
  for (const std::uint32_t i : order) {
    const std::int64_t row = rows[i];
    if (lying_.empty() || lying_.back().row != row) {
      const std::string_view key = s_.key(row);
      lying_.push_back({row, index_.ids[row], key.data(), static_cast<std::int32_t>(key.size()), s_.file[row],
                        0, static_cast<std::uint32_t>(s_.part_start[row + 1] - s_.part_start[row])});
    }
    number_[i] = static_cast<std::uint32_t>(lying_.size() - 1);
  }
}

void Window::lay_out(const Place& place) {
  std::int64_t room = 0;
  for (Lying& sample : lying_) {
    room += index_.nbytes[sample.row];
    sample.piece = static_cast<std::uint32_t>(pieces_.size());
    std::int64_t begin = s_.offset[sample.row];
    for (std::int64_t p = s_.part_start[sample.row]; p < s_.part_start[sample.row + 1]; ++p) {
      if (s_.part_offset[p] < begin)
        throw DataError("the index does not list the parts of this sample in the order they lie in",
                        std::string(s_.key(sample.row)), s_.offset[sample.row],
                        index_.files[static_cast<std::size_t>(sample.file)]);
      const std::int64_t size = s_.part_size[p];
      unsigned char* const own = size >= kLarge ? place(size, s_.part_ext[p]) : nullptr;
      pieces_.push_back({own, nullptr, size, s_.part_ext[p]});
      if (own != nullptr) room -= size;
      begin = after(s_, p);
    }
  }
  buffer_ = buffers_->take(static_cast<std::size_t>(room));
  unsigned char* out = buffer_.data.get();
  const auto add = [this](unsigned char* at, std::int64_t n) {
    if (n == 0) return;
    const Range& range = ranges_.back();
    if (places_.size() > range.place) {
      iovec& last = places_.back();
      if (static_cast<unsigned char*>(last.iov_base) + last.iov_len == at) {
        last.iov_len += static_cast<std::size_t>(n);
        return;
      }
    }
    places_.push_back({at, static_cast<std::size_t>(n)});
  };
  std::int64_t previous_end = -1;
  for (std::size_t number = 0; number < lying_.size(); ++number) {
    const Lying& sample = lying_[number];
    const std::int64_t begin = s_.offset[sample.row], end = begin + index_.nbytes[sample.row];
    const bool joins = !ranges_.empty() && ranges_.back().file == sample.file && begin == previous_end &&
                       end - ranges_.back().offset <= kRange;
    if (!joins) ranges_.push_back({sample.file, begin, places_.size(), 0, number, number});
    previous_end = end;
    std::int64_t at = begin, header = begin, p = s_.part_start[sample.row];
    for (Piece* piece = &pieces_[sample.piece]; piece < &pieces_[sample.piece] + sample.pieces;
         ++piece, ++p) {
      const std::int64_t before = s_.part_offset[p] - at;
      piece->header = out + (header - at);
      add(out, before);
      out += before;
      if (piece->data != nullptr) {
        add(piece->data, piece->size);
      } else {
        piece->data = out;
        add(out, piece->size);
        out += piece->size;
      }
      at = s_.part_offset[p] + piece->size;
      header = after(s_, p);
    }
    add(out, end - at);
    out += end - at;
    ranges_.back().end = number + 1;
    ranges_.back().places = places_.size() - ranges_.back().place;
  }
}

void Window::read(const Range& range, const tar::Source& source) noexcept {
  tar::Count count;
  bool whole = true;
  try {
    read_places(range, source, &count);
  } catch (const std::exception&) {
    whole = false;
  }
  for (std::size_t number = range.begin; number < range.end; ++number) try {
      if (!whole) read_alone(number, source, &count);
      check(number, source);
    } catch (const DataError& error) {
      fail(number, error);
    } catch (const std::exception& error) {
      fail(number, DataError(error.what(), "", s_.offset[lying_[number].row]));
    }
  const std::lock_guard<std::mutex> lock(mutex_);
  count_.bytes += count.bytes;
  count_.requests += count.requests;
  ++done_;
}

void Window::read_places(const Range& range, const tar::Source& source, tar::Count* count) {
  std::vector<iovec> places(places_.begin() + static_cast<std::ptrdiff_t>(range.place),
                            places_.begin() + static_cast<std::ptrdiff_t>(range.place + range.places));
  std::int64_t offset = range.offset;
  for (std::size_t i = 0; i < places.size(); i += kPlaces) {
    const std::size_t n = std::min(places.size() - i, kPlaces);
    std::int64_t bytes = 0;
    for (std::size_t j = i; j < i + n; ++j) bytes += static_cast<std::int64_t>(places[j].iov_len);
    source.input->read(&places[i], static_cast<int>(n), offset, count);
    offset += bytes;
  }
}

// Where a neighbour cannot be read: each of its parts, with the headers in front of it, on its own.
void Window::read_alone(std::size_t number, const tar::Source& source, tar::Count* count) {
  const std::int64_t row = lying_[number].row, start = s_.part_start[row];
  for (std::int64_t p = start; p < s_.part_start[row + 1]; ++p) {
    const tar::Place place = place_of(s_, row, p);
    const Piece& piece = pieces_[lying_[number].piece + static_cast<std::size_t>(p - start)];
    try {
      source.input->read(piece.header, place.payload - place.begin, place.begin, count);
      source.input->read(piece.data, place.size, place.payload, count);
    } catch (const DataError& error) {
      throw DataError(error.what(), s_.name(row, p), error.offset, source.path);
    }
  }
}

void Window::check(std::size_t number, const tar::Source& source) {
  const std::int64_t row = lying_[number].row, start = s_.part_start[row];
  tar::Count none;  // all that it looks at is at hand
  for (std::int64_t p = start; p < s_.part_start[row + 1]; ++p) {
    const Piece& piece = pieces_[lying_[number].piece + static_cast<std::size_t>(p - start)];
    tar::check_known(source, place_of(s_, row, p), piece.header, &none);
  }
}

void Window::fail(std::size_t number, const DataError& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  errors_.emplace(number, error);
}

void Window::give_up(std::int32_t file, const DataError& error) {
  for (const Range& range : ranges_) {
    if (range.file != file) continue;
    for (std::size_t number = range.begin; number < range.end; ++number) fail(number, error);
    ++done_;
  }
}

tar::Count Window::count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return count_;
}

std::vector<std::pair<std::int64_t, DataError>> Window::errors() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::pair<std::int64_t, DataError>> found;
  if (errors_.empty()) return found;
  for (std::size_t i = 0; i < number_.size(); ++i)
    if (const auto error = errors_.find(number_[i]); error != errors_.end())
      found.emplace_back(static_cast<std::int64_t>(i), error->second);
  return found;
}

}  // namespace pyi::load
