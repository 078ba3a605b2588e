#include "observe/rows.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "errors.h"
#include "parallel.h"

namespace pyi {
namespace {

struct InstructionSet {
  const char* name;
  RowsFunction rows;
  bool (*present)();
};

const InstructionSet kInstructionSets[] = {
    {"baseline", baseline::rows, [] { return true; }},
#if defined(__x86_64__)
    {"avx2", avx2::rows,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("f16c");
     }},
    {"avx512", avx512::rows,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
     }},
#endif
};

const InstructionSet* find(const std::string& name) {
  for (const InstructionSet& set : kInstructionSets) {
    if (set.name == name && set.present()) return &set;
  }
  std::string known;
  for (const std::string& other : instruction_sets()) known += (known.empty() ? "" : ", ") + other;
  throw ArgumentError("instruction set '" + name + "': this processor has " + known);
}

std::atomic<const InstructionSet*>& chosen() {
  static std::atomic<const InstructionSet*> set = [] {
    const char* name = std::getenv("PYIMPORTANCE_ISA");
    return find(name != nullptr ? name : instruction_sets().back());
  }();
  return set;
}

// In logits, of which the row itself costs some besides its own.
std::int64_t cost_of_row(const Inputs& inputs) {
  return 48 + inputs.logits.width + (inputs.features != nullptr ? inputs.features->width : 0);
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : kInstructionSets) {
    if (set.present()) names.emplace_back(set.name);
  }
  return names;
}

std::string instruction_set() { return chosen().load()->name; }

void use_instruction_set(const std::string& name) { chosen() = find(name); }

RowsFunction rows_function() { return chosen().load()->rows; }

int threads_for_rows(const Inputs& inputs, std::int64_t n, int threads) {
  constexpr std::int64_t kGrain = 1 << 18;  // what a thread is worth waking for, a tenth of a millisecond
  return useful_threads(threads, n * cost_of_row(inputs), kGrain);
}

std::int64_t least_rows(const Inputs& inputs) {
  constexpr std::int64_t kDeal = 1 << 16, kTogether = 16;  // lanes of the widest vectors
  const std::int64_t rows = kDeal / cost_of_row(inputs);
  return rows < kTogether ? std::max<std::int64_t>(rows, 1) : rows / kTogether * kTogether;
}

}  // namespace pyi
