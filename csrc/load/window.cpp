#include "load/window.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
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

// Where in the scratch memory, or in the buffer, what belongs to a part is read to.
struct Window::Spot {
  std::int64_t header;   // what lies in front of it, from where the part before ends with its padding
  std::int64_t payload;  // unless that is read where it stays; then, what follows it
};

Window::Window(const Index& index, const std::int64_t* rows, std::int64_t n, const Place& place,
               bool as_it_lies, Buffers* buffers)
    : index_(index), s_(index.samples), as_it_lies_(as_it_lies) {
  lay_out(arrange(rows, static_cast<std::size_t>(n)), place, buffers);
}

// Rows in order of storage, each once: that of an index, if it is in that order, as those of shards are.
// Returns the first sample of each.
std::vector<std::uint32_t> Window::arrange(const std::int64_t* rows, std::size_t n) {
  std::vector<std::uint32_t> order(n), first;
  order::argsort(rows, n, {false, 1, false}, {nullptr, false}, {order.data(), false});
  const auto before = [&](std::uint32_t i, std::uint32_t j) {
    const std::int64_t a = rows[i], b = rows[j];
    return s_.file[a] != s_.file[b] ? s_.file[a] < s_.file[b] : s_.offset[a] < s_.offset[b];
  };
  if (!std::is_sorted(order.begin(), order.end(), before))
    std::stable_sort(order.begin(), order.end(), before);
  number_.resize(n);
  lying_.reserve(n);
  first.reserve(n);
  for (const std::uint32_t i : order) {
    const std::int64_t row = rows[i];
    if (lying_.empty() || lying_.back().row != row) {
      const std::string_view key = s_.key(row);
      lying_.push_back({row, index_.ids[row], key.data(), static_cast<std::int32_t>(key.size()), s_.file[row],
                        0, static_cast<std::uint32_t>(s_.part_start[row + 1] - s_.part_start[row])});
      first.push_back(i);
    }
    number_[i] = static_cast<std::uint32_t>(lying_.size() - 1);
  }
  return first;
}

void Window::lay_out(const std::vector<std::uint32_t>& first, const Place& place, Buffers* buffers) {
  std::int64_t previous_end = -1;
  for (std::size_t number = 0; number < lying_.size(); ++number) {
    Lying& sample = lying_[number];
    sample.piece = static_cast<std::uint32_t>(pieces_.size());
    const std::int64_t offset = s_.offset[sample.row];
    std::int64_t begin = offset;
    for (std::int64_t p = s_.part_start[sample.row]; p < s_.part_start[sample.row + 1]; ++p) {
      if (s_.part_offset[p] < begin)
        throw DataError("the index does not list the parts of this sample in the order they lie in",
                        std::string(s_.key(sample.row)), offset,
                        index_.files[static_cast<std::size_t>(sample.file)]);
      const std::int64_t size = s_.part_size[p];
      unsigned char* const own = place(first[number], size, s_.part_ext[p]);
      pieces_.push_back({own, size, s_.part_ext[p], own != nullptr});
      begin = after(s_, p);
    }
    const std::int64_t end = offset + index_.nbytes[sample.row];
    const bool joins = !ranges_.empty() && ranges_.back().file == sample.file && offset == previous_end &&
                       end - ranges_.back().offset <= kRange;
    if (!joins) ranges_.push_back({sample.file, offset, number, number, 0});
    ranges_.back().end = number + 1;
    previous_end = end;
  }
  place_in_buffer(buffers);
}

void Window::place_in_buffer(Buffers* buffers) {
  std::vector<std::int64_t> places;  // of the pieces, of those that go elsewhere as well
  places.reserve(pieces_.size());
  std::int64_t room = 0;
  if (as_it_lies_) {
    for (Range& range : ranges_) {
      range.kept = room;
      for (std::size_t number = range.begin; number < range.end; ++number)
        room = each_part(number, room, [&](const Piece&, std::int64_t, const Spot& spot) {
          places.push_back(spot.payload);
        });
    }
  } else {
    for (const Piece& piece : pieces_) {
      places.push_back(room);
      if (!piece.own) room += piece.size;
    }
  }
  buffer_ = buffers->take(static_cast<std::size_t>(room));
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    if (!pieces_[i].own) pieces_[i].data = buffer_.data.get() + places[i];
}

// f(piece, part, spot) for the parts of a sample whose bytes go to the scratch memory from `at` on; returns
// where those of the next one do.
template <class F>
std::int64_t Window::each_part(std::size_t number, std::int64_t at, const F& f) const {
  const Lying& sample = lying_[number];
  const std::int64_t offset = s_.offset[sample.row];
  std::int64_t from = offset, header = offset, p = s_.part_start[sample.row];
  const Piece* const pieces = &pieces_[sample.piece];
  for (const Piece* piece = pieces; piece < pieces + sample.pieces; ++piece, ++p) {
    const Spot spot{at + header - from, at + s_.part_offset[p] - from};
    f(*piece, p, spot);
    at = spot.payload + (is_direct(*piece) ? 0 : piece->size);
    from = s_.part_offset[p] + piece->size;
    header = after(s_, p);
  }
  return at + offset + index_.nbytes[sample.row] - from;
}

void Window::read(const Range& range, const tar::Source& source, Buffer* scratch) noexcept {
  tar::Count count;
  bool whole = true;
  unsigned char* from = nullptr;
  try {
    from = room_for(range, scratch);
    read_whole(range, source, from, &count);
  } catch (const std::exception&) {
    whole = false;
  }
  std::int64_t at = 0;
  for (std::size_t number = range.begin; number < range.end; ++number) {
    const std::int64_t row = lying_[number].row, begin = at;
    tar::Count none;  // all that is checked is at hand
    try {
      at = each_part(number, at, [](const Piece&, std::int64_t, const Spot&) {});
      if (from == nullptr) throw std::bad_alloc();
      if (!whole) read_alone(number, begin, source, from, &count);
      each_part(number, begin, [&](const Piece& piece, std::int64_t p, const Spot& spot) {
        tar::check_known(source, place_of(s_, row, p), from + spot.header, &none);
        if (!is_direct(piece) && piece.data != from + spot.payload)
          std::memcpy(piece.data, from + spot.payload, static_cast<std::size_t>(piece.size));
      });
    } catch (const DataError& error) {
      fail(number, error);
    } catch (const std::exception& error) {
      fail(number, DataError(error.what(), "", s_.offset[row]));
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  count_.bytes += count.bytes;
  count_.requests += count.requests;
  ++done_;
}

// Where what of a range is not read to where it stays is read to.
unsigned char* Window::room_for(const Range& range, Buffer* scratch) const {
  if (as_it_lies_) return buffer_.data.get() + range.kept;
  std::int64_t room = 0;
  for (std::size_t number = range.begin; number < range.end; ++number)
    room = each_part(number, room, [](const Piece&, std::int64_t, const Spot&) {});
  if (scratch->data == nullptr || scratch->capacity < static_cast<std::size_t>(room)) {
    *scratch = {};  // frees it first
    *scratch = allocate(static_cast<std::size_t>(room));
  }
  return scratch->data.get();
}

void Window::read_whole(const Range& range, const tar::Source& source, unsigned char* scratch,
                        tar::Count* count) const {
  std::vector<iovec> places;
  std::int64_t begun = 0, at = 0;
  const auto end_run = [&](std::int64_t end) {
    if (end > begun) places.push_back({scratch + begun, static_cast<std::size_t>(end - begun)});
    begun = end;
  };
  for (std::size_t number = range.begin; number < range.end; ++number)
    at = each_part(number, at, [&](const Piece& piece, std::int64_t, const Spot& spot) {
      if (!is_direct(piece)) return;
      end_run(spot.payload);
      places.push_back({piece.data, static_cast<std::size_t>(piece.size)});
    });
  end_run(at);
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
void Window::read_alone(std::size_t number, std::int64_t at, const tar::Source& source,
                        unsigned char* scratch, tar::Count* count) const {
  const std::int64_t row = lying_[number].row;
  each_part(number, at, [&](const Piece& piece, std::int64_t p, const Spot& spot) {
    const tar::Place place = place_of(s_, row, p);
    unsigned char* const payload = is_direct(piece) ? piece.data : scratch + spot.payload;
    try {
      source.input->read(scratch + spot.header, place.payload - place.begin, place.begin, count);
      source.input->read(payload, place.size, place.payload, count);
    } catch (const DataError& error) {
      throw DataError(error.what(), s_.name(row, p), error.offset, source.path);
    }
  });
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
