// Splits a loop over threads, statically: who computes what never changes what is computed.
//
// The threads are a pool's (parallel.cpp). A loop is cut into parts, one for each thread that it is meant
// for; the caller begins with the first, and whoever comes to another one takes it, a thread of the pool or
// the caller. So nobody waits for a thread that has not begun, and loops may run at the same time, or within
// each other, on any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <limits>

namespace pyi {

// Whether any unit of work is worth a thread, for tests that look at threads. PYIMPORTANCE_EVERY_THREAD=1
// says so from the start.
inline std::atomic<bool> every_thread = [] {
  const char* text = std::getenv("PYIMPORTANCE_EVERY_THREAD");
  return text != nullptr && *text == '1';
}();

// How many of at most `threads` threads are worth waking for `work` units, when a thread is worth `grain`.
inline int useful_threads(int threads, std::int64_t work, std::int64_t grain) {
  if (every_thread.load(std::memory_order_relaxed)) grain = 1;
  return static_cast<int>(std::clamp<std::int64_t>(work / grain, 1, std::max(threads, 1)));
}

// The body of a loop as the pool calls it: on the entries [begin, end).
struct Body {
  const void* f;
  void (*call)(const void* f, std::int64_t begin, std::int64_t end);
};

// What the caller does after a loop. Before another one, threads with nothing left to do wait for it awake,
// 50 us at most: to sleep and be woken takes them 25 to 40 us, and the caller 15.
enum class Then { kSleep, kAnother };

// Calls the body for `parts` consecutive, nearly equal parts of [0, n), 2 <= parts <= n.
void run_parts(std::int64_t n, std::int64_t parts, const Body& body, Then then);

// Calls f(begin, end) for `threads` consecutive, nearly equal parts of [0, n), the first part here. Where
// some throw, the exception of the first of them arrives here, after all have ended.
template <class F>
void parallel_for(std::int64_t n, int threads, const F& f, Then then = Then::kSleep) {
  if (threads <= 1 || n <= 1) {
    if (n > 0) f(std::int64_t{0}, n);
    return;
  }
  const auto call = [](const void* f, std::int64_t begin, std::int64_t end) {
    (*static_cast<const F*>(f))(begin, end);
  };
  run_parts(n, std::min<std::int64_t>(threads, n), {&f, call}, then);
}

// Calls f(begin, end) for consecutive pieces of [0, n), multiples of `least` entries long but for the last,
// on `threads` threads at most: who has done one takes the next, first long ones, then shorter ones. So a
// thread that begins late, or whose processor is slower (it may share a core, or its way to memory, with
// others), does less. For loops that may be cut anywhere.
template <class F>
void parallel_pieces(std::int64_t n, int threads, std::int64_t least, const F& f, Then then = Then::kSleep) {
  if (every_thread.load(std::memory_order_relaxed)) least = 1;
  threads = static_cast<int>(std::min<std::int64_t>(threads, (n + least - 1) / least));
  if (threads <= 1) return parallel_for(n, 1, f);
  std::atomic<std::int64_t> next{0};
  const auto deal = [&](std::int64_t, std::int64_t) {
    for (std::int64_t begin = next; begin < n;) {
      const std::int64_t length = (n - begin) / (2 * threads) / least * least;
      const std::int64_t end = std::min(begin + std::max(length, least), n);
      if (!next.compare_exchange_weak(begin, end)) continue;
      f(begin, end);
      begin = next;
    }
  };
  parallel_for(threads, threads, deal, then);
}

// The first entry of a loop at which something was found, where each thread goes through its own in order.
class First {
 public:
  void at(std::int64_t entry) {
    std::int64_t known = entry_;
    while (entry < known && !entry_.compare_exchange_weak(known, entry)) {
    }
  }
  bool any() const { return entry_ != kNone; }
  std::int64_t get() const { return any() ? entry_.load() : -1; }

 private:
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  std::atomic<std::int64_t> entry_{kNone};
};

}  // namespace pyi
