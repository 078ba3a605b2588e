#include "load/readahead.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "errors.h"

namespace pyi::load {
namespace {

constexpr int kCold = 64;  // ranges in a row that the system may have read ahead of who asks for them

// What devices have read for this thread, in units of its own; 0 where nobody counts it.
std::int64_t from_devices() {
#ifdef RUSAGE_THREAD
  rusage usage{};
  if (getrusage(RUSAGE_THREAD, &usage) == 0) return usage.ru_inblock;
#endif
  return 0;
}

}  // namespace

ReadAhead::ReadAhead(int threads, int spare) : threads_(threads), process_(getpid()) {
  state_->spare = spare;
}

ReadAhead::~ReadAhead() {
  close();
  if (elsewhere()) static_cast<void>(state_.release());  // its locks may be held by threads that are not here
}

bool ReadAhead::elsewhere() const { return process_ != getpid(); }

void ReadAhead::read(const std::shared_ptr<Window>& window, std::shared_ptr<const Sources> sources) {
  if (elsewhere())
    throw ArgumentError("this iteration was begun in process " + std::to_string(process_) +
                        ", before a fork; begin another one here");
  State& state = *state_;
  const std::lock_guard<std::mutex> lock(state.mutex);
  if (state.closed) return;  // nobody would read it: the window stays unread, and nobody waits for it
  if (state.threads.empty()) {
    try {
      for (int i = 0; i < threads_; ++i) state.threads.emplace_back(run, &state, false);
    } catch (const std::exception&) {  // fewer threads do as well, none do not
      if (state.threads.empty()) throw;
    }
  }
  for (const Range& range : window->ranges()) {
    if (sources->count(range.file) == 0) continue;
    state.jobs.push_back({window, sources, &range});
    ++window->left;
  }
  state.work.notify_all();
}

bool ReadAhead::wait(const Window& window, std::chrono::milliseconds most) {
  if (window.left == 0) return true;
  if (elsewhere()) throw ArgumentError("this iteration was begun before a fork; begin another one here");
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->done.wait_for(lock, most, [&] { return window.left == 0; });
}

void ReadAhead::forget(const Window& window) {
  if (window.left == 0 || elsewhere()) return;
  std::unique_lock<std::mutex> lock(state_->mutex);
  std::deque<Job>& jobs = state_->jobs;
  const auto its = [&](const Job& job) {
    if (job.window.get() != &window) return false;
    --job.window->left;
    return true;
  };
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(), its), jobs.end());
  state_->done.wait(lock, [&] { return window.left == 0; });
}

void ReadAhead::close() {
  if (elsewhere()) return;
  std::vector<std::thread> threads;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closed = true;  // from here on, nobody begins a thread
    threads.swap(state_->threads);
    for (const Job& job : state_->jobs) --job.window->left;
    state_->jobs.clear();
  }
  state_->work.notify_all();
  state_->more.notify_all();
  state_->done.notify_all();
  for (std::thread& thread : threads) thread.join();  // they take the lock to end
}

// Takes note of whether a range came from a device, and begins the spare threads when the first one did.
void ReadAhead::note(State* state, bool is_cold) {
  state->cold = is_cold ? kCold : std::max(0, state->cold - 1);
  try {
    for (; is_cold && !state->closed && state->spare > 0; --state->spare)
      state->threads.emplace_back(run, state, true);
  } catch (const std::exception&) {  // without them it is slower
    state->spare = 0;
  }
}

void ReadAhead::run(State* state, bool is_spare) {
  Buffer scratch;
  std::int64_t before = from_devices();
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    (is_spare ? state->more : state->work).wait(lock, [&] {
      return state->closed || state->has_work(is_spare);
    });
    if (state->closed) return;
    Job job = std::move(state->jobs.front());
    state->jobs.pop_front();
    if (state->has_work(true)) state->more.notify_one();
    lock.unlock();
    job.window->read(*job.range, job.sources->at(job.range->file), &scratch);
    const std::int64_t now = from_devices();
    lock.lock();
    note(state, now != before);
    before = now;
    if (--job.window->left == 0) state->done.notify_all();
  }
}

}  // namespace pyi::load
