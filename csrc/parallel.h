// Splits a loop over threads, statically: who computes what never changes what is computed.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

namespace pyi {

// Whether any unit of work is worth a thread, for tests that look at threads. PYIMPORTANCE_EVERY_THREAD=1
// says so from the start.
inline std::atomic<bool> every_thread = [] {
  const char* text = std::getenv("PYIMPORTANCE_EVERY_THREAD");
  return text != nullptr && *text == '1';
}();

// How many of at most `threads` threads are worth starting for `work` units, when a thread is worth `grain`.
inline int useful_threads(int threads, std::int64_t work, std::int64_t grain) {
  if (every_thread.load(std::memory_order_relaxed)) grain = 1;
  return static_cast<int>(std::clamp<std::int64_t>(work / grain, 1, std::max(threads, 1)));
}

// Calls f(begin, end) for `threads` consecutive, nearly equal parts of [0, n), the first part here. Where
// some throw, the exception of the first of them arrives here, after all have ended.
template <class F>
void parallel_for(std::int64_t n, int threads, const F& f) {
  if (threads <= 1 || n <= 1) {
    if (n > 0) f(std::int64_t{0}, n);
    return;
  }
  const std::int64_t parts = std::min<std::int64_t>(threads, n);
  const auto start = [=](std::int64_t part) { return n / parts * part + std::min(part, n % parts); };
  std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(parts));
  const auto run = [&](std::int64_t part, std::int64_t end) noexcept {
    try {
      f(start(part), start(end));
    } catch (...) {
      thrown[static_cast<std::size_t>(part)] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(parts - 1));
  std::int64_t started = 1;
  try {
    for (; started < parts; ++started) others.emplace_back(run, started, started + 1);
  } catch (const std::exception&) {  // no more threads to be had: this one does the rest
  }
  run(0, 1);
  if (started < parts) run(started, parts);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& exception : thrown) {
    if (exception) std::rethrow_exception(exception);
  }
}

}  // namespace pyi
