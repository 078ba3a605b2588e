// Threads that leave signals to others.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace pyi {

// The signals of a process are for the threads it began with, but for those that a thread brings upon itself.
// Threads that are begun while one of these is there take none.
class NoSignals {
 public:
  NoSignals() {
    sigset_t most;
    sigfillset(&most);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&most, own);
    pthread_sigmask(SIG_SETMASK, &most, &before_);
  }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace pyi
