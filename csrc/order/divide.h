// Entries divided into buckets: ranges of keys, one after the other, none of which is more than the caches
// hold unless very many keys begin alike.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "order/entries.h"
#include "order/scatter.h"
#include "order/stretches.h"

namespace pyi::order {

constexpr std::size_t kInCache = std::size_t{1} << 15;  // entries; as many again is what sorting them takes

// Entries begin..end - 1, of keys low, low + 2^drop, low + 2 * 2^drop .. and what lies between: an entry says
// how many steps above `low` its key is, a number of `bits` bits.
template <class Key>
struct Bucket {
  std::size_t begin, end;
  Key low;
  int bits, drop;
  std::size_t size() const { return end - begin; }
};

// Writes n entries to `to`, bucket by bucket, those of a bucket in the order they came. key(i) and index(i)
// are the i-th entry's; keys are low .. low + 2^bits - 1, bits >= 1.
//
// The numbers of keys that begin alike say where to cut, so that buckets are nearly as large as each other
// also where keys crowd together, as those of floats do.
template <class E, class Key, class KeyAt, class IndexAt>
std::vector<Bucket<Key>> divide(const Stretches& stretches, std::size_t n, Key low, int bits,
                                const KeyAt& key, const IndexAt& index, Entries<E> to) {
  constexpr std::size_t kMostBuckets = 2048;  // twice as many if keys are very uneven
  constexpr int kMostLeading = 15, kEntryBits = sizeof(typename E::Key) * 8;
  const std::size_t enough = std::max(kInCache, n / kMostBuckets);
  const int leading = std::min({bits, kMostLeading, width_of(n / enough) + 5}), shift = bits - leading;
  const std::size_t beginnings = std::size_t{1} << leading;
  std::vector<std::vector<std::size_t>> counts(stretches.count());
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    std::vector<std::size_t> count(beginnings);
    for (std::size_t i = begin; i < end; ++i) ++count[static_cast<std::size_t>((key(i) - low) >> shift)];
    counts[t] = std::move(count);
  });

  std::vector<Bucket<Key>> buckets;
  std::vector<std::uint16_t> bucket_of(beginnings);
  Key first = 0;  // beginning of the last bucket
  for (std::size_t b = 0, place = 0; b < beginnings; ++b) {
    std::size_t here = 0;
    for (const auto& count : counts) here += count[b];
    if (here == 0) continue;
    if (buckets.empty() || buckets.back().size() >= enough || here >= enough) {
      first = static_cast<Key>(b);
      buckets.push_back({place, place, static_cast<Key>(low + (first << shift)), 0, 0});
    }
    place += here;
    Bucket<Key>& bucket = buckets.back();
    bucket.end = place;
    const int range = width_of(static_cast<Key>(((static_cast<Key>(b) - first + 1) << shift) - 1));
    bucket.drop = std::max(range - kEntryBits, 0);
    bucket.bits = range - bucket.drop;
    bucket_of[b] = static_cast<std::uint16_t>(buckets.size() - 1);
  }

  std::vector<std::vector<std::size_t>> places(stretches.count(), std::vector<std::size_t>(buckets.size()));
  std::vector<std::size_t> next;
  for (const Bucket<Key>& bucket : buckets) next.push_back(bucket.begin);
  for (std::size_t t = 0; t < counts.size(); ++t) {
    places[t] = next;
    for (std::size_t b = 0; b < beginnings; ++b) next[bucket_of[b]] += counts[t][b];
  }
  stretches.for_each([&](std::size_t t, std::size_t begin, std::size_t end) {
    const Bucket<Key>* const of_bucket = buckets.data();
    const std::uint16_t* const of_beginning = bucket_of.data();
    const auto of = [=, &key, &index](std::size_t i) {
      const Key here = key(i);
      const std::size_t b = of_beginning[static_cast<std::size_t>((here - low) >> shift)];
      const Key steps = (here - of_bucket[b].low) >> of_bucket[b].drop;
      return std::pair<std::size_t, E>(
          b, E{static_cast<typename E::Key>(steps), static_cast<typename E::Index>(index(i))});
    };
    scatter<E>(begin, end, of, std::move(places[t]), to.data());
  });
  return buckets;
}

}  // namespace pyi::order
