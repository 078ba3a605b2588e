// A row is shared by a team: lanes of a warp, or a block, with a few classes a lane in registers, or a block
// that reads the row again for each of its passes. Neighbours read neighbours, of the logits and of the sums
// of probabilities, which are most of what there is to read and write.
#include <climits>

#include "launch.h"
#include "observe/ensemble_arithmetic.h"
#include "observe/ensemble_cuda.h"
#include "observe/entry_cuda.h"
#include "observe/narrow.h"
#include "observe/team_cuda.h"

namespace pyi::cuda {
namespace {

constexpr int kSome = 4, kMore = 8;  // classes a lane

struct Lanes {
  int count;  // a power of two up to a warp
  __device__ int rank() const { return threadIdx.x % count; }
  template <class V, class Join>
  __device__ V all(V x, const Join& join) const {
    return team_all(x, count, join);
  }
};

struct Block {
  static constexpr int count = kThreads;
  __device__ int rank() const { return threadIdx.x; }
  template <class V, class Join>
  __device__ V all(V x, const Join& join) const {
    return block_all(x, join);
  }
};

// A lane's classes of a row of T, where they lie and in groups of kEach; if kKeeps, there is but one group,
// it is read once, and what is made of it stays.
template <class T, int kEach, bool kKeeps, class Team>
class Part {
 public:
  __device__ Part(const T* z, int classes, const Team& team) : z_(z), classes_(classes), team_(team) {
    if (kKeeps) read(team.rank(), own_);
  }

  // f(k, x) of all of them; f may change x.
  template <class F>
  __device__ void each(const F& f) {
    groups([&](int first, double (&x)[kEach]) {
      PYI_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const int k = first + i * team_.count;
        if (k < classes_) f(k, x[i]);
      }
    });
  }

  // to[k] += f(k, x), with what is there on its way for the whole group.
  template <class F>
  __device__ void add_to(double* to, const F& f) {
    groups([&](int first, double (&x)[kEach]) {
      double before[kEach];
      PYI_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const int k = first + i * team_.count;
        before[i] = k < classes_ ? to[k] : 0;
      }
      PYI_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const int k = first + i * team_.count;
        if (k < classes_) to[k] = before[i] + f(k, x[i]);
      }
    });
  }

 private:
  template <class F>
  __device__ void groups(const F& f) {
    if constexpr (kKeeps) {
      f(team_.rank(), own_);
    } else {
      for (std::int64_t first = team_.rank(); first < classes_; first += kEach * team_.count) {
        double x[kEach];
        read(static_cast<int>(first), x);
        f(static_cast<int>(first), x);
      }
    }
  }
  __device__ void read(int first, double (&to)[kEach]) const {
    PYI_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int k = first + i * team_.count;
      to[i] = k < classes_ ? static_cast<double>(widen(z_[k])) : 0;
    }
  }

  const T* z_;
  int classes_;
  Team team_;
  double own_[kEach];
};

struct Peak {
  double top;
  int place;
};

// The largest, and its first place; INT_MAX if all are -inf or NaN. also(x) is done with all of them.
template <class Row, class Team, class F>
__device__ Peak peak_of(Row& row, const Team& team, const F& also) {
  Peak mine{-INFINITY, INT_MAX};
  row.each([&](int k, double x) {
    if (x > mine.top) mine = {x, k};
    also(x);
  });
  const double top = team.all(mine.top, Most{});
  return {top, team.all(mine.top == top ? mine.place : INT_MAX, Least{})};
}

struct Totals {
  double sum, ed;
};

// ratio(x) is e and d of a class; a row that keeps what is made of it then holds e.
template <class Row, class Team, class F>
__device__ Totals totals_of(Row& row, const Team& team, int place, const F& ratio) {
  Totals mine{0, 0};
  row.each([&](int k, double& x) {
    const Ratio<double> r = ratio(x);
    x = r.e;
    if (k == place) return;
    mine.sum += r.e;
    mine.ed -= r.e * r.d;
  });
  return {team.all(mine.sum, Plus{}), team.all(mine.ed, Plus{})};
}

// What is done with row i. Teams of a warp go through it together, so that none may leave before the last
// exchange; `live` is false of a row that is not there, or not to be looked at.
template <class T>
struct Add {
  using Number = T;
  EnsembleState state;
  Predictions from;
  Claim* claims;
  Problems* problems;

  __device__ std::int64_t rows() const { return from.rows; }
  __device__ int classes() const { return static_cast<int>(from.classes); }
  __device__ const T* row(std::int64_t i) const {
    return static_cast<const T*>(from.data) + i * from.row_stride;
  }

  __device__ bool admits(std::int64_t i, bool leads) const {
    Kind problem = kNone;
    if (from.ids != nullptr && outside(from.ids[i], state.samples)) {
      problem = kBadId;
    } else if (from.targets != nullptr && outside(from.targets[i], from.classes)) {
      problem = kBadTarget;
    } else if (from.ids != nullptr && claims[from.ids[i]] != static_cast<Claim>(i) + 1) {
      problem = kRepeated;
    }
    if (problem != kNone && leads) report(problems, problem, i);
    return problem == kNone;
  }

  template <bool kKept, class Row, class Team>
  __device__ void use(Row& row, const Team& team, std::int64_t i, bool live) const {
    const bool probabilities = from.probabilities;
    int wrong = 0;
    double total = 0;
    const Peak peak = peak_of(row, team, [&](double x) {
      wrong |= is_prediction(x, probabilities) ? 0 : 1;
      total += x;
    });
    bool good = team.all(wrong, Most{}) == 0 && peak.place != INT_MAX;
    if (probabilities) good &= is_one(team.all(total, Plus{}));
    const auto ratio = [&](double x) {
      return probabilities ? ratio_of_probabilities(x, peak.top)
                           : ratio_of_logits(x, peak.top, from.sharpness);
    };
    const Totals totals = totals_of(row, team, peak.place, ratio);
    if (!live) return;

    const std::int64_t id = from.ids == nullptr ? i : from.ids[i];
    const bool leads = team.rank() == 0;
    if (good) {
      const double p = 1.0 / (1.0 + totals.sum);  // of the most probable class
      row.add_to(state.p_sum + id * from.classes,
                 [&](int, double x) { return (kKept ? x : ratio(x).e) * p; });
    }
    if (!leads) return;
    if (from.ids != nullptr) claims[id] = good ? kTaken : kFree;
    if (!good) {
      report(problems, kBadNumber, i);
      return;
    }
    ++state.votes[id * from.classes + peak.place];
    state.entropy_sum[id] += entropy_of(totals.sum, totals.ed);
    ++state.count[id];
    if (from.targets != nullptr) state.wrong[id] += from.targets[i] != peak.place;
  }
};

struct Summarize {
  using Number = double;
  EnsembleState state;
  double* entropy;
  std::int32_t* most_votes;

  __device__ std::int64_t rows() const { return state.samples; }
  __device__ int classes() const { return static_cast<int>(state.classes); }
  __device__ const double* row(std::int64_t i) const { return state.p_sum + i * state.classes; }
  __device__ bool admits(std::int64_t, bool) const { return true; }

  template <bool kKept, class Row, class Team>
  __device__ void use(Row& row, const Team& team, std::int64_t i, bool live) const {
    const Peak peak = peak_of(row, team, [](double) {});
    const Totals totals =
        totals_of(row, team, peak.place, [&](double x) { return ratio_of_probabilities(x, peak.top); });
    int most = 0;
    const std::uint16_t* votes = state.votes + (live ? i : 0) * state.classes;
    for (std::int64_t k = team.rank(); k < state.classes; k += team.count) most = Most{}(most, int{votes[k]});
    most = team.all(most, Most{});
    if (!live || team.rank() != 0) return;
    most_votes[i] = most;
    entropy[i] = state.count[i] > 0 ? entropy_of(totals.sum, totals.ed) : static_cast<double>(NAN);
  }
};

template <class Use, int kEach>
__global__ void __launch_bounds__(kThreads) few_classes(Use use, int team) {
  const Lanes lanes{team};
  const std::int64_t i = (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) / team;
  const bool live = i < use.rows() && use.admits(i, lanes.rank() == 0);
  Part<typename Use::Number, kEach, true, Lanes> row(use.row(live ? i : 0), live ? use.classes() : 0, lanes);
  use.template use<true>(row, lanes, i, live);
}

template <class Use, bool kKeeps>
__global__ void __launch_bounds__(kThreads) many_classes(Use use) {
  const std::int64_t i = blockIdx.x;
  if (!use.admits(i, threadIdx.x == 0)) return;  // all of the block
  Part<typename Use::Number, kMore, kKeeps, Block> row(use.row(i), use.classes(), Block{});
  use.template use<kKeeps>(row, Block{}, i, true);
}

template <class Use>
cudaError_t for_rows(const Use& use, std::int64_t rows, std::int64_t classes, cudaStream_t stream) {
  if (classes > kMore * kThreads) return launch(many_classes<Use, false>, rows, stream, use);
  if (classes > kMore * kWarp) return launch(many_classes<Use, true>, rows, stream, use);
  int team = 1;
  while (team < kWarp && team * kSome < classes) team *= 2;
  const std::int64_t blocks = (rows * team + kThreads - 1) / kThreads;
  const auto kernel = team * kSome < classes ? few_classes<Use, kMore> : few_classes<Use, kSome>;
  return launch(kernel, blocks, stream, use, team);
}

__global__ void __launch_bounds__(kThreads) claim(Predictions from, std::int64_t samples, Claim* claims) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i >= from.rows || outside(from.ids[i], samples)) return;
  if (from.targets != nullptr && outside(from.targets[i], from.classes)) return;
  atomicMin(&claims[from.ids[i]], static_cast<Claim>(i) + 1);
}

// The batch's first problem becomes the first of all, unless there was one before.
__global__ void __launch_bounds__(kThreads) make_known(Predictions from, Problems* problems) {
  const unsigned long long pending = problems->pending;
  if (threadIdx.x != 0 || pending == ~0ull || problems->kind != kNone) return;
  problems->kind = static_cast<std::int64_t>(pending % kKinds);
  problems->position = static_cast<std::int64_t>(pending / kKinds);
  problems->id = from.ids == nullptr ? problems->position : from.ids[problems->position];
  if (problems->kind == kBadTarget) problems->value = from.targets[problems->position];
}

template <class T>
cudaError_t add_of(const EnsembleState& state, const Predictions& from, Claim* claims, Problems* problems,
                   cudaStream_t stream) {
  return for_rows(Add<T>{state, from, claims, problems}, from.rows, from.classes, stream);
}

}  // namespace

cudaError_t add_predictions(const EnsembleState& state, const Predictions& from, Claim* claims,
                            Problems* problems, cudaStream_t stream) {
  if (from.rows == 0) return cudaSuccess;
  cudaError_t status = cudaSuccess;
  if (from.ids != nullptr) {
    status = launch(claim, blocks_for(from.rows), stream, from, state.samples, claims);
  }
  if (status != cudaSuccess) return status;
  switch (from.element) {
    case Element::kFloat:
      status = add_of<float>(state, from, claims, problems, stream);
      break;
    case Element::kDouble:
      status = add_of<double>(state, from, claims, problems, stream);
      break;
    case Element::kHalf:
      status = add_of<Half>(state, from, claims, problems, stream);
      break;
    case Element::kBfloat:
      status = add_of<BFloat16>(state, from, claims, problems, stream);
      break;
  }
  if (status != cudaSuccess) return status;
  return launch(make_known, 1, stream, from, problems);
}

cudaError_t summarize(const EnsembleState& state, double* entropy, std::int32_t* most_votes,
                      cudaStream_t stream) {
  return for_rows(Summarize{state, entropy, most_votes}, state.samples, state.classes, stream);
}

}  // namespace pyi::cuda
