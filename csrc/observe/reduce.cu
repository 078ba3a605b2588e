// A thread a sample: neighbours read neighbours, and several epochs of all arrays are on their way at a time.
#include "launch.h"
#include "observe/reduce_cuda.h"

namespace pyi::cuda {
namespace {

constexpr int kAtOnce = 4;  // epochs

// What an array has of some epochs of a sample; NaN beyond the last. Zeros where it is missing.
template <class T>
struct Numbers {
  T x[kAtOnce];

  __device__ Numbers(const Series& series, std::int64_t epoch, std::int64_t epochs, std::int64_t sample) {
    PYI_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      x[r] = T{};
      if (series.kind == Series::kMissing) continue;
      const char* from = series.data + (epoch + r) * series.stride;
      if (epoch + r >= epochs) {
        x[r] = static_cast<T>(NAN);
      } else if (series.kind == Series::kByte) {
        x[r] = reinterpret_cast<const std::uint8_t*>(from)[sample];
      } else {
        x[r] = reinterpret_cast<const T*>(from)[sample];
      }
    }
  }
};

struct Moments {
  double first = 0, sum = 0, squares = 0;
  __device__ void add(double x, bool is_first) {
    first = is_first ? x : first;
    const double d = x - first;
    sum += d;
    squares += d * d;
  }
};

template <class Last>
struct Total {
  double sum = 0;
  Last last = 0;
  __device__ void add(double x) {
    sum += x;
    last = static_cast<Last>(x);
  }
  __device__ void settle(double* to_sum, Last* to_last, std::int64_t i) const {
    if (to_sum != nullptr) to_sum[i] = sum;
    if (to_last != nullptr) to_last[i] = last;
  }
};

__device__ bool within(double x, double low, double high) { return x >= low && x <= high; }

template <class T>
__global__ void __launch_bounds__(kThreads)
    reduce_samples(Columns c, History h, double most_el2n, std::int32_t* wrong) {
  constexpr double kLargest = 0x1.fffffffffffffp+1023;
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i >= h.samples) return;
  constexpr int kArrays = 7;
  const Series* series[kArrays] = {&h.loss, &h.p_true, &h.margin, &h.el2n, &h.entropy, &h.grand, &h.correct};
  bool bad = false, was_right = false;
  std::int32_t count = 0, correct = 0, forgotten = 0, first_learned = 0;
  Moments loss, p;
  Total<double> margin;
  Total<float> el2n, entropy, grand;
  double last = 0;
  for (std::int64_t e = 0; e < h.epochs; e += kAtOnce) {
    const Numbers<T> numbers[kArrays] = {{h.loss, e, h.epochs, i},    {h.p_true, e, h.epochs, i},
                                         {h.margin, e, h.epochs, i},  {h.el2n, e, h.epochs, i},
                                         {h.entropy, e, h.epochs, i}, {h.grand, e, h.epochs, i},
                                         {h.correct, e, h.epochs, i}};
    PYI_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      if (e + r >= h.epochs) break;
      bool there = false, missing = false;  // in any of the arrays that can say so
      PYI_UNROLL
      for (int k = 0; k < kArrays; ++k) {
        const bool says = series[k]->kind == Series::kFloat || series[k]->kind == Series::kDouble;
        const bool is = numbers[k].x[r] == numbers[k].x[r];
        there |= says && is;
        missing |= says && !is;
      }
      bad |= there && missing;
      if (missing) continue;
      const double z = numbers[0].x[r], y = numbers[1].x[r];
      loss.add(z, count == 0);
      last = z;
      p.add(y, count == 0);
      margin.add(numbers[2].x[r]);
      el2n.add(numbers[3].x[r]);
      entropy.add(numbers[4].x[r]);
      grand.add(numbers[5].x[r]);
      bad |= !within(z, -kLargest, kLargest) || !within(y, 0, 1) || !within(numbers[3].x[r], 0, most_el2n) ||
             !within(numbers[4].x[r], 0, kLargest) || !within(numbers[5].x[r], 0, kLargest);
      const T given = numbers[6].x[r];
      const bool right = given == 1;
      bad |= !right && given != 0;
      forgotten += was_right && !right;
      if (right && correct++ == 0) first_learned = static_cast<std::int32_t>(e + r);
      was_right = right;
      ++count;
    }
  }
  if (bad) *wrong = 1;
  c.count[i] = count;
  if (c.loss_mean != nullptr) {
    settle(count, loss.first, loss.sum, loss.squares, c.loss_mean + i, c.loss_m2 + i, nullptr);
    c.loss_last[i] = last;
  }
  if (c.p_mean != nullptr) {
    settle(count, p.first, p.sum, p.squares, c.p_mean + i, c.p_m2 + i, c.q_sum + i);
  }
  margin.settle(c.margin_sum, c.margin_last, i);
  el2n.settle(c.el2n_sum, c.el2n_last, i);
  entropy.settle(c.entropy_sum, c.entropy_last, i);
  grand.settle(c.grand_sum, nullptr, i);
  if (c.correct != nullptr) {
    c.correct[i] = correct;
    c.forgotten[i] = forgotten;
    c.first_learned[i] = first_learned;
  }
}

}  // namespace

cudaError_t reduce(const Columns& c, const History& h, double most_el2n, std::int32_t* wrong,
                   cudaStream_t stream) {
  const auto is = [&](Series::Kind kind) {
    return h.loss.kind == kind || h.p_true.kind == kind || h.margin.kind == kind || h.el2n.kind == kind ||
           h.entropy.kind == kind || h.grand.kind == kind || h.correct.kind == kind;
  };
  const auto kernel = is(Series::kDouble) ? reduce_samples<double> : reduce_samples<float>;
  return launch(kernel, blocks_for(h.samples), stream, c, h, most_el2n, wrong);
}

}  // namespace pyi::cuda
