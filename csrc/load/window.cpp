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

// Whether two stretches of a file, the first of which ends there, are read together.
bool joins(std::int64_t end, std::int64_t begin, std::int64_t join) {
  constexpr std::int64_t page = Window::kPage;
  if (begin <= end || join < 0) return begin == end;
  return begin - end < join || begin / page <= (end + page - 1) / page;
}

void make_room(std::int64_t n, Buffer* buffer) {
  const auto bytes = static_cast<std::size_t>(n);
  if (buffer->data != nullptr && buffer->capacity >= bytes) return;
  *buffer = {};  // frees it first
  *buffer = allocate(bytes);
}

}  // namespace

// Where in the scratch memory, or in the buffer, what belongs to a part is read to.
struct Window::Spot {
  std::int64_t header;   // what lies in front of it, from where the part before ends with its padding
  std::int64_t payload;  // unless that is read where it stays; then, what follows it
};

Window::Window(const Index& index, const std::int64_t* rows, std::int64_t n, std::int64_t join,
               const Place& place, bool as_it_lies, Buffers* buffers)
    : index_(index), s_(index.samples), as_it_lies_(as_it_lies) {
  lay_out(arrange(rows, static_cast<std::size_t>(n)), join, place);
  place_in_buffer(buffers);
}

std::int64_t Window::header_of(std::int64_t row, std::int64_t part) const {
  if (index_.part_begin != nullptr) return index_.part_begin[part];
  return part == s_.part_start[row] ? s_.offset[row] : after(s_, part - 1);
}

tar::Place Window::place_of(std::int64_t row, std::int64_t part) const {
  tar::Place place{s_.key(row), s_.extension(part), header_of(row, part), s_.part_offset[part],
                   s_.part_size[part]};
  if (index_.name_offsets != nullptr) {
    const std::int64_t from = index_.name_offsets[part];
    const std::string_view name(index_.name_text + from,
                                static_cast<std::size_t>(index_.name_offsets[part + 1] - from));
    const std::size_t folder = name.rfind('/'), dot = name.find('.', folder + 1);  // npos + 1 is 0
    place.key = name.substr(0, dot);
    place.extension = dot < name.size() ? name.substr(dot + 1) : std::string_view();
  }
  return place;
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

void Window::lay_out(const std::vector<std::uint32_t>& first, std::int64_t join, const Place& place) {
  for (std::size_t number = 0; number < lying_.size(); ++number) {
    Lying& sample = lying_[number];
    sample.piece = static_cast<std::uint32_t>(pieces_.size());
    const std::int64_t offset = s_.offset[sample.row];
    std::int64_t begin = offset, end = offset;  // of parts that are read together; where the last one ends
    std::uint32_t piece = sample.piece;         // the first of them
    for (std::int64_t p = s_.part_start[sample.row]; p < s_.part_start[sample.row + 1]; ++p) {
      const std::int64_t header = header_of(sample.row, p);
      if (header < end || s_.part_offset[p] < header)
        throw DataError("the index does not list the parts of this sample in the order they lie in",
                        std::string(s_.key(sample.row)), offset,
                        index_.files[static_cast<std::size_t>(sample.file)]);
      const auto at = static_cast<std::uint32_t>(pieces_.size());
      if (at > piece && !joins(end, header, join)) {
        add_to_ranges(number, piece, begin, end, join);
        begin = header;
        piece = at;
      }
      const std::int64_t size = s_.part_size[p];
      unsigned char* const own = place(first[number], size, s_.part_ext[p]);
      pieces_.push_back({own, size, s_.part_ext[p], own != nullptr});
      end = after(s_, p);
    }
    add_to_ranges(number, piece, begin, end_of(number), join);
  }
}

// The bytes from `begin` to `end`, in which the pieces from `piece` to the latest one lie.
void Window::add_to_ranges(std::size_t number, std::uint32_t piece, std::int64_t begin, std::int64_t end,
                           std::int64_t join) {
  const std::int32_t file = lying_[number].file;
  const bool is_one = !ranges_.empty() && ranges_.back().file == file &&
                      joins(ranges_.back().offset + ranges_.back().nbytes, begin, join) &&
                      end - ranges_.back().offset <= kRange;
  if (!is_one) ranges_.push_back({file, begin, 0, number, number, piece});
  Range& range = ranges_.back();
  range.nbytes = end - range.offset;
  range.end = number + 1;
  range.piece_end = static_cast<std::uint32_t>(pieces_.size());
}

std::vector<std::pair<std::int64_t, std::int64_t>> Window::spans(std::int32_t file) const {
  std::vector<std::pair<std::int64_t, std::int64_t>> spans;
  for (const Range& range : ranges_) {
    if (range.file != file) continue;
    const std::int64_t end = range.offset + range.nbytes;
    if (!spans.empty() && range.offset <= spans.back().second)
      spans.back().second = std::max(spans.back().second, end);
    else
      spans.emplace_back(range.offset, end);
  }
  return spans;
}

void Window::place_in_buffer(Buffers* buffers) {
  std::vector<std::int64_t> places;  // of the pieces, of those that go elsewhere as well
  places.reserve(pieces_.size());
  std::int64_t room = 0;
  if (as_it_lies_) {
    for (Range& range : ranges_) {
      range.kept = room;
      for (std::size_t number = range.begin; number < range.end; ++number)
        room = each_part(range, number, room, [&](const Piece&, std::int64_t, const Spot& spot) {
          places.push_back(spot.payload);
        });
    }
  } else {
    for (const Piece& piece : pieces_) {
      places.push_back(room);
      if (!piece.own) room += piece.size;
    }
  }
  buffer_ = buffers->take(static_cast<std::size_t>(room), as_it_lies_);
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    if (!pieces_[i].own) pieces_[i].data = buffer_.data.get() + places[i];
}

// f(piece, part, spot) for the parts of a sample that lie in a range, whose bytes go to the scratch memory
// from `at` on; returns where those of the next one do.
template <class F>
std::int64_t Window::each_part(const Range& range, std::size_t number, std::int64_t at, const F& f) const {
  const Lying& sample = lying_[number];
  const std::uint32_t all = sample.piece + sample.pieces;
  const std::uint32_t first = std::max(sample.piece, range.piece), end = std::min(all, range.piece_end);
  std::int64_t p = s_.part_start[sample.row] + (first - sample.piece);
  std::int64_t from = first == sample.piece ? s_.offset[sample.row] : header_of(sample.row, p);
  for (std::uint32_t i = first; i < end; ++i, ++p) {
    const Piece& piece = pieces_[i];
    const Spot spot{at + header_of(sample.row, p) - from, at + s_.part_offset[p] - from};
    f(piece, p, spot);
    at = spot.payload + (is_direct(piece) ? 0 : piece.size);
    from = s_.part_offset[p] + piece.size;
  }
  at += (end == all ? end_of(number) : after(s_, p - 1)) - from;
  return as_it_lies_ ? at : at + gap_after(range, number);
}

std::int64_t Window::end_of(std::size_t number) const {
  const std::int64_t row = lying_[number].row;
  return s_.offset[row] + index_.nbytes[row];
}

// What lies between a sample of a range and the next one, which is read and not wanted. It goes to the
// scratch memory, all of a range's to the same place where ranges stay; nothing of it stays with them.
std::int64_t Window::gap_after(const Range& range, std::size_t number) const {
  return number + 1 < range.end ? s_.offset[lying_[number + 1].row] - end_of(number) : 0;
}

void Window::read(const Range& range, const tar::Source& source, Buffer* scratch) noexcept {
  tar::Count count;
  bool whole = true;
  unsigned char* from = nullptr;
  try {
    from = room_for(range, scratch);
    read_whole(range, source, from, scratch->data.get(), &count);
  } catch (const std::exception&) {
    whole = false;
  }
  std::int64_t at = 0;
  for (std::size_t number = range.begin; number < range.end; ++number) {
    const std::int64_t row = lying_[number].row, begin = at;
    tar::Count none;  // all that is checked is at hand
    try {
      at = each_part(range, number, at, [](const Piece&, std::int64_t, const Spot&) {});
      if (from == nullptr) throw std::bad_alloc();
      if (!whole) read_alone(range, number, begin, source, from, &count);
      each_part(range, number, begin, [&](const Piece& piece, std::int64_t p, const Spot& spot) {
        tar::check_known(source, place_of(row, p), from + spot.header, &none);
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

// Where what of a range is not read to where it stays is read to; the scratch memory has room for that, or,
// where ranges stay in the buffer, for the largest gap.
unsigned char* Window::room_for(const Range& range, Buffer* scratch) const {
  std::int64_t room = 0;
  for (std::size_t number = range.begin; number < range.end; ++number)
    room = as_it_lies_ ? std::max(room, gap_after(range, number))
                       : each_part(range, number, room, [](const Piece&, std::int64_t, const Spot&) {});
  if (!as_it_lies_ || room > 0) make_room(room, scratch);
  return as_it_lies_ ? buffer_.data.get() + range.kept : scratch->data.get();
}

void Window::read_whole(const Range& range, const tar::Source& source, unsigned char* to, unsigned char* gaps,
                        tar::Count* count) const {
  std::vector<iovec> places;
  std::int64_t begun = 0, at = 0;
  const auto end_run = [&](std::int64_t end) {
    if (end > begun) places.push_back({to + begun, static_cast<std::size_t>(end - begun)});
    begun = end;
  };
  for (std::size_t number = range.begin; number < range.end; ++number) {
    at = each_part(range, number, at, [&](const Piece& piece, std::int64_t, const Spot& spot) {
      if (!is_direct(piece)) return;
      end_run(spot.payload);
      places.push_back({piece.data, static_cast<std::size_t>(piece.size)});
    });
    if (const auto gap = static_cast<std::size_t>(gap_after(range, number)); as_it_lies_ && gap > 0) {
      end_run(at);
      places.push_back({gaps, gap});
    }
  }
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
void Window::read_alone(const Range& range, std::size_t number, std::int64_t at, const tar::Source& source,
                        unsigned char* scratch, tar::Count* count) const {
  const std::int64_t row = lying_[number].row;
  each_part(range, number, at, [&](const Piece& piece, std::int64_t p, const Spot& spot) {
    const tar::Place place = place_of(row, p);
    unsigned char* const payload = is_direct(piece) ? piece.data : scratch + spot.payload;
    try {
      source.input->read(scratch + spot.header, place.payload - place.begin, place.begin, count);
      source.input->read(payload, place.size, place.payload, count);
    } catch (const DataError& error) {
      throw DataError(error.what(), std::string(place.key).append(1, '.').append(place.extension),
                      error.offset, source.path);
    }
  });
}

void Window::fail(std::size_t number, const DataError& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto [known, is_first] = errors_.emplace(number, error);
  // Of parts that are read apart, the first one's error, whichever thread comes first.
  if (!is_first && error.offset < known->second.offset) known->second = error;
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
