// Counts of events over a block of samples (reduce_kernel.h), in bytes: a vector holds many more of them than
// of the columns they end up in.
namespace pyi {
namespace PYI_ISA {
namespace {

// Events are counted in bytes, 255 epochs at a time.
typedef std::uint8_t Marks __attribute__((vector_size(PYI_VECTOR_BYTES)));
constexpr int kMarks = PYI_VECTOR_BYTES;

using BlockBytes = std::uint8_t[kReduceBlock];
struct alignas(64) BlockEvents : Events<BlockBytes> {};

// One epoch of a block as bytes: which were right and, where that is known, which were observed.
struct EventRow {
  const std::uint8_t *right, *here;
};

// Adds R epochs of the samples from i of the block. Sets bits of `wrong` that are none of 0 and 1.
template <int R>
PYI_HD void count_events(const EventRow* rows, std::int64_t i, BlockEvents& to, Marks& wrong) {
  Events<Marks> events{load<Marks>(to.count + i),     load<Marks>(to.correct + i),
                       load<Marks>(to.forgotten + i), load<Marks>(to.unlearned + i),
                       load<Marks>(to.learned + i),   load<Marks>(to.last + i)};
  for (int r = 0; r < R; ++r) {
    const Marks right = load<Marks>(rows[r].right + i);
    wrong |= right & 0xfe;
    add(events, right, load<Marks>(rows[r].here + i));
  }
  store(to.count + i, events.count);
  store(to.correct + i, events.correct);
  store(to.forgotten + i, events.forgotten);
  store(to.unlearned + i, events.unlearned);
  store(to.learned + i, events.learned);
  store(to.last + i, events.last);
}

void count_rows(const EventRow* rows, int several, std::int64_t n, BlockEvents& to, std::uint8_t& wrong) {
  Marks bits{};
  for (std::int64_t i = 0; i < n; i += kMarks) {
    if (several == kRows) {
      count_events<kRows>(rows, i, to, bits);
    } else {
      for (int r = 0; r < several; ++r) count_events<1>(rows + r, i, to, bits);
    }
  }
  for (int lane = 0; lane < kMarks; ++lane) wrong |= bits[lane];
}

// A block's part of an epoch as bytes: `right` and, unless it is known, `here`. The result is not 0 where a
// number is neither 0 nor 1 nor unobserved, or where it differs from what is known.
template <class T>
std::uint8_t as_bytes(const char* from, std::int64_t n, Seen how, std::uint8_t* here, std::uint8_t* right) {
  std::uint8_t wrong = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const Answer said = answer(load<T>(from + i * static_cast<std::int64_t>(sizeof(T))));
    right[i] = said.right;
    wrong |= said.wrong;
    if (how == Seen::kChecked) {
      wrong |= said.here ^ here[i];
    } else {
      here[i] = said.here;
    }
  }
  return wrong;
}

void flush(BlockEvents& block, std::int64_t n, const EventColumns& to) {
  for (std::int64_t i = 0; i < n; ++i) {
    to.count[i] += block.count[i];
    to.correct[i] += block.correct[i];
    to.forgotten[i] += block.forgotten[i];
    to.first_learned[i] += block.unlearned[i];
    block.count[i] = block.correct[i] = block.forgotten[i] = block.unlearned[i] = 0;
  }
}

bool events(const Series& series, std::int64_t epochs, std::int64_t begin, std::int64_t n, Seen how,
            std::uint8_t* seen, EventColumns to) {
  BlockEvents block{};
  alignas(64) std::uint8_t bytes[kRows][kReduceBlock] = {}, all[kRows][kReduceBlock] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    to.count[i] = to.correct[i] = to.forgotten[i] = to.first_learned[i] = 0;
    for (auto& row : all) row[i] = 1;
  }
  const std::int64_t item = series.kind == Series::kByte ? 1 : series.kind == Series::kFloat ? 4 : 8;
  std::uint8_t wrong = 0;
  int unflushed = 0;
  for (std::int64_t e = 0; e < epochs;) {
    EventRow rows[kRows];
    const int several = static_cast<int>(epochs - e < kRows ? epochs - e : kRows);
    for (int r = 0; r < several; ++r, ++e) {
      const char* from = series.data + e * series.stride + begin * item;
      std::uint8_t* here = seen != nullptr ? seen + e * kReduceBlock : all[r];
      const char* ahead = from + 2 * kAhead * series.stride;
      for (std::int64_t at = 0; at < n * item; at += 64) __builtin_prefetch(ahead + at, 0, 2);
      __builtin_prefetch(ahead + n * item - 1, 0, 2);  // rows need not start at a cache line
      rows[r] = {bytes[r], here};
      if (series.kind == Series::kFloat) {
        wrong |= as_bytes<float>(from, n, how, here, bytes[r]);
      } else if (series.kind == Series::kDouble) {
        wrong |= as_bytes<double>(from, n, how, here, bytes[r]);
      } else if (n < kReduceBlock) {  // vectors would reach beyond the last sample
        __builtin_memcpy(bytes[r], from, n);
      } else {
        rows[r].right = reinterpret_cast<const std::uint8_t*>(from);
      }
    }
    count_rows(rows, several, n, block, wrong);
    unflushed += several;
    if (unflushed + kRows > 255 || e == epochs) {
      flush(block, n, to);
      unflushed = 0;
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    if (block.learned[i] == 0) to.first_learned[i] = 0;
  }
  return wrong == 0;
}

}  // namespace
}  // namespace PYI_ISA
}  // namespace pyi
