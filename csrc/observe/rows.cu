// Few classes: a team of lanes of a warp shares a row, each with a few of its logits in registers; neighbours
// read neighbours. Many: one or eight warps stream over a row by 16 bytes a lane, the sums relative to a
// reference that a warp raises where a logit is far above it (online softmax; the exponent's slack makes that
// rare). Which of the two, and how many lanes, follows from the number of classes alone.
#include "launch.h"
#include "observe/entry_cuda.h"
#include "observe/narrow.h"
#include "observe/team_cuda.h"

namespace pyi::cuda {
namespace {

constexpr std::int64_t kFewClasses = 256;
constexpr std::int64_t kWarpClasses = 4096;  // up to these a warp a row, beyond eight warps

template <class T>
__device__ const T* row_at(const Logits& logits, std::int64_t row) {
  const T* z = static_cast<const T*>(logits.data);
  if (logits.length == 0) return z + row * logits.stride;
  const auto i = static_cast<unsigned>(row), length = static_cast<unsigned>(logits.length);
  return z + i / length * logits.sequence_stride + i % length * logits.stride;
}

struct Part {
  double s;
  float q, a, reference, top;
};

__device__ Part team_part(const Share<float>& share, float reference, float top, int team) {
  return {team_sum(static_cast<double>(share.s.high) - share.s.low, team),
          team_sum(share.q.high - share.q.low, team), team_sum(share.a.high - share.a.low, team), reference,
          team_max(top, team)};
}

template <class T>
constexpr bool kExactFor = sizeof(T) == sizeof(float);

// team: a power of two up to a warp, with at least classes / kEach lanes.
template <class T, int kEach>
__global__ void __launch_bounds__(kThreads) few_classes(Batch batch, Logits logits, Sink sink, int team) {
  const std::int64_t row = (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) / team;
  const int lane = threadIdx.x % team, classes = static_cast<int>(logits.classes);
  const bool leads = lane == 0 && row < batch.rows;
  const bool live = row < batch.rows && admit(batch, classes, row, sink, leads);

  const T* z = row_at<T>(logits, live ? row : 0);
  const int target = live ? static_cast<int>(batch.targets[row]) : -1;
  float own[kEach], top = kNothing;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int k = lane + i * team;
    own[i] = live && k < classes && k != target ? widen(z[k]) : kNothing;
    top = fmaxf(top, own[i]);
  }
  const float aim = live ? widen(z[target]) : 0.0f;
  const float reference = fmaxf(team_max(top, team), kLowest);
  Share<float> share{};
  add_logits<kExactFor<T>>(share, own, reference);
  const Part part = team_part(share, reference, top, team);

  bool tied = false;
  if (__any_sync(kAll, live && part.top == aim)) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) tied |= own[i] == aim && lane + i * team < target;
    tied = team_max(tied ? 1.0f : 0.0f, team) > 0;
  }
  if (leads && live) {
    deliver(batch, row, {part.s, part.q, part.a, part.reference, part.top, aim, verdict(aim, part.top, tied)},
            sink);
  }
}

template <class T>
constexpr int kPerVector = 16 / sizeof(T);

// 16 bytes as numbers, without the target's if it is among them: `off` places on.
template <class T>
__device__ void unpack(const uint4& from, unsigned off, float* to) {
  T numbers[kPerVector<T>];
  memcpy(numbers, &from, sizeof from);
#pragma unroll
  for (int i = 0; i < kPerVector<T>; ++i) to[i] = widen(numbers[i]);
  if (off < static_cast<unsigned>(kPerVector<T>)) {
#pragma unroll
    for (unsigned i = 0; i < kPerVector<T>; ++i) to[i] = i == off ? kNothing : to[i];
  }
}

// A warp's state. All lanes agree on the reference.
struct Stream {
  Share<float> share{};
  float reference = kLowest, top = kNothing;

  template <bool kExact, int N>
  __device__ void take(const float (&z)[N]) {
    float most = z[0];
#pragma unroll
    for (int i = 1; i < N; ++i) most = fmaxf(most, z[i]);
    top = fmaxf(top, most);
    if (__any_sync(kAll, most > reference + kSlack)) {
      const float higher = team_max(most, kWarp);
      move_reference(share, reference, higher);
      reference = higher;
    }
    add_logits<kExact>(share, z, reference);
  }
};

// The parts of a row that warps have, as one that every thread has.
template <int kWarps>
__device__ Part joined(const Part& mine, int lane) {
  if (kWarps == 1) return mine;
  __shared__ Part parts[kThreads / kWarp];
  if (lane == 0) parts[threadIdx.x / kWarp] = mine;
  __syncthreads();
  const Part nobody{0, 0, 0, kLowest, kNothing};
  const Part part = lane < kWarps ? parts[lane] : nobody;
  const float reference = team_max(part.reference, kWarp);
  const double up = static_cast<double>(reference) - part.reference, f = exp_negative(at_least_floor(-up));
  const double s = part.s * f, q = part.q * (f * f), a = (part.a + up * part.s) * f;
  return {team_sum(s, kWarp), static_cast<float>(team_sum(q, kWarp)), static_cast<float>(team_sum(a, kWarp)),
          reference, team_max(part.top, kWarp)};
}

template <class T, int kWarps>
__global__ void __launch_bounds__(kThreads) many_classes(Batch batch, Logits logits, Sink sink) {
  constexpr int kPer = kPerVector<T>, kStep = kWarps * kWarp;
  const int lane = threadIdx.x % kWarp, thread = threadIdx.x % kStep,
            classes = static_cast<int>(logits.classes);
  const std::int64_t row = blockIdx.x * static_cast<std::int64_t>(kThreads / kStep) + threadIdx.x / kStep;
  // The same for all threads of the row, so that those that leave are missed by nobody.
  if (row >= batch.rows || !admit(batch, classes, row, sink, thread == 0)) return;

  const T* z = row_at<T>(logits, row);
  const int target = static_cast<int>(batch.targets[row]);
  const float aim = widen(z[target]);
  const int beyond = static_cast<int>(reinterpret_cast<std::uintptr_t>(z) % 16 / sizeof(T));
  const int head = beyond == 0 ? 0 : kPer - beyond;  // before the first whole 16 bytes
  const int vectors = (classes - head) / kPer, tail = head + vectors * kPer;
  const uint4* body = reinterpret_cast<const uint4*>(z + head);

  Stream stream;
  if (thread < kWarp && (head > 0 || tail < classes)) {
    const int k = lane < kWarp / 2 ? (lane < head ? lane : classes) : tail + lane - kWarp / 2;
    const float edge[] = {k < classes && k != target ? widen(z[k]) : kNothing};
    stream.template take<kExactFor<T>>(edge);
  }
  // Two vectors a lane at a time, and the next two on their way.
  uint4 now[2] = {}, next[2] = {};
  const auto fetch = [&](uint4(&to)[2], int from) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int v = from + i * kStep;
      if (v < vectors) to[i] = __ldcs(body + v);
    }
  };
  fetch(now, thread);
  for (int v = thread; v - lane < vectors; v += 2 * kStep) {  // as often for each lane of a warp
    fetch(next, v + 2 * kStep);
    float numbers[2 * kPer];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = v + i * kStep;
      const unsigned off = static_cast<unsigned>(target - head) - static_cast<unsigned>(at) * kPer;
      unpack<T>(now[i], off, numbers + i * kPer);
      if (at >= vectors) {
#pragma unroll
        for (int j = 0; j < kPer; ++j) numbers[i * kPer + j] = kNothing;
      }
      now[i] = next[i];
    }
    stream.template take<kExactFor<T>>(numbers);
  }

  const Part part = joined<kWarps>(team_part(stream.share, stream.reference, stream.top, kWarp), lane);
  int tied = 0;
  if (part.top == aim) {  // rare: whether an equal one stands before the target
    for (std::int64_t k = thread; k < target; k += kStep) tied |= widen(z[k]) == aim;
    tied = kWarps == 1 ? __any_sync(kAll, tied) : __syncthreads_or(tied);
  }
  if (thread == 0) {
    deliver(batch, row,
            {part.s, part.q, part.a, part.reference, part.top, aim, verdict(aim, part.top, tied != 0)}, sink);
  }
}

template <class T>
cudaError_t scan(const Batch& batch, const Logits& logits, const Sink& sink, cudaStream_t stream) {
  constexpr int kSome = 4, kMore = 8;
  const auto blocks = [&](int lanes) { return (batch.rows * lanes + kThreads - 1) / kThreads; };
  if (logits.classes > kWarpClasses) {
    return launch(many_classes<T, kThreads / kWarp>, blocks(kThreads), stream, batch, logits, sink);
  }
  if (logits.classes > kFewClasses)
    return launch(many_classes<T, 1>, blocks(kWarp), stream, batch, logits, sink);
  if (logits.classes > kSome * kWarp) {
    return launch(few_classes<T, kMore>, blocks(kWarp), stream, batch, logits, sink, kWarp);
  }
  int team = 1;
  while (team * kSome < logits.classes) team *= 2;
  return launch(few_classes<T, kSome>, blocks(team), stream, batch, logits, sink, team);
}

}  // namespace

cudaError_t scan_logits(const Batch& batch, const Logits& logits, Gist* out, Claim* claims,
                        Problems* problems, cudaStream_t stream) {
  const Sink sink{out, claims, problems};
  switch (logits.number) {
    case Number::kHalf:
      return scan<Half>(batch, logits, sink, stream);
    case Number::kBFloat16:
      return scan<BFloat16>(batch, logits, sink, stream);
    default:
      return scan<float>(batch, logits, sink, stream);
  }
}

}  // namespace pyi::cuda
