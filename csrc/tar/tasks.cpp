#include "tar/tasks.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "errors.h"
#include "signals.h"

namespace pyi::tar {

bool Tasks::elsewhere() const {
  const pid_t process = process_;
  return process != 0 && process != getpid();
}

std::int64_t Tasks::begin(Task task) {
  if (elsewhere())
    throw ArgumentError("these threads are of process " + std::to_string(process_.load()) +
                        ", before a fork; begin others here");
  State& state = *state_;
  const std::lock_guard<std::mutex> lock(state.mutex);
  if (state.closed) throw ArgumentError("is closed");
  if (state.threads.empty()) {
    process_ = getpid();
    const NoSignals blocked;
    try {
      while (static_cast<int>(state.threads.size()) < threads_) state.threads.emplace_back(run, &state);
    } catch (const std::exception&) {  // fewer threads do as well, none do not
      if (state.threads.empty()) throw;
    }
  }
  auto entry = std::make_shared<Entry>();
  entry->task = std::move(task);
  state.entries.emplace(state.next, entry);
  state.waiting.push_back(std::move(entry));
  state.work.notify_one();
  return state.next++;
}

std::optional<Written> Tasks::wait(std::int64_t number, std::chrono::milliseconds most) {
  if (elsewhere()) throw ArgumentError("this was begun before a fork; begin it here");
  std::shared_ptr<Entry> entry;  // what it holds may take other locks to let go of
  std::unique_lock<std::mutex> lock(state_->mutex);
  const auto found = state_->entries.find(number);
  if (found == state_->entries.end()) throw ArgumentError("task " + std::to_string(number) + " is unknown");
  entry = found->second;
  if (!state_->done.wait_for(lock, most, [&] { return entry->ended; })) return std::nullopt;
  state_->entries.erase(number);
  if (entry->thrown) std::rethrow_exception(entry->thrown);
  return entry->written;
}

bool Tasks::ended(std::int64_t number) const {
  if (elsewhere()) throw ArgumentError("this was begun before a fork; begin it here");
  const std::lock_guard<std::mutex> lock(state_->mutex);
  const auto found = state_->entries.find(number);
  if (found == state_->entries.end()) throw ArgumentError("task " + std::to_string(number) + " is unknown");
  return found->second->ended;
}

void Tasks::forget(std::int64_t number) {
  if (elsewhere()) return;
  std::shared_ptr<Entry> entry;
  std::unique_lock<std::mutex> lock(state_->mutex);
  const auto found = state_->entries.find(number);
  if (found == state_->entries.end()) return;
  entry = found->second;
  state_->entries.erase(found);
  entry->stop = true;
  const auto queued = std::find(state_->waiting.begin(), state_->waiting.end(), entry);
  if (queued == state_->waiting.end())
    state_->done.wait(lock, [&] { return entry->ended; });
  else
    state_->waiting.erase(queued);
}

void Tasks::close() {
  if (elsewhere()) {
    static_cast<void>(state_.release());  // its locks may be held by threads that are not here
    process_ = 0;
    state_ = std::make_unique<State>();
    state_->closed = true;
    return;
  }
  const std::lock_guard<std::mutex> alone(state_->closing);
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closed = true;
    for (const auto& [number, entry] : state_->entries) entry->stop = true;
  }
  state_->work.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
}

// What is still waiting when all is closed is carried out as well: it ends at its first look at `stop`, and
// who waits for it hears of that.
void Tasks::run(State* state) {
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    state->work.wait(lock, [&] { return state->closed || !state->waiting.empty(); });
    if (state->waiting.empty()) return;
    std::shared_ptr<Entry> entry = std::move(state->waiting.front());
    state->waiting.pop_front();
    lock.unlock();
    carry_out(entry.get());
    lock.lock();
    entry->ended = true;
    state->done.notify_all();
    lock.unlock();
    entry.reset();
    lock.lock();
  }
}

void Tasks::carry_out(Entry* entry) {
  try {
    // Taken out, so that what it holds is let go of by what it throws, and before anybody hears of the end.
    const Task task = std::move(entry->task);
    entry->written = task(entry->stop);
  } catch (...) {
    entry->thrown = std::current_exception();
  }
}

}  // namespace pyi::tar
