// Entries that a sort moves about: a key, and the number of what it is the key of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pyi::order {

template <class KeyType, class IndexType>
struct Entry {
  using Key = KeyType;
  using Index = IndexType;
  Key key;
  Index index;
};

// An array of them in raw memory: what holds the result lends itself before it does.
template <class E>
class Entries {
 public:
  explicit Entries(void* data) : data_(static_cast<unsigned char*>(data)) {}
  E operator[](std::size_t i) const {
    E entry;
    std::memcpy(&entry, data_ + i * sizeof(E), sizeof(E));
    return entry;
  }
  void set(std::size_t i, E entry) const { std::memcpy(data_ + i * sizeof(E), &entry, sizeof(E)); }
  void* data() const { return data_; }
  Entries from(std::size_t i) const { return Entries(data_ + i * sizeof(E)); }

 private:
  unsigned char* data_;
};

// How many bits it takes to write a number.
template <class Key>
int width_of(Key number) {
  int width = 0;
  while (width < static_cast<int>(sizeof(Key)) * 8 && (number >> width) != 0) ++width;
  return width;
}

}  // namespace pyi::order
