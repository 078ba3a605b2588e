// What one observation of one sample leaves behind: the unit that is scattered, exchanged between ranks,
// folded into running state and kept as history.
#pragma once

#include <cstdint>

namespace pyi {

enum Code : std::int32_t {
  kUnseen = 0,     // zeroed memory is a row of a sample not yet seen
  kWrong = 1,      // another class had the largest logit, or an equal one before the target's
  kCorrect = 2,    // the target has the (first) largest logit
  kLossOnly = 3,   // only the loss is known; the other numbers are NaN
  kNonFinite = 4,  // NaN or +inf among the logits, an infinite loss or gradient; never stored
};

// 32 bytes, half a cache line: the scatter touches one line per sample. Loss and margin are differences that
// later get subtracted from each other again (variances, sums of either sign), so they keep double precision;
// p_y and 1 - p_y follow from the loss.
struct Row {
  double loss;    // -log p_y, nats
  double margin;  // z_y - max of the other logits; +inf with one class
  float el2n;     // ||p - onehot(y)||_2
  float entropy;  // -sum p log p, nats
  std::int32_t code;
  float grand;  // norm of the loss's gradient with respect to the last layer; NaN without features
};
static_assert(sizeof(Row) == 32);

}  // namespace pyi
