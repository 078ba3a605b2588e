// Threads that wait for disks and servers, for whoever has many files to write or to sum.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "tar/copy.h"

namespace pyi::tar {

// Does what it is given in that order, several at a time; what comes out is the task's own matter. Its
// threads start with the first task, and belong to the process that gave it: a fork's child has none of them,
// and leaves alone what they held. Several threads may give tasks and wait for theirs.
class Tasks {
 public:
  // A task looks at `stop` now and then, and ends by any exception when it is set.
  using Task = std::function<Written(const std::atomic<bool>& stop)>;

  // At least 1 thread.
  explicit Tasks(int threads) : threads_(threads) {}
  ~Tasks() { close(); }

  // The number of the task. Throws ArgumentError in another process than the first, and after `close`;
  // std::system_error without any thread.
  std::int64_t begin(Task task);
  // What came out of a task, or what it threw, once; waits up to so long for it. Throws ArgumentError if
  // there is no such task.
  std::optional<Written> wait(std::int64_t number, std::chrono::milliseconds most);
  // Whether a task has ended, so that `wait` does not. Throws ArgumentError as `wait` does.
  bool ended(std::int64_t number) const;
  // Has a task end soon, and waits for that: then nobody uses what it was given. One whose outcome is known
  // already, or that nobody knows, is none.
  void forget(std::int64_t number);
  // Has all tasks end soon, and the threads, and waits for that. Twice is harmless, also at the same time.
  void close();

 private:
  struct Entry {
    Task task;
    std::atomic<bool> stop{false};
    bool ended = false;
    Written written{};
    std::exception_ptr thrown{};
  };
  struct State {
    std::mutex mutex;
    std::mutex closing;  // taken before the other, by who joins the threads
    std::condition_variable work, done;
    std::map<std::int64_t, std::shared_ptr<Entry>> entries;  // those that were not waited for
    std::deque<std::shared_ptr<Entry>> waiting;              // those that nobody has begun
    std::vector<std::thread> threads;
    std::int64_t next = 0;
    bool closed = false;
  };

  bool elsewhere() const;  // in a forked child
  static void run(State* state);
  static void carry_out(Entry* entry);

  int threads_;
  std::atomic<pid_t> process_{0};  // 0: not begun. Read by all, also while the first of them begins
  std::unique_ptr<State> state_ = std::make_unique<State>();
};

}  // namespace pyi::tar
