#include "parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "signals.h"

namespace pyi {
namespace {

// How long the last parts of a loop, or the next one, are waited for without sleep, which would take as long.
constexpr std::chrono::microseconds kAwake{50};

// A loop whose parts are being taken: its caller's, who stays until all of them have ended.
struct Loop {
  const std::int64_t n, parts;
  const Body& body;
  const Then then;
  std::vector<std::exception_ptr> thrown;  // by part
  std::int64_t taken = 0;                  // parts that somebody has begun
  std::atomic<std::int64_t> left{parts};   // parts that have not ended
  std::condition_variable ended{};
};

std::int64_t usable_processors() {
#if defined(__linux__)
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) == 0) return CPU_COUNT(&usable);
#endif
  return std::thread::hardware_concurrency();
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <class Done>
void wait_awake(const Done& done) {
  const auto until = std::chrono::steady_clock::now() + kAwake;
  while (!done() && std::chrono::steady_clock::now() < until) relax();
}

class Pool {
 public:
  // Returns when all parts have ended.
  void run(Loop& loop) {
    std::unique_lock<std::mutex> lock(mutex_);
    open_.push_back(&loop);
    ++opened_;
    grow(loop.parts - 1);
    const std::int64_t wanted = std::min(loop.parts - 1 - awake_, asleep_);
    for (std::int64_t part = take(loop);;) {
      lock.unlock();
      if (part == 0) {
        for (std::int64_t i = 0; i < wanted; ++i) work_.notify_one();
      }
      call(loop, part, lock);
      if (loop.taken == loop.parts) break;
      part = take(loop);
    }
    if (loop.left > 0 && loop.parts <= processors_) {
      lock.unlock();
      wait_awake([&] { return loop.left == 0; });
      lock.lock();
    }
    loop.ended.wait(lock, [&] { return loop.left == 0; });
  }

  // Ends the threads that are in no part, whether asleep, awake or only just begun; those that work are not
  // waited for, as whoever calls this may have what they need.
  void end_idle() {
    std::list<std::thread> ended;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ++leaving_;
      work_.notify_all();
      left_.wait(lock, [this] { return threads_.size() == busy_; });
      --leaving_;
      ended.swap(ended_);
    }
    for (std::thread& thread : ended) thread.join();
  }

 private:
  using Thread = std::list<std::thread>::iterator;

  // Fewer threads where no more are to be had, or idle ones are to end: who calls does what is left.
  void grow(std::int64_t threads) {
    if (leaving_ > 0 || static_cast<std::int64_t>(threads_.size()) >= threads) return;
    const NoSignals blocked;
    processors_ = usable_processors();
    try {
      while (static_cast<std::int64_t>(threads_.size()) < threads) {
        threads_.emplace_back();
        threads_.back() = std::thread(&Pool::serve, this, std::prev(threads_.end()));
      }
    } catch (const std::exception&) {
      if (!threads_.empty() && !threads_.back().joinable()) threads_.pop_back();
    }
  }

  void serve(Thread self) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "pyimportance");
#endif
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      ++asleep_;
      work_.wait(lock, [this] { return !open_.empty() || leaving_ > 0; });
      --asleep_;
      if (leaving_ > 0) {
        ended_.splice(ended_.end(), threads_, self);
        left_.notify_all();
        return;
      }
      Loop& loop = *open_.front();
      const bool another = loop.then == Then::kAnother && loop.parts <= processors_;
      const std::int64_t part = take(loop);
      ++busy_;
      lock.unlock();
      call(loop, part, lock);
      --busy_;
      if (!another) continue;
      ++awake_;
      lock.unlock();
      wait_awake([this] { return opened_ > 0 || leaving_ > 0; });
      lock.lock();
      --awake_;
    }
  }

  std::int64_t take(Loop& loop) {
    const std::int64_t part = loop.taken++;
    if (loop.taken == loop.parts) {
      open_.erase(std::find(open_.begin(), open_.end(), &loop));
      --opened_;
    }
    return part;
  }

  // Comes back with the lock, which it is called without.
  static void call(Loop& loop, std::int64_t part, std::unique_lock<std::mutex>& lock) {
    const std::int64_t each = loop.n / loop.parts, longer = loop.n % loop.parts;
    const auto start = [=](std::int64_t k) { return each * k + std::min(k, longer); };
    try {
      loop.body.call(loop.body.f, start(part), start(part + 1));
    } catch (...) {
      loop.thrown[static_cast<std::size_t>(part)] = std::current_exception();
    }
    lock.lock();
    if (--loop.left == 0) loop.ended.notify_one();  // with the lock: then the loop goes away
  }

  std::mutex mutex_;
  std::condition_variable work_, left_;
  std::deque<Loop*> open_;      // those with parts that nobody has begun, the first asked for first
  std::atomic<int> opened_{0};  // how many, for those who wait without the lock
  std::list<std::thread> threads_, ended_;
  std::int64_t asleep_ = 0, awake_ = 0;  // waiting for a loop
  std::size_t busy_ = 0;                 // in a part
  std::atomic<int> leaving_{0};          // how many wait for all others to end
  std::int64_t processors_ = 1;
};

// Of this process. Never destroyed: its threads may outlast the destructors at the end of the process.
std::atomic<Pool*> pool{nullptr};

// A fork's child has no threads, and leaves alone what those of its parent held. It is best made without any:
// Python from 3.12 on warns about others.
void before_fork() {
  if (Pool* const existing = pool) existing->end_idle();
}
void in_child() { pool = nullptr; }
[[maybe_unused]] const int forks = pthread_atfork(before_fork, nullptr, in_child);

Pool& this_process_pool() {
  Pool* found = pool;
  if (found != nullptr) return *found;
  auto fresh = std::make_unique<Pool>();
  return pool.compare_exchange_strong(found, fresh.get()) ? *fresh.release() : *found;
}

}  // namespace

void run_parts(std::int64_t n, std::int64_t parts, const Body& body, Then then) {
  Loop loop{n, parts, body, then, std::vector<std::exception_ptr>(static_cast<std::size_t>(parts))};
  this_process_pool().run(loop);
  for (const std::exception_ptr& exception : loop.thrown) {
    if (exception) std::rethrow_exception(exception);
  }
}

}  // namespace pyi
