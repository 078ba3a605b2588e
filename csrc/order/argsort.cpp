// Most significant digits first by one pass through memory, the rest within the caches.
//
// One pass over the values finds the bits that there are to sort by: without those that all keys have in
// common at the low end, and no more than the largest difference takes. Where those are few, one counting
// pass is all (sort_few). Else entries (key, position) are divided into buckets of nearly equal size
// (divide.h), by all threads together, and each bucket is sorted, least significant digit first, by one
// thread in its cache (cached.h). Entries have 32 bits for a key: what of a longer one is beyond the bits
// that its bucket has in common, the highest 32; of entries that are equal in these the rest is looked up and
// sorted by as well. Buckets too large for that, where very many keys begin alike, are divided again by what
// their keys span. Not for short keys in long records.
#include "order/argsort.h"

#include <atomic>
#include <limits>
#include <utility>
#include <vector>

#include "order/cached.h"
#include "order/divide.h"
#include "order/narrow.h"
#include "order/scatter.h"
#include "order/stretches.h"
#include "order/workspace.h"

namespace pyi::order {
namespace {

constexpr int kFewBits = 11;

// By keys of at most kFewBits: counts, then writes each position where it belongs.
template <class T>
void sort_few(const T* values, const Narrow<T>& narrow, const Stretches& stretches, ConstPositions carried,
              Positions order) {
  std::vector<std::vector<std::size_t>> places(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    std::vector<std::size_t> counts(std::size_t{1} << narrow.bits());
    for (std::size_t i = begin; i < end; ++i) ++counts[static_cast<std::size_t>(narrow(values[i]))];
    places[t] = std::move(counts);
  });
  std::size_t place = 0;
  for (std::size_t b = 0; b < places[0].size(); ++b)
    for (auto& of_stretch : places) place += std::exchange(of_stretch[b], place);
  const auto write = [&](auto item) {
    using Item = decltype(item);
    stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
      const auto of = [=](std::size_t i) {
        return std::pair<std::size_t, Item>(narrow(values[i]), static_cast<Item>(carried[i]));
      };
      scatter<Item>(begin, end, of, std::move(places[t]), order.data);
    });
  };
  if (order.wide) return write(std::int64_t{});
  write(std::uint32_t{});
}

template <class E, class T>
class Sorter {
 public:
  using Key = KeyOf<T>;
  using Buckets = std::vector<Bucket<Key>>;

  Sorter(const T* values, const Narrow<T>& narrow, int threads, ConstPositions carried, Positions order,
         T* sorted)
      : values_(values),
        narrow_(narrow),
        threads_(threads),
        carried_(carried),
        order_(order),
        sorted_(sorted) {}

  // Of n values; `to` has room for as many entries, and may be where `order` is.
  void sort(std::size_t n, const Stretches& stretches, Entries<E> to) const {
    if (n <= 4 * kInCache) {  // as quick undivided
      const int bits = narrow_.bits(),
                drop = std::max(bits - static_cast<int>(sizeof(typename E::Key)) * 8, 0);
      for (std::size_t i = 0; i < n; ++i) {
        const Key steps = narrow_(values_[i]) >> drop;
        to.set(i, {static_cast<typename E::Key>(steps), static_cast<typename E::Index>(i)});
      }
      return finish({{0, n, 0, bits - drop, drop}}, to, Entries<E>(nullptr), 0);
    }
    const auto key = [this](std::size_t i) { return narrow_(values_[i]); };
    const auto index = [](std::size_t i) { return i; };
    finish(divide<E, Key>(stretches, n, 0, narrow_.bits(), key, index, to), to, Entries<E>(nullptr), 0);
  }

 private:
  // Sorts each bucket of `entries`, the ranks from `rank` on. `other` has room for as many, or is null.
  void finish(const Buckets& buckets, Entries<E> entries, Entries<E> other, std::size_t rank) const {
    const std::size_t most = std::max(8 * kInCache, (buckets.back().end - buckets[0].begin) / 256);
    std::size_t largest = 0;
    for (const Bucket<Key>& bucket : buckets) {
      if (bucket.size() <= most) largest = std::max(largest, bucket.size());
    }
    std::atomic<std::size_t> next{0};
    parallel_for(threads_, threads_, [&](std::int64_t, std::int64_t) {
      const Workspace spare(largest * sizeof(E));
      for (std::size_t b = next++; b < buckets.size(); b = next++) {
        if (buckets[b].size() > most) continue;
        const Entries<E> room(spare.data());
        const Bucket<Key>& bucket = buckets[b];
        const Entries<E> mine = entries.from(bucket.begin);
        const Entries<E> done = sort_cached(mine, room, bucket.size(), bucket.bits);
        if (bucket.drop > 0) refine(bucket, done, done.data() == room.data() ? mine : room);
        write(bucket, done, rank + bucket.begin, 0, bucket.size());
      }
    });
    for (const Bucket<Key>& bucket : buckets) {
      if (bucket.size() <= most) continue;
      const Entries<E> room(other.data() == nullptr ? nullptr : other.from(bucket.begin).data());
      sort_large(bucket, entries.from(bucket.begin), room, rank + bucket.begin);
    }
  }

  // Entries that are in the order of their keys, also by the bits dropped from these.
  void refine(const Bucket<Key>& bucket, Entries<E> entries, Entries<E> spare) const {
    for (std::size_t i = 0, j; i < bucket.size(); i = j) {
      const auto key = entries[i].key;
      for (j = i + 1; j < bucket.size() && entries[j].key == key;) ++j;
      if (j == i + 1) continue;
      look_up(bucket, entries, i, j);
      const Entries<E> run = entries.from(i), done = sort_cached(run, spare, j - i, bucket.drop);
      if (done.data() != run.data()) std::memcpy(run.data(), done.data(), (j - i) * sizeof(E));
    }
  }

  // Makes the bits that were dropped the keys of entries begin..end - 1, which are equal in all others.
  void look_up(const Bucket<Key>& bucket, Entries<E> entries, std::size_t begin, std::size_t end) const {
    const Key dropped = (Key{1} << bucket.drop) - 1;
    for (std::size_t i = begin; i < end; ++i) {
      E entry = entries[i];
      const Key steps = narrow_(values_[entry.index]) - bucket.low;
      entry.key = static_cast<typename E::Key>(steps & dropped);
      entries.set(i, entry);
    }
  }

  // A bucket that is divided once more, or all equal.
  void sort_large(const Bucket<Key>& bucket, Entries<E> entries, Entries<E> other, std::size_t rank) const {
    using Short = typename E::Key;
    const Stretches stretches(bucket.size(), threads_);
    const auto key = [=](std::size_t i) { return entries[i].key; };
    const Span<Short> span = span_of<Short>(
        stretches, [=](Span<Short>& seen, std::size_t i) { seen.add({key(i), key(i), 0, 0, false}); });
    const Short low = span.low, high = span.high;
    if (low == high && bucket.drop > 0) {
      stretches.for_each(
          [&](std::size_t, std::size_t begin, std::size_t end) { look_up(bucket, entries, begin, end); });
      const Key base = bucket.low + (static_cast<Key>(low) << bucket.drop);
      return sort_large({0, bucket.size(), base, bucket.drop, 0}, entries, other, rank);
    }
    if (low == high) {
      return stretches.for_each(
          [&](std::size_t, std::size_t begin, std::size_t end) { write(bucket, entries, rank, begin, end); });
    }
    const Workspace room(other.data() == nullptr ? bucket.size() * sizeof(E) : 0);
    const Entries<E> to = other.data() == nullptr ? Entries<E>(room.data()) : other;
    const auto index = [=](std::size_t i) { return entries[i].index; };
    Buckets parts;
    for (const Bucket<Short>& part :
         divide<E, Short>(stretches, bucket.size(), low, width_of<Short>(high - low), key, index, to)) {
      const Key base = bucket.low + (static_cast<Key>(part.low) << bucket.drop);
      parts.push_back({part.begin, part.end, base, part.bits, bucket.drop});
    }
    finish(parts, to, entries, rank);  // which holds nothing any more
  }

  // What entries begin..end - 1 of a bucket say goes to ranks rank + begin and on.
  void write(const Bucket<Key>& bucket, Entries<E> entries, std::size_t rank, std::size_t begin,
             std::size_t end) const {
    for (std::size_t i = begin; i < end; ++i) {
      const E entry = entries[i];
      order_.set(rank + i, carried_[entry.index]);
      if (sorted_ == nullptr) continue;
      const Key key = bucket.low + static_cast<Key>(entry.key);
      sorted_[rank + i] =
          bucket.drop == 0 && narrow_.tells(key) ? narrow_.value_of(key) : values_[entry.index];
    }
  }

  const T* values_;
  const Narrow<T>& narrow_;
  int threads_;
  ConstPositions carried_;
  Positions order_;
  T* sorted_;
};

template <class E, class T>
void sort_many(const T* values, std::size_t n, const Narrow<T>& narrow, const Stretches& stretches,
               ConstPositions carried, Positions order, T* sorted) {
  const bool lent = order.wide && sizeof(E) == sizeof(std::int64_t) && sorted == nullptr;
  const Workspace room(lent ? 0 : n * sizeof(E));
  const Sorter<E, T> sorter(values, narrow, static_cast<int>(stretches.count()), carried, order, sorted);
  sorter.sort(n, stretches, Entries<E>(lent ? order.data : room.data()));
}

}  // namespace

template <class T>
void argsort(const T* values, std::size_t n, const Sorting& how, ConstPositions carried, Positions order,
             T* sorted) {
  if (n == 0) return;
  const Stretches stretches(n, how.threads);
  const Narrow<T> narrow(span_of(values, how.descending, stretches), how.descending);
  if (narrow.bits() <= kFewBits) {
    sort_few(values, narrow, stretches, carried, order);
    if (sorted == nullptr) return;
    constexpr bool wide = sizeof(T) == sizeof(std::int64_t);
    sort_few(values, narrow, stretches, {values, wide}, {sorted, wide});  // they carry themselves
  } else if (!how.wide && n <= std::numeric_limits<std::uint32_t>::max()) {
    sort_many<Entry<std::uint32_t, std::uint32_t>>(values, n, narrow, stretches, carried, order, sorted);
  } else {
    sort_many<Entry<std::uint64_t, std::uint64_t>>(values, n, narrow, stretches, carried, order, sorted);
  }
}

template void argsort(const float*, std::size_t, const Sorting&, ConstPositions, Positions, float*);
template void argsort(const double*, std::size_t, const Sorting&, ConstPositions, Positions, double*);
template void argsort(const std::int32_t*, std::size_t, const Sorting&, ConstPositions, Positions,
                      std::int32_t*);
template void argsort(const std::int64_t*, std::size_t, const Sorting&, ConstPositions, Positions,
                      std::int64_t*);
template void argsort(const std::uint32_t*, std::size_t, const Sorting&, ConstPositions, Positions,
                      std::uint32_t*);
template void argsort(const std::uint64_t*, std::size_t, const Sorting&, ConstPositions, Positions,
                      std::uint64_t*);

}  // namespace pyi::order
