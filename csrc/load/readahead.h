// Threads that read ahead of whoever consumes what they read.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "load/window.h"
#include "tar/check.h"

namespace pyi::load {

using Sources = std::map<std::int32_t, tar::Source>;  // by number of the file in the index

// Reads windows' ranges in the order they were asked for. Its threads start with the first one, and belong to
// the process that made it: a fork's child has none of them, and leaves alone what they held. Any threads of
// that process may call it at a time.
class ReadAhead {
 public:
  static constexpr std::int64_t kSpare = 1 << 20;  // bytes of a range that spare threads read at most

  // At least 1 thread; more read several ranges at a time. While files come from a device and not from
  // memory, `spare` threads more do, of short ranges: what counts then is how many requests are under way.
  explicit ReadAhead(int threads, int spare = 0);
  ~ReadAhead();

  // Begins to read the ranges of a window that lie in `sources`, whose inputs stay open until it is
  // done; after `close`, nothing is. Throws ArgumentError in another process than the one that made it,
  // std::system_error without any thread.
  void read(const std::shared_ptr<Window>& window, std::shared_ptr<const Sources> sources);
  // Whether all that was asked for of a window was read; waits up to so long for it.
  bool wait(const Window& window, std::chrono::milliseconds most);
  // Gives up what was not begun of a window, and waits for what was: then nobody writes to it any more.
  void forget(const Window& window);
  // Gives up what was not begun of all windows, and ends the threads. Twice is harmless; nothing happens in
  // another process.
  void close();

 private:
  struct Job {
    std::shared_ptr<Window> window;
    std::shared_ptr<const Sources> sources;
    const Range* range;
  };
  struct State {
    std::mutex mutex;
    std::condition_variable work, more, done;  // for threads, spare threads, those who wait for windows
    std::deque<Job> jobs;
    std::vector<std::thread> threads;
    int spare = 0;  // threads that may be begun
    int cold = 0;   // ranges to be taken until devices are thought to have no more to do
    bool closed = false;

    bool has_work(bool is_spare) const {
      return !jobs.empty() && (!is_spare || (cold > 0 && jobs.front().range->nbytes <= kSpare));
    }
  };

  bool elsewhere() const;  // in a forked child
  static void run(State* state, bool is_spare);
  static void note(State* state, bool is_cold);

  const int threads_;
  const pid_t process_;
  std::unique_ptr<State> state_ = std::make_unique<State>();
};

}  // namespace pyi::load
