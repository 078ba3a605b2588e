// Mutations that know what a tar is: fields of headers, whole blocks, and then checksums that fit, without
// which nothing behind a header would ever be looked at. Both drivers call this for every new input.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

constexpr std::size_t kBlock = 512;

struct Field {
  std::size_t at, length;
};
constexpr Field kFields[] = {{0, 100}, {124, 12}, {156, 1}, {257, 8}, {345, 155}};
const char* const kValues[] = {"a.x",
                               "a.y",
                               "../a.x",
                               "/a.x",
                               "__m__",
                               "d/",
                               "00000000000",
                               "00000000001",
                               "00000001000",
                               "77777777777",
                               "0",
                               "5",
                               "x",
                               "g",
                               "L",
                               "K",
                               "1",
                               "S",
                               "V",
                               "ustar",
                               "\x80\1\1\1\1",
                               "18 path=b.y\n",
                               "30 size=1\n",
                               "\xff\xff\xff\xff"};

bool is_header(const std::uint8_t* block) { return std::memcmp(block + 257, "ustar", 5) == 0; }

void fix_checksum(std::uint8_t* block) {
  std::memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) sum += block[i];
  for (int i = 5; i >= 0; --i, sum >>= 3) block[148 + i] = static_cast<std::uint8_t>('0' + (sum & 7));
  block[154] = 0;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  std::minstd_rand rng(seed);
  // The second target puts four bytes before its tars, the third eight before its text.
  const std::size_t lead = size % kBlock < 16 ? size % kBlock : 0;
  const std::size_t blocks = (size - lead) / kBlock;
  std::uint8_t* const tar = data + lead;
  const auto block = [&] { return tar + rng() % blocks * kBlock; };
  switch (blocks == 0 ? 0 : rng() % 6) {
    case 0:
      size = LLVMFuzzerMutate(data, size, max_size);
      break;
    case 1:
    case 2: {
      const Field f = kFields[rng() % (sizeof kFields / sizeof *kFields)];
      const char* value = kValues[rng() % (sizeof kValues / sizeof *kValues)];
      std::uint8_t* at = block() + f.at;
      std::memset(at, 0, f.length);
      std::memcpy(at, value, std::min(std::strlen(value), f.length));
      break;
    }
    case 3: {
      std::uint8_t *const a = block(), *const b = block();
      if (a != b) std::swap_ranges(a, a + kBlock, b);
      break;
    }
    case 4:
      std::memmove(block(), block(), kBlock);
      break;
    case 5:
      if (size + kBlock <= max_size) {
        std::uint8_t* at = block();
        std::memmove(at + kBlock, at, static_cast<std::size_t>(data + size - at));
        size += kBlock;
      } else {
        size -= kBlock;
      }
      break;
  }
  if (rng() % 8 != 0)
    for (std::size_t at = lead; at + kBlock <= size; at += kBlock)
      if (is_header(data + at)) fix_checksum(data + at);
  return size;
}
