// Where there is no libFuzzer: the same targets and mutations, a corpus that does not grow, no coverage.
//   driver [-runs=N] [-seed=N] [-max_len=N] [-artifact_prefix=P] FOLDER|FILE ...
// An input that ends the process is left in P + "crash".
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length);
extern "C" __attribute__((weak)) std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                                                     std::size_t max_size, unsigned seed);
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

std::minstd_rand byte_rng(1);
std::vector<std::uint8_t> input;
std::string artifact = "./";

void keep_input() {
  const int fd = open((artifact + "crash").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (fd < 0 || write(fd, input.data(), input.size()) < 0) std::perror("the input cannot be kept");
}

void on_abort(int) {
  keep_input();
  _exit(77);
}

std::vector<std::uint8_t> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string> files(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return {};
  if (!S_ISDIR(status.st_mode)) return {path};
  std::vector<std::string> names;
  DIR* folder = opendir(path.c_str());
  while (const dirent* entry = readdir(folder))
    if (entry->d_name[0] != '.') names.push_back(path + "/" + entry->d_name);
  closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size) {
  const auto any = [](std::size_t n) { return static_cast<std::size_t>(byte_rng()) % n; };
  for (std::size_t n = 1 + any(4); n > 0; --n) {
    if (size == 0) return max_size == 0 ? 0 : (data[0] = static_cast<std::uint8_t>(any(256)), 1);
    switch (any(5)) {
      case 0:
        data[any(size)] ^= static_cast<std::uint8_t>(1u << any(8));
        break;
      case 1:
        data[any(size)] = static_cast<std::uint8_t>(any(256));
        break;
      case 2:
        data[any(size)] = "\0\xff./0 =\n"[any(8)];
        break;
      case 3:
        size = any(16) == 0 ? any(size + 1) : size;
        break;
      case 4:
        if (size < max_size) {
          const std::size_t at = any(size);
          std::memmove(data + at + 1, data + at, size - at);
          ++size;
        }
        break;
    }
  }
  return size;
}

int main(int argc, char** argv) {
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  std::size_t runs = 0, max_len = 1 << 16;
  unsigned seed = 1;
  std::vector<std::vector<std::uint8_t>> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.rfind("-runs=", 0) == 0)
      runs = std::stoull(value);
    else if (argument.rfind("-seed=", 0) == 0)
      seed = static_cast<unsigned>(std::stoul(value));
    else if (argument.rfind("-max_len=", 0) == 0)
      max_len = std::stoull(value);
    else if (argument.rfind("-artifact_prefix=", 0) == 0)
      artifact = value;
    else if (argument[0] != '-')
      for (const std::string& path : files(argument)) corpus.push_back(read(path));
  }
  if (corpus.empty()) corpus.emplace_back();
  __sanitizer_set_death_callback(keep_input);
  std::signal(SIGABRT, on_abort);
  byte_rng.seed(seed);
  std::minstd_rand rng(seed);
  for (const auto& known : corpus) {
    input = known;
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::vector<std::uint8_t> room(max_len);
  for (std::size_t run = 0; run < runs; ++run) {
    const auto& from = corpus[rng() % corpus.size()];
    std::size_t size = std::min(from.size(), max_len);
    std::copy_n(from.begin(), size, room.begin());
    for (unsigned n = 1 + rng() % 4; n > 0; --n)
      size = LLVMFuzzerCustomMutator != nullptr
                 ? LLVMFuzzerCustomMutator(room.data(), size, max_len, static_cast<unsigned>(rng()))
                 : LLVMFuzzerMutate(room.data(), size, max_len);
    input.assign(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(size));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::fprintf(stderr, "Done %zu runs\n", runs + corpus.size());
}
