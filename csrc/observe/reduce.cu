// A thread a sample: neighbours read neighbours, and several epochs of all arrays are on their way at a time.
#include "launch.h"
#include "observe/reduce_cuda.h"

namespace pyi::cuda {
namespace {

constexpr int kAtOnce = 4;  // epochs

// What an array has of some epochs of a sample. Zeros where it is missing, and beyond the last epoch.
template <class T>
struct Numbers {
  T x[kAtOnce];

  __device__ Numbers(const Series& series, std::int64_t epoch, std::int64_t epochs, std::int64_t sample) {
    PYI_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      x[r] = T{};
      if (series.kind == Series::kMissing || epoch + r >= epochs) continue;
      const char* from = series.data + (epoch + r) * series.stride;
      x[r] = series.kind == Series::kByte ? reinterpret_cast<const std::uint8_t*>(from)[sample]
                                          : reinterpret_cast<const T*>(from)[sample];
    }
  }
};

// What a thread has of a quantity of its sample.
template <class T>
struct Kept {
  Moments<double> moments;
  Range<T> range;
  T last;

  template <bool kSpread>
  __device__ std::int64_t meet(T x) {
    const std::int64_t is = add<kSpread, true>(moments, static_cast<double>(x));
    pyi::meet(range, x);
    last = is ? x : last;
    return is;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    reduce_samples(Columns c, Quantities quantities, Series correct, std::int64_t epochs,
                   std::int64_t samples, std::int32_t* wrong) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i >= samples) return;
  const auto& of = quantities.all;
  Kept<T> kept[kQuantities];
  PYI_UNROLL
  for (Kept<T>& one : kept) one = {{__builtin_nan(""), 0, 0, 0}, no_range<T>(), T{}};
  Events<std::int32_t> events{};
  bool bad = false;
  const bool says = correct.kind == Series::kFloat || correct.kind == Series::kDouble;
  for (std::int64_t e = 0; e < epochs; e += kAtOnce) {
    const Numbers<T> numbers[kQuantities] = {{of[0].series, e, epochs, i}, {of[1].series, e, epochs, i},
                                             {of[2].series, e, epochs, i}, {of[3].series, e, epochs, i},
                                             {of[4].series, e, epochs, i}, {of[5].series, e, epochs, i}};
    const Numbers<T> given(correct, e, epochs, i);
    PYI_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      if (e + r >= epochs) break;
      bool there = false, missing = false;  // in any of the arrays that can say so
      PYI_UNROLL
      for (int k = 0; k < kQuantities; ++k) {
        if (of[k].series.kind == Series::kMissing) continue;
        const T x = numbers[k].x[r];
        const bool is =
            k < kSpreadQuantities ? kept[k].template meet<true>(x) : kept[k].template meet<false>(x);
        there |= is;
        missing |= !is;
      }
      const Answer said = answer(given.x[r]);
      there |= says && said.here;
      missing |= says && !said.here;
      bad |= said.wrong || (there && missing);
      add(events, static_cast<std::int32_t>(said.right), static_cast<std::int32_t>(!missing));
    }
  }
  PYI_UNROLL
  for (int k = 0; k < kQuantities; ++k) {
    const Quantity& q = of[k];
    if (q.series.kind == Series::kMissing) continue;
    const Moments<double>& moments = kept[k].moments;
    bad |= !within(kept[k].range, q.bounds);
    settle(q, events.count, moments.first, moments.sum, moments.squares, i);
    if (q.last != nullptr) q.last[i] = kept[k].last;
    if (q.short_last != nullptr) q.short_last[i] = static_cast<float>(kept[k].last);
  }
  if (bad) *wrong = 1;
  c.count[i] = events.count;
  if (c.correct != nullptr) {
    c.correct[i] = events.correct;
    c.forgotten[i] = events.forgotten;
    c.first_learned[i] = events.learned != 0 ? events.unlearned : 0;
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
  return launch(kernel, blocks_for(h.samples), stream, c, quantities_of(c, h, most_el2n), h.correct, h.epochs,
                h.samples, wrong);
}

}  // namespace pyi::cuda
