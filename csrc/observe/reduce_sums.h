// Sums over a block of samples (reduce_kernel.h).
//
// A lane is a sample. Several epochs are added to a vector of sums before it goes back to the cache. They are
// first looked over for what is missing, so that the sums of complete ones need no masks, and later ones are
// asked for meanwhile: a block's part of an epoch is shorter than what a processor takes notice of.
namespace pyi {
namespace PYI_ISA {
namespace {

constexpr int kLanes = PYI_VECTOR_BYTES / 8;  // doubles in a vector
constexpr int kRows = 4;                      // epochs added at a time
constexpr int kAhead = 8;                     // epochs that memory is asked for ahead
typedef double Doubles __attribute__((vector_size(kLanes * 8)));
typedef std::int64_t Words __attribute__((vector_size(kLanes * 8)));
typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::int8_t Bytes __attribute__((vector_size(kLanes)));

template <class V>
PYI_HD V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
PYI_HD void store(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// Lanes of T in memory as doubles.
template <class T>
struct Lanes;
template <>
struct Lanes<double> {
  PYI_HD Doubles load(const char* from) { return PYI_ISA::load<Doubles>(from); }
};
template <>
struct Lanes<float> {
  PYI_HD Doubles load(const char* from) {
    const Floats x = PYI_ISA::load<Floats>(from);
#ifdef PYI_WIDEN
    return PYI_WIDEN(x);
#else
    return __builtin_convertvector(x, Doubles);
#endif
  }
};

// A whole vector of T.
template <class T>
struct Wide;
template <>
struct Wide<double> {
  typedef Doubles type;
};
template <>
struct Wide<float> {
  typedef float type __attribute__((vector_size(PYI_VECTOR_BYTES)));
};

// Whether n numbers of an epoch are all there (and finite).
template <class T, class V>
PYI_HD bool look_over(const char* from, std::int64_t n, Range<V>& range) {
  constexpr std::int64_t kItem = sizeof(T), kWide = PYI_VECTOR_BYTES / kItem;
  V any = V{};  // not 0 after a NaN or an infinity
  const auto look = [&](V x) __attribute__((always_inline)) {
    meet(range, x);
    any += x * 0;
  };
  std::int64_t i = 0;
  for (; i + kWide <= n; i += kWide) look(load<V>(from + i * kItem));
  for (; i < n; ++i) look(V{} + load<T>(from + i * kItem));
  bool all = true;
  for (int lane = 0; lane < kWide; ++lane) all &= any[lane] == 0;
  return all;
}

// What the sums of a block are made of: some epochs of one array, from `from` on.
struct Rows {
  const char* from;
  const char* next;  // those that memory is to be asked for
  std::ptrdiff_t stride;
  std::uint8_t* seen;
};

// Adds R epochs of the lanes from sample i of the block, at `from`.
template <class T, bool kSpread, bool kMasked, Seen kSeen, int R>
PYI_HD void add_lanes(const Rows& rows, const char* from, std::int64_t i, BlockSums& to, Words& differ) {
  Moments<Doubles> moments{load<Doubles>(to.first + i), load<Doubles>(to.sum + i),
                           load<Doubles>(to.squares + i), load<Words>(to.count + i)};
  for (int r = 0; r < R; ++r) {
    __builtin_prefetch(rows.next + r * rows.stride + i * static_cast<std::ptrdiff_t>(sizeof(T)), 0, 2);
    const Words is = add<kSpread, kMasked>(moments, Lanes<T>::load(from + r * rows.stride));
    if (kSeen == Seen::kIgnored) continue;
    std::uint8_t* mark = rows.seen + r * kReduceBlock + i;
    if (kSeen == Seen::kWritten) store(mark, -__builtin_convertvector(is, Bytes));
    if (kSeen == Seen::kChecked) differ |= is + __builtin_convertvector(load<Bytes>(mark), Words);
  }
  store(to.sum + i, moments.sum);
  if (kSpread) store(to.squares + i, moments.squares);
  if (kMasked) {
    store(to.first + i, moments.first);
    store(to.count + i, moments.count);
  }
}

template <class T, bool kSpread, bool kMasked, Seen kSeen, int R>
void add_rows(const Rows& rows, std::int64_t n, BlockSums& to, bool& agrees) {
  constexpr std::ptrdiff_t kItem = sizeof(T);
  // The cache line that the last of them end in, which is no vector's first where rows do not start at a
  // line.
  for (int r = 0; r < R; ++r) __builtin_prefetch(rows.next + r * rows.stride + n * kItem - 1, 0, 2);
  Words differ{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    add_lanes<T, kSpread, kMasked, kSeen, R>(rows, rows.from + i * kItem, i, to, differ);
  }
  if (i < n) {
    T rest[R][kLanes];  // the last few samples, and lanes that were never observed
    for (int r = 0; r < R; ++r) {
      for (T& x : rest[r]) x = static_cast<T>(__builtin_nan(""));
      __builtin_memcpy(rest[r], rows.from + r * rows.stride + i * kItem, (n - i) * kItem);
    }
    const Rows some{nullptr, rows.next, sizeof rest[0], rows.seen};
    add_lanes<T, kSpread, kMasked, kSeen, R>(some, reinterpret_cast<const char*>(rest), i, to, differ);
  }
  for (int lane = 0; lane < kLanes; ++lane) agrees &= differ[lane] == 0;
}

// Adds R epochs; returns how many of them are to be added to the counts of all samples.
template <class T, bool kSpread, int R>
int add_some(const Rows& rows, std::int64_t n, Seen how, BlockSums& to, Range<typename Wide<T>::type>& range,
             bool& started) {
  bool all = true;
  for (int r = 0; r < R; ++r) all &= look_over<T>(rows.from + r * rows.stride, n, range);
  if (!(all && started)) {
    const auto masked = how == Seen::kIgnored   ? add_rows<T, kSpread, true, Seen::kIgnored, R>
                        : how == Seen::kWritten ? add_rows<T, kSpread, true, Seen::kWritten, R>
                                                : add_rows<T, kSpread, true, Seen::kChecked, R>;
    masked(rows, n, to, to.agrees);
    started |= all;
    return 0;
  }
  add_rows<T, kSpread, false, Seen::kIgnored, R>(rows, n, to, to.agrees);
  for (int r = 0; r < R && how != Seen::kIgnored; ++r) {
    std::uint8_t* mark = rows.seen + r * kReduceBlock;
    std::uint8_t missing = 0;
    for (std::int64_t i = 0; i < n && how == Seen::kChecked; ++i) missing |= mark[i] ^ 1;
    if (how == Seen::kWritten) __builtin_memset(mark, 1, n);
    to.agrees &= missing == 0;
  }
  return R;
}

template <class T, bool kSpread>
void sum_up(const Series& series, std::int64_t epochs, std::int64_t begin, std::int64_t n, Seen how,
            std::uint8_t* seen, BlockSums& to) {
  auto range = no_range<typename Wide<T>::type>();
  const char* top = series.data + begin * static_cast<std::ptrdiff_t>(sizeof(T));
  bool started = false;  // all samples have been observed
  std::int64_t whole = 0;
  for (std::int64_t e = 0; e < epochs;) {
    const bool several = e + kRows <= epochs;
    const char* from = top + e * series.stride;
    const char* next = from + kAhead * series.stride;
    const Rows rows{from, next, series.stride, how == Seen::kIgnored ? nullptr : seen + e * kReduceBlock};
    const auto step = several ? add_some<T, kSpread, kRows> : add_some<T, kSpread, 1>;
    whole += step(rows, n, how, to, range, started);
    e += several ? kRows : 1;
  }
  for (std::int64_t i = 0; i < n; ++i) to.count[i] += whole;
  for (T low : reinterpret_cast<const T(&)[PYI_VECTOR_BYTES / sizeof(T)]>(range.low)) {
    if (low < to.range.low) to.range.low = low;
  }
  for (T high : reinterpret_cast<const T(&)[PYI_VECTOR_BYTES / sizeof(T)]>(range.high)) {
    if (high > to.range.high) to.range.high = high;
  }
}

void sums(const Series& series, std::int64_t epochs, std::int64_t begin, std::int64_t n, bool spread,
          Seen how, std::uint8_t* seen, BlockSums* to) {
  for (std::int64_t i = 0; i < kReduceBlock; ++i) {
    to->first[i] = __builtin_nan("");
    to->sum[i] = to->squares[i] = 0;
    to->count[i] = 0;
  }
  to->range = no_range<double>();
  to->agrees = true;
  const auto run = series.kind == Series::kFloat ? (spread ? sum_up<float, true> : sum_up<float, false>)
                                                 : (spread ? sum_up<double, true> : sum_up<double, false>);
  run(series, epochs, begin, n, how, seen, *to);
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
