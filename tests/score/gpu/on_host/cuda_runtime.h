// CUDA's runtime as far as csrc/ uses it, on the host, so that tests run the kernels where there is no device.
//
// The threads of a block are fibers of one thread; the blocks come one after the other. A fiber runs until it needs
// the others (shuffle, vote, barrier). Then the next one runs, in an order that changes from turn to turn. If some
// wait for others that have returned or wait elsewhere, which hangs or is undefined on a device, this says so and
// aborts.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

using cudaStream_t = struct Stream_*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };
inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration"; }

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1) : x(x_) {}
};
struct uint4 {
  unsigned x, y, z, w;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace on_host {

constexpr int kWarp = 32;
constexpr std::size_t kStack = 64 << 10;

struct Meeting {  // of the threads of a warp, or of a block
  int expected = 0, arrived = 0;
  std::uint64_t turn = 0;
  unsigned char values[2][256][8];  // what each brought, in even and odd turns
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  dim3 thread;
  bool done = false;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Meeting> warps;
  Meeting all;
  ucontext_t scheduler;
  Fiber* running = nullptr;
  std::function<void()> body;
  dim3 number;
  bool moved = false;  // whether anybody has, since the scheduler looked
};
inline Block* block = nullptr;

inline void yield() { swapcontext(&block->running->context, &block->scheduler); }

// Waits until everybody has brought a value; all of them, which are there until the next meeting but one.
template <class T>
const unsigned char (*meet(Meeting& at, int place, T value))[8] {
  const std::uint64_t turn = at.turn;
  auto& values = at.values[turn % 2];
  std::memcpy(values[place], &value, sizeof value);
  block->moved = true;
  if (++at.arrived == at.expected) {
    at.arrived = 0;
    ++at.turn;
  }
  while (at.turn == turn) yield();
  return values;
}

inline int thread_number() { return static_cast<int>(block->running->thread.x); }
inline Meeting& my_warp() { return block->warps[static_cast<std::size_t>(thread_number() / kWarp)]; }

inline void fiber_main() {
  block->body();
  block->running->done = block->moved = true;
  yield();
}

inline void run_block(Block& now, unsigned threads) {
  block = &now;
  now.fibers.resize(threads);
  now.warps.assign((threads + kWarp - 1) / kWarp, Meeting{});
  now.all = Meeting{};
  now.all.expected = static_cast<int>(threads);
  for (Meeting& warp : now.warps) warp.expected = kWarp;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = now.fibers[i];
    fiber.thread = dim3(i);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
  for (unsigned left = threads, turn = 0; left > 0; ++turn) {
    now.moved = false;
    left = 0;
    for (unsigned i = 0; i < threads; ++i) {  // the steps are odd, the number of threads a power of two
      Fiber& fiber = now.fibers[(i * (2 * turn + 1) + turn) % threads];
      if (fiber.done) continue;
      now.running = &fiber;
      swapcontext(&now.scheduler, &fiber.context);
      left += fiber.done ? 0 : 1;
    }
    if (left > 0 && !now.moved) {
      std::fprintf(stderr, "block %u: %u threads wait for others that will not come\n", now.number.x, left);
      std::abort();
    }
  }
}

}  // namespace on_host

#define threadIdx (on_host::block->running->thread)
#define blockIdx (on_host::block->number)

template <class... Wanted, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given... given) {
  const unsigned threads = config->blockDim.x;
  if (threads == 0 || threads > 256 || (threads & (threads - 1)) != 0 || config->gridDim.x == 0) {
    return cudaErrorInvalidConfiguration;
  }
  static on_host::Block block;  // its stacks serve all blocks
  block.body = [=] { kernel(given...); };
  for (unsigned i = 0; i < config->gridDim.x; ++i) {
    block.number = dim3(i);
    on_host::run_block(block, threads);
  }
  return cudaSuccess;
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  const int lane = on_host::thread_number() % on_host::kWarp;
  const auto values = on_host::meet(on_host::my_warp(), lane, value);
  std::memcpy(&value, values[lane ^ distance], sizeof value);
  return value;
}

inline int any_of(on_host::Meeting& meeting, int place, int count, int vote) {
  const auto values = on_host::meet(meeting, place, vote);
  for (int i = 0; i < count; ++i) {
    int other;
    std::memcpy(&other, values[i], sizeof other);
    if (other != 0) return 1;
  }
  return 0;
}
inline int __any_sync(unsigned, int vote) {
  return any_of(on_host::my_warp(), on_host::thread_number() % on_host::kWarp, on_host::kWarp, vote);
}
inline int __syncthreads_or(int vote) {
  return any_of(on_host::block->all, on_host::thread_number(), on_host::block->all.expected, vote);
}
inline void __syncthreads() { __syncthreads_or(0); }

template <class T>
T atomicMin(T* at, T value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}
template <class T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at += value;
  return old;
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}
template <class T>
T __ldcs(const T* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(T) != 0) {
    std::fprintf(stderr, "a misaligned load\n");
    std::abort();
  }
  return *from;
}
using std::isfinite;
