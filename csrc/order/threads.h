// A loop over parts, each on its own thread.
#pragma once

#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace pyi::order {

// Calls part(0) .. part(count - 1), each once, and returns when all have returned. part must not throw. The
// calling thread takes part 0 and those for which the system grants no thread.
template <class Part>
void for_each_part(int count, const Part& part) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(count));
  int next = 1;
  try {
    for (; next < count; ++next) threads.emplace_back([&part, next] { part(next); });
  } catch (const std::system_error&) {
    for (; next < count; ++next) part(next);
  }
  part(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace pyi::order
